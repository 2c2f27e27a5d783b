//! Bodies are kept as long as the stack is told to, and calls for ever.

use local::Options;
use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::{Conversation, KEY, Provider};
use crate::support::World;

/// Ahead of every clock that runs here, so that nothing is deleted but by the story.
const CAME: &str = "2037-03-01T12:00:00Z";

async fn world_that_keeps_bodies_for(days: &str) -> (World, Provider) {
    let provider = Provider::start().await;
    let options = Options {
        api_key: Some(KEY.to_owned()),
        ..Options::default()
    };
    let options = options.parameter("ElevenLabsApiUrl", provider.url());
    let world = World::with(options.parameter("BodyRetentionDays", days)).await;
    set_clock(&world, CAME);
    (world, provider)
}

fn set_clock(world: &World, instant: &str) {
    world.stack.clock().set(instant.parse().unwrap());
}

#[tokio::test]
async fn a_body_is_gone_when_its_time_is_over_and_the_call_stays() {
    let (world, provider) = world_that_keeps_bodies_for("2").await;
    let conversation = Conversation::new("conv_1", "agent_1", "2037-03-01T11:50:00Z");
    let body = conversation.delivery("2037-03-01T11:55:00Z");
    provider.put(conversation);
    assert_eq!(world.deliver_ok(body.clone()).await, "stored");
    assert_eq!(world.deliver_ok("not JSON").await, "unparsed");
    let log = world.deliveries().await;
    let paths: Vec<String> = (log.iter())
        .map(|entry| format!("/api/deliveries/{}", entry["id"].as_str().unwrap()))
        .collect();

    set_clock(&world, "2037-03-03T11:59:59Z");
    let call = world.call("conv_1").await;
    assert_eq!(call["transcript"][0]["message"], "Hello!");
    assert_eq!(world.get("/api/calls/conv_1/raw").await.body, body.as_bytes());
    for path in &paths {
        assert_eq!(world.get(path).await.expect(200)["body_kept"], true);
    }

    set_clock(&world, "2037-03-03T12:00:00Z");
    let after = world.call("conv_1").await;
    assert_eq!(after["transcript"], json!([]));
    for same in [
        "id",
        "customer_number",
        "attribution",
        "conversion",
        "duration_seconds",
    ] {
        assert_eq!(after[same], call[same], "{same}");
    }
    assert_eq!(world.get("/api/calls/conv_1/raw").await.error().0, 404);
    for path in &paths {
        assert_eq!(world.get(path).await.expect(200)["body_kept"], false);
        assert_eq!(world.get(&format!("{path}/raw")).await.error().0, 404);
        let replay = world
            .send(Method::POST, &format!("{path}/replay"), &json!({}))
            .await;
        assert_eq!(replay.error().0, 404);
    }

    // It is not fetched again for being gone.
    provider.asked();
    world.sync().await;
    let asked = provider.asked();
    assert!(
        asked.iter().all(|asked| !asked.path.contains("conv_1")),
        "{asked:?}"
    );
    assert_eq!(world.get("/api/calls/conv_1/raw").await.error().0, 404);
}

#[tokio::test]
async fn dynamodb_is_told_when_to_delete_which_items() {
    for (days, expires) in [("0", None), ("30", Some("2037-03-31T12:00:00Z"))] {
        let (world, _provider) = world_that_keeps_bodies_for(days).await;
        let conversation = Conversation::new("conv_1", "agent_1", "2037-03-01T11:50:00Z");
        let body = conversation.delivery("2037-03-01T11:55:00Z");
        world.deliver_ok(body).await;
        world.deliver_ok("not JSON").await;
        let expires = expires.map(|instant| instant.parse::<jiff::Timestamp>().unwrap().as_second());
        let expires = expires.map_or(Value::Null, |second| json!({ "N": second.to_string() }));
        let mut bodies = 0;
        for table in ["CallsTable", "DeliveriesTable"] {
            let items = world.ask_store("Scan", &json!({ "TableName": table })).await;
            for item in items["Items"].as_array().unwrap() {
                if item["zstd"].is_object() {
                    bodies += 1;
                    assert_eq!(item["expires_at"], expires, "{days} days");
                } else if item["part"].is_object() {
                    assert_eq!(item["expires_at"], Value::Null, "calls stay");
                }
            }
        }
        assert_eq!(bodies, 2);
    }
}
