//! Deliveries come again, late, and many at once: the call stays what it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use local::dynamodb::Fault;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::{World, event, phone_call};

const ID: &str = "conv_edaakjhb57yhmdwecgv6e0bfjemh";

/// The facts of a call, without when and how it came.
fn facts(call: &Value) -> Value {
    let mut call = call.clone();
    let fields = call.as_object_mut().unwrap();
    for field in ["received_at", "updated_at"] {
        fields.remove(field);
    }
    fields["attribution"].as_object_mut().unwrap().remove("at");
    call
}

#[tokio::test]
async fn the_same_delivery_twice_is_one_call() {
    let world = World::new().await;
    let body = event("webhook/phone_inbound_twilio.json");
    assert_eq!(world.deliver_ok(body.clone()).await, "stored");
    let first = world.call(ID).await;
    assert_eq!(world.deliver_ok(body).await, "duplicate");
    assert_eq!(world.call(ID).await, first, "a repeat changes nothing at all");
    assert_eq!(world.calls("").await.len(), 1);
    let results: Vec<Value> = world
        .deliveries()
        .await
        .iter()
        .map(|entry| entry["result"].clone())
        .collect();
    assert_eq!(results, ["duplicate", "stored"]);
}

#[tokio::test]
async fn fifty_at_once_are_one_call() {
    let world = Arc::new(World::new().await);
    let body = event("webhook/phone_inbound_twilio.json");
    let mut deliveries = JoinSet::new();
    for _ in 0..50 {
        let (world, body) = (Arc::clone(&world), body.clone());
        deliveries.spawn(async move { world.deliver_ok(body).await });
    }
    let results = deliveries.join_all().await;
    assert!(
        results
            .iter()
            .all(|result| result == "stored" || result == "duplicate"),
        "{results:?}"
    );
    assert!(results.iter().any(|result| result == "stored"));
    assert_eq!(world.calls("").await.len(), 1);
    let raw = world.get(&format!("/api/calls/{ID}/raw")).await;
    assert_eq!(raw.body, body);
    assert_eq!(world.deliveries().await.len(), 50, "the log has every attempt");
}

#[tokio::test]
async fn fifty_versions_at_once_end_with_the_newest() {
    let world = Arc::new(World::new().await);
    let mut deliveries = JoinSet::new();
    for second in 0..50 {
        let mut body = phone_call(
            "conv_1",
            "2026-11-20T10:00:00Z",
            &format!("2026-11-20T10:05:{second:02}Z"),
        );
        body["data"]["metadata"]["call_duration_secs"] = json!(second);
        let world = Arc::clone(&world);
        deliveries.spawn(async move { world.deliver_ok(body.to_string()).await });
    }
    let results = deliveries.join_all().await;
    assert!(
        !results.contains(&"duplicate".to_owned()),
        "each came once: {results:?}"
    );
    assert_eq!(
        results.iter().filter(|result| *result == "stored").count(),
        1,
        "{results:?}"
    );
    assert_eq!(world.call("conv_1").await["duration_seconds"], 49);
    assert_eq!(world.calls("").await.len(), 1);
}

#[tokio::test]
async fn a_slow_write_of_older_facts_does_not_undo_newer_ones() {
    let world = World::new().await;
    let version = |seconds: u32| {
        let mut body = phone_call(
            "conv_1",
            "2026-11-20T10:00:00Z",
            &format!("2026-11-20T10:05:0{seconds}Z"),
        );
        body["data"]["metadata"]["call_duration_secs"] = json!(seconds);
        body.to_string()
    };
    assert_eq!(world.deliver_ok(version(1)).await, "stored");
    // Version 2 has read the call and is about to write it when version 3 comes and goes.
    let about_to_write = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&about_to_write);
    world.stack.dynamodb().inject(move |request| {
        let older = request.operation == "PutItem" && request.body["Item"]["duration_seconds"]["N"] == "2";
        let first = older && !seen.swap(true, Ordering::SeqCst);
        first.then_some(Fault::Delayed(Duration::from_secs(1)))
    });
    let newer = async {
        while !about_to_write.load(Ordering::SeqCst) {
            tokio::task::yield_now().await;
        }
        world.deliver_ok(version(3)).await
    };
    let (older, newer) = tokio::join!(world.deliver_ok(version(2)), newer);
    assert_eq!((older.as_str(), newer.as_str()), ("ignored", "updated"));
    assert_eq!(world.call("conv_1").await["duration_seconds"], 3);
}

#[tokio::test]
async fn an_old_event_after_a_new_one_changes_nothing() {
    let world = World::new().await;
    let version = |event_at: &str, outcome: &str| {
        let mut body = phone_call("conv_1", "2026-11-20T10:00:00Z", event_at);
        body["data"]["analysis"]["call_successful"] = json!(outcome);
        body.to_string()
    };
    assert_eq!(
        world.deliver_ok(version("2026-11-20T10:05:00Z", "success")).await,
        "stored"
    );
    let new = world.call("conv_1").await;
    assert_eq!(
        world.deliver_ok(version("2026-11-20T10:02:00Z", "failure")).await,
        "ignored"
    );
    assert_eq!(world.call("conv_1").await, new);
    assert_eq!(
        world.deliver_ok(version("2026-11-20T10:02:00Z", "failure")).await,
        "duplicate"
    );
    assert_eq!(
        world.deliver_ok(version("2026-11-20T10:09:00Z", "unknown")).await,
        "updated"
    );
    let updated = world.call("conv_1").await;
    assert_eq!(updated["outcome"], "unknown");
    assert_eq!(
        updated["received_at"], new["received_at"],
        "the first arrival stays"
    );
    assert_ne!(updated["updated_at"], new["updated_at"]);
}

#[tokio::test]
async fn the_order_of_versions_does_not_matter_even_of_one_instant() {
    let bodies: Vec<String> = [
        "2026-11-20T10:05:00Z",
        "2026-11-20T10:05:00Z",
        "2026-11-20T10:04:00Z",
    ]
    .iter()
    .enumerate()
    .map(|(index, event_at)| {
        let mut body = phone_call("conv_1", "2026-11-20T10:00:00Z", event_at);
        body["data"]["metadata"]["call_duration_secs"] = json!(index);
        body.to_string()
    })
    .collect();
    let mut ends = Vec::new();
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
        let world = World::new().await;
        for index in order {
            world.deliver_ok(bodies[index].clone()).await;
        }
        ends.push(facts(&world.call("conv_1").await));
    }
    assert!(ends.iter().all(|end| *end == ends[0]), "{ends:#?}");
}

#[tokio::test]
async fn audio_before_or_after_changes_nothing() {
    let (transcript, audio) = (
        event("webhook/phone_inbound_twilio.json"),
        event("webhook/audio.json"),
    );
    let alone = World::new().await;
    alone.deliver_ok(transcript.clone()).await;
    let expected = facts(&alone.call(ID).await);
    for order in [[&audio, &transcript], [&transcript, &audio]] {
        let world = World::new().await;
        for body in order {
            world.deliver_ok(body.clone()).await;
        }
        assert_eq!(facts(&world.call(ID).await), expected);
        assert_eq!(world.calls("").await.len(), 1);
    }
}

#[tokio::test]
async fn four_hundred_calls_that_end_together_are_all_taken() {
    let world = Arc::new(World::new().await);
    let now: jiff::Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    world.stack.clock().set(now);
    let mut deliveries = JoinSet::new();
    for sender in 0..20 {
        let world = Arc::clone(&world);
        deliveries.spawn(async move {
            for call in 0..20 {
                let id = format!("conv_{sender}_{call}");
                let body = phone_call(&id, "2026-11-22T09:58:00Z", "2026-11-22T09:59:59Z");
                assert_eq!(world.deliver_ok(body.to_string()).await, "stored");
            }
        });
    }
    deliveries.join_all().await;
    let mut ids: Vec<Value> = world
        .calls("limit=100")
        .await
        .iter()
        .map(|call| call["id"].clone())
        .collect();
    ids.sort_by_key(ToString::to_string);
    ids.dedup();
    assert_eq!(ids.len(), 400);
}
