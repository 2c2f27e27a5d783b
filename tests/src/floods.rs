//! A flood of bad requests is answered cheaply and costs no call.

use local::sender::SIGNATURE_HEADER;
use reqwest::Method;

use crate::support::{World, client_from, event, request};

const BAD: [(&str, &str); 2] = [
    ("content-type", "application/json"),
    (SIGNATURE_HEADER, "t=1795300084,v0=00"),
];

#[tokio::test]
async fn the_101st_refusal_in_a_minute_is_told_to_wait_and_a_genuine_delivery_is_not() {
    let world = World::new().await;
    world.stack.clock().set("2026-11-22T10:00:17Z".parse().unwrap());
    for number in 1..=300 {
        let answer = world.post(&BAD, "{}").await;
        let expected = match number {
            ..=100 => (401, "invalid_signature".to_owned()),
            _ => (429, "rate_limited".to_owned()),
        };
        assert_eq!(answer.error(), expected, "request {number}");
        if number > 100 {
            assert_eq!(answer.header("retry-after"), "43");
        }
    }
    let body = event("webhook/phone_inbound_twilio.json");
    assert_eq!(world.deliver_ok(body).await, "stored");

    let log = world.deliveries().await;
    let count = |reason: &str| log.iter().filter(|entry| entry["reason"] == reason).count();
    assert_eq!((count("invalid_signature"), count("rate_limited")), (100, 1));
    assert_eq!(log.len(), 102);

    // Another address is not to blame, and the next minute starts anew.
    let url = format!("{}{}", world.stack.url(), local::sender::WEBHOOK_PATH);
    let neighbour = client_from([127, 0, 0, 2].into());
    let answer = request(&neighbour, Method::POST, &url, &BAD, "{}").await;
    assert_eq!(answer.status, 401);
    world.stack.clock().set("2026-11-22T10:01:00Z".parse().unwrap());
    assert_eq!(world.post(&BAD, "{}").await.status, 401);
}

#[tokio::test]
async fn whoever_is_over_the_limit_causes_no_more_writes() {
    let world = World::with(local::Options::default().parameter("RefusalsPerMinute", "3")).await;
    world.stack.clock().set("2026-11-22T10:00:17Z".parse().unwrap());
    for _ in 0..4 {
        world.post(&BAD, "{}").await;
    }
    world.stack.dynamodb().record();
    for _ in 0..20 {
        assert_eq!(world.post(&BAD, "{}").await.status, 429);
        let answer = world.post(&[("content-type", "text/plain")], "{}").await;
        assert_eq!(answer.status, 415, "other refusals keep their status");
    }
    let recorded = world.stack.dynamodb().recorded();
    assert!(recorded.is_empty(), "{recorded:?}");
}
