//! Nothing that is personal or secret gets into a log, whatever happens.

use local::dynamodb::Fault;
use local::sender::SIGNATURE_HEADER;
use local::{DEFAULT_WEBHOOK_SECRET, Options};
use serde_json::json;

use crate::support::{World, event};

/// Numbers, transcript, summary, variables and tool headers of the bodies used,
/// the secret, and the number that a person assigned.
const UNSPEAKABLE: [&str; 10] = [
    "6125550187",
    "6125550142",
    "6125550164",
    "My name is Stefan",
    "booked an appointment",
    "question about my invoice",
    "not-for-logs",
    "secret__",
    DEFAULT_WEBHOOK_SECRET,
    "16125550199",
];

#[tokio::test]
async fn numbers_texts_and_secrets_are_in_no_log_line() {
    let world = World::with(Options::default().parameter("LogLevel", "DEBUG")).await;
    let bodies = [
        event("webhook/phone_inbound_twilio.json"),
        event("webhook/tool_calls_agent_transfer.json"),
    ];
    let campaign = world.campaign("A").await;
    world
        .assign(&campaign, "+16125550199", &json!({}))
        .await
        .expect(200);
    for body in &bodies {
        world.deliver_ok(body.clone()).await;
        // Not understood, refused, and read again.
        world.deliver_ok(&body[..body.len() - 1]).await;
        let forged = [
            ("content-type", "application/json"),
            (SIGNATURE_HEADER, "t=1,v0=00"),
        ];
        world.post(&forged, body.clone()).await;
    }
    for call in world.calls("").await {
        world.call(call["id"].as_str().unwrap()).await;
    }
    // Failures tell the most: at every request, answered and unanswered.
    for fault in [Fault::InternalError, Fault::CutAfter, Fault::Throttled] {
        world.stack.dynamodb().inject(move |_| Some(fault));
        for body in &bodies {
            assert_eq!(world.deliver(body.clone()).await.status, 503);
        }
        world.get("/api/calls").await;
        world
            .assign(&campaign, "+16125550199", &json!({ "move": true }))
            .await;
    }
    let lines = world.stack.logs().lines();
    let told = |what: &str| lines.iter().any(|line| line.contains(what));
    assert!(told("a delivery was not stored"), "there are logs");
    for word in UNSPEAKABLE {
        world.confide(word);
    }
    world.end().await;
}
