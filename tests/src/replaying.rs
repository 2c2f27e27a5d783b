//! A kept delivery is read again: what it would come to, and then what it does.

use local::dynamodb::Storage;
use local::{DEFAULT_WEBHOOK_SECRET, Options};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, event, phone_call};

async fn replay(world: &World, id: &Value, body: &Value) -> Value {
    let path = format!("/api/deliveries/{}/replay", id.as_str().unwrap());
    world.send(Method::POST, &path, body).await.expect(200)
}

#[tokio::test]
async fn a_genuine_delivery_from_an_address_that_was_refused_is_taken_in_by_hand() {
    let world =
        World::with(Options::default().parameter("ElevenLabsWebhookIpWhitelist", "203.0.113.7")).await;
    let body = event("webhook/phone_inbound_twilio.json");
    assert_eq!(world.deliver(body.clone()).await.status, 403);
    let kept = world.deliveries().await[0]["id"].clone();

    let foreseen = replay(&world, &kept, &json!({ "dry_run": true })).await;
    assert_eq!(foreseen["result"], "stored");
    assert_eq!(foreseen["before"], Value::Null);
    assert_eq!(foreseen["after"]["customer_number"], "+16125550187");
    assert_eq!(world.calls("").await, Vec::<Value>::new(), "a rehearsal");
    assert_eq!(world.deliveries().await.len(), 1);

    let done = replay(&world, &kept, &json!({ "dry_run": false })).await;
    assert_eq!(
        (&done["result"], &done["dry_run"]),
        (&json!("stored"), &json!(false))
    );
    let id = done["conversation_id"].as_str().unwrap();
    assert_eq!(done["after"]["id"], id);
    let raw = world.get(&format!("/api/calls/{id}/raw")).await;
    assert_eq!(raw.body, body, "every byte of it");
    let log = world.deliveries().await;
    assert_eq!(log.len(), 2);
    let entry = log.iter().find(|entry| entry["result"] == "stored").unwrap();
    assert_eq!(entry["reason"], format!("replay of {}", kept.as_str().unwrap()));

    let again = replay(&world, &kept, &json!({ "dry_run": false })).await;
    assert_eq!(again["result"], "duplicate");
    assert_eq!(again["before"], again["after"]);
}

#[tokio::test]
async fn what_can_not_be_understood_or_is_not_kept_says_so() {
    let world = World::new().await;
    world.deliver_ok("not JSON").await;
    let unparsed = world.deliveries().await[0]["id"].clone();
    for dry_run in [true, false] {
        let answer = replay(&world, &unparsed, &json!({ "dry_run": dry_run })).await;
        assert_eq!(
            (&answer["result"], &answer["reason"]),
            (&json!("unparsed"), &json!("not_json"))
        );
        assert_eq!(
            (&answer["before"], &answer["after"]),
            (&Value::Null, &Value::Null)
        );
    }
    world.post(&[("content-type", "application/json")], "{}").await;
    let log = world.deliveries().await;
    let refused = log.iter().find(|entry| entry["result"] == "refused").unwrap();
    let refused = refused["id"].as_str().unwrap();
    for id in [refused, "dlv_00000000000000000000000000000000", "x"] {
        let path = format!("/api/deliveries/{id}/replay");
        let answer = world.send(Method::POST, &path, &json!({})).await;
        assert_eq!(answer.error(), (404, "not_found".to_owned()), "{id}");
    }
}

#[tokio::test]
async fn facts_are_read_again_as_they_are_understood_today() {
    let folder = std::env::temp_dir().join(format!("ringmark-replay-{}", std::process::id()));
    let storage = Storage::File(folder.join("dynamodb.sqlite"));
    let options = |country: &str| Options {
        storage: storage.clone(),
        webhook_secrets: vec![DEFAULT_WEBHOOK_SECRET.to_owned()],
        ..Options::default().parameter("DefaultCountry", country)
    };
    let mut body = phone_call("conv_1", "2026-11-20T10:00:00Z", "2026-11-20T10:02:00Z");
    body["data"]["metadata"]["phone_call"]["agent_number"] = json!("(612) 867-5309");
    let world = World::with(options("")).await;
    world.deliver_ok(body.to_string()).await;
    let campaign = world.campaign("A").await;
    world
        .assign(
            &campaign,
            "+16128675309",
            &json!({ "from": "2020-01-01T00:00:00Z" }),
        )
        .await
        .expect(200);
    let path = "/api/calls/conv_1/conversion";
    world
        .send(Method::PUT, path, &json!({ "converted": false }))
        .await
        .expect(200);
    assert_eq!(world.call("conv_1").await["tracking_number"], "(612) 867-5309");
    drop(world);

    let world = World::with(options("US")).await;
    let id = world.deliveries().await[0]["id"].clone();
    let foreseen = replay(&world, &id, &json!({ "dry_run": true })).await;
    assert_eq!(foreseen["result"], "updated");
    assert_eq!(foreseen["before"]["tracking_number"], "(612) 867-5309");
    assert_eq!(foreseen["after"]["tracking_number"], "+16128675309");
    assert_eq!(foreseen["after"]["attribution"]["campaign_id"], json!(campaign));
    assert_eq!(
        replay(&world, &id, &json!({ "dry_run": false })).await["result"],
        "updated"
    );
    let call = world.call("conv_1").await;
    assert_eq!(call["tracking_number"], "+16128675309");
    assert_eq!(call["attribution"]["campaign_id"], json!(campaign));
    assert_eq!(
        call["conversion"]["source"], "manual",
        "what a person decided stays"
    );
    assert_eq!(
        replay(&world, &id, &json!({ "dry_run": false })).await["result"],
        "duplicate"
    );
    drop(world);
    std::fs::remove_dir_all(&folder).unwrap();
}
