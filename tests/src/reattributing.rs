//! When campaigns change, the rules are asked again: first as a rehearsal.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, deliver_many, phone_call};

/// Calls of the 1st, 10th, 20th and 30th of November.
async fn four_calls(world: &World) {
    for day in [1, 10, 20, 30] {
        let at = format!("2026-11-{day:02}T10:00:00Z");
        let body = phone_call(&format!("conv_{day}"), &at, &at);
        world.deliver_ok(body.to_string()).await;
    }
}

async fn reattribute(world: &World, body: &Value) -> Value {
    world
        .send(Method::POST, "/api/reattributions", body)
        .await
        .expect(200)
}

async fn campaign_of(world: &World, id: &str) -> Value {
    world.call(id).await["attribution"]["campaign_id"].clone()
}

#[tokio::test]
async fn calls_move_to_where_they_belong_by_now_and_back_again() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    four_calls(&world).await;
    // A person has decided about one of them, and about a conversion.
    let path = "/api/calls/conv_20/attribution";
    world
        .send(Method::PUT, path, &json!({ "campaign_id": b }))
        .await
        .expect(200);
    let path = "/api/calls/conv_10/conversion";
    world
        .send(Method::PUT, path, &json!({ "converted": false }))
        .await
        .expect(200);
    // The number was A's all the time, but nobody had said so.
    world
        .assign(&a, "+16125550142", &json!({ "from": "2026-11-01T00:00:00Z" }))
        .await
        .expect(200);

    let window = json!({ "from": "2026-11-01T10:00:00Z", "to": "2026-11-30T10:00:00Z", "dry_run": true });
    let preview = reattribute(&world, &window).await;
    let moved = json!([
        { "call_id": "conv_10", "from": null, "to": a, "status": "attributed", "converted": false },
        { "call_id": "conv_1", "from": null, "to": a, "status": "attributed", "converted": true },
    ]);
    assert_eq!(
        preview,
        json!({
            "reattribution_id": null, "examined": 3, "moved": moved, "manual_skipped": 1, "failed": [], "next_cursor": null,
        })
    );
    assert_eq!(campaign_of(&world, "conv_1").await, Value::Null, "a rehearsal");

    let mut apply = window.clone();
    apply["dry_run"] = json!(false);
    let applied = reattribute(&world, &apply).await;
    assert_eq!(applied["moved"], moved);
    let id = applied["reattribution_id"].as_str().unwrap();
    for (call, campaign) in [
        ("conv_1", json!(a)),
        ("conv_10", json!(a)),
        ("conv_20", json!(b)),
        ("conv_30", Value::Null),
    ] {
        assert_eq!(campaign_of(&world, call).await, campaign, "{call}");
    }
    let call = world.call("conv_1").await;
    assert_eq!(call["attribution"]["method"], "tracking_number");
    assert_eq!(call["attribution"]["by"], "automatic");
    assert_eq!(call["history"][0]["reason"], "reattribution");
    assert_eq!(call["history"][0]["by"], "local-script");
    assert_eq!(world.calls(&format!("campaign_id={a}")).await.len(), 2);
    // Again, nothing moves.
    assert_eq!(reattribute(&world, &apply).await["moved"], json!([]));

    // One of them is decided about since, one told again by the provider.
    let path = "/api/calls/conv_10/attribution";
    world
        .send(Method::PUT, path, &json!({ "campaign_id": b }))
        .await
        .expect(200);
    let undone = world
        .send(Method::POST, &format!("/api/assignments/{id}/undo"), &json!({}))
        .await
        .expect(200);
    assert_eq!(
        undone["counts"],
        json!({ "assigned": 1, "unchanged": 0, "not_found": 0, "changed_since": 1, "failed": 0 })
    );
    assert_eq!(campaign_of(&world, "conv_1").await, Value::Null);
    assert_eq!(campaign_of(&world, "conv_10").await, json!(b));
}

#[tokio::test]
async fn a_delivery_since_keeps_a_call_where_it_is() {
    let world = World::new().await;
    let a = world.campaign("A").await;
    four_calls(&world).await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &ever).await.expect(200);
    let window = json!({ "from": "2026-01-01T00:00:00Z", "to": "2027-01-01T00:00:00Z", "dry_run": false });
    let applied = reattribute(&world, &window).await;
    assert_eq!(applied["moved"].as_array().unwrap().len(), 4);
    let newer = phone_call("conv_1", "2026-11-01T10:00:00Z", "2026-11-25T00:00:00Z");
    world.deliver_ok(newer.to_string()).await;
    let id = applied["reattribution_id"].as_str().unwrap();
    let path = format!("/api/assignments/{id}/undo");
    let undone = world.send(Method::POST, &path, &json!({})).await.expect(200);
    assert_eq!(undone["counts"]["changed_since"], 1);
    assert_eq!(campaign_of(&world, "conv_1").await, json!(a));
    assert_eq!(campaign_of(&world, "conv_30").await, Value::Null);
}

#[tokio::test]
async fn a_window_of_many_calls_goes_on_by_its_cursor_under_one_id() {
    let world = World::new().await;
    let a = world.campaign("A").await;
    deliver_many(&world, 510).await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &ever).await.expect(200);
    let mut window =
        json!({ "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "dry_run": false });
    let first = reattribute(&world, &window).await;
    assert_eq!(first["examined"], 500);
    window["cursor"] = first["next_cursor"].clone();
    let second = reattribute(&world, &window).await;
    assert_eq!(
        (&second["examined"], &second["next_cursor"]),
        (&json!(10), &Value::Null)
    );
    assert_eq!(first["reattribution_id"], second["reattribution_id"]);
    window["to"] = json!("2026-12-02T00:00:00Z");
    let other = world.send(Method::POST, "/api/reattributions", &window).await;
    assert_eq!(other.error(), (400, "invalid_cursor".to_owned()));
}

#[tokio::test]
async fn a_delivery_during_a_reattribution_is_judged_whole() {
    let world = World::new().await;
    let a = world.campaign("A").await;
    deliver_many(&world, 40).await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &ever).await.expect(200);
    let window = json!({ "from": "2026-11-01T00:00:00Z", "to": "2026-12-01T00:00:00Z", "dry_run": false });
    // Newer facts move every other call to a number that nobody has.
    let newer = (0..40).map(|index| {
        let id = format!("conv_{index:04}");
        let mut body = phone_call(&id, "2026-11-02T00:00:00Z", "2026-11-25T00:00:00Z");
        if index % 2 == 1 {
            body["data"]["metadata"]["phone_call"]["agent_number"] = json!("+16125550199");
        }
        world.deliver_ok(body.to_string())
    });
    let (answer, delivered) = tokio::join!(
        reattribute(&world, &window),
        futures_util::future::join_all(newer)
    );
    assert_eq!(answer["failed"], json!([]));
    assert!(
        delivered.iter().all(|result| result == "updated"),
        "{delivered:?}"
    );
    for index in 0..40 {
        let call = world.call(&format!("conv_{index:04}")).await;
        let campaign = if index % 2 == 1 { Value::Null } else { json!(a) };
        assert_eq!(call["attribution"]["campaign_id"], campaign, "{call}");
        assert_eq!(call["started_at"], "2026-11-02T00:00:00Z");
    }
}
