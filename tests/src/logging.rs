//! Nothing that is personal or secret gets into a log, whatever happens; metrics do.

use std::collections::BTreeMap;

use local::dynamodb::Fault;
use local::sender::{SIGNATURE_HEADER, WEBHOOK_PATH};
use local::{DEFAULT_WEBHOOK_SECRET, Options};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, client_from, event, request};

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

/// How often each metric was counted.
fn counted(world: &World) -> BTreeMap<String, f64> {
    let mut counted = BTreeMap::new();
    for line in world.stack.logs().lines() {
        let (function, line) = line.split_once(" | ").unwrap();
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        for directive in line["_aws"]["CloudWatchMetrics"].as_array().into_iter().flatten() {
            assert_eq!(
                (function, &line["FunctionName"]),
                ("webhook", &json!("WebhookFunction"))
            );
            assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
            assert!(line["_aws"]["Timestamp"].is_u64());
            for metric in directive["Metrics"].as_array().unwrap() {
                let name = metric["Name"].as_str().unwrap();
                *counted.entry(name.to_owned()).or_default() += line[name].as_f64().unwrap();
            }
        }
    }
    counted
}

#[tokio::test]
async fn what_becomes_of_deliveries_is_counted_for_alarms() {
    let options = Options::default().parameter("RefusalsPerMinute", "1");
    let world = World::with(options.parameter("ElevenLabsWebhookIpWhitelist", "127.0.0.1")).await;
    let body = event("webhook/phone_inbound_twilio.json");
    for result in ["stored", "duplicate"] {
        assert_eq!(world.deliver_ok(body.clone()).await, result);
    }
    assert_eq!(world.deliver_ok("not JSON").await, "unparsed");
    let unsigned = [("content-type", "application/json")];
    let forged = [unsigned[0], (SIGNATURE_HEADER, "t=1,v0=00")];
    for (headers, status) in [(&unsigned[..], 401), (&forged, 429), (&forged, 429)] {
        let answer = world.post(headers, body.clone()).await;
        assert_eq!(answer.status, status, "counted in a flood, too");
    }
    assert_eq!(world.post(&[], body.clone()).await.status, 415);
    let signature = world.sign(&body);
    let headers = [
        ("content-type", "application/json"),
        (SIGNATURE_HEADER, &signature),
    ];
    let url = format!("{}{WEBHOOK_PATH}", world.stack.url());
    let elsewhere = client_from([127, 0, 0, 2].into());
    let answer = request(&elsewhere, Method::POST, &url, &headers, body.clone()).await;
    assert_eq!(answer.status, 403, "genuine, but from another address");
    world.stack.dynamodb().inject(|_| Some(Fault::InternalError));
    assert_eq!(world.deliver(body).await.status, 503);

    world.stack.read_out_logs().await;
    let expected = [
        ("DeliveriesAccepted", 3.0),
        ("DeliveriesRefused", 5.0),
        ("SignaturesRefused", 2.0),
        ("DeliveriesToReplay", 2.0),
        ("DeliveriesFailed", 1.0),
    ];
    let expected = expected.map(|(name, times)| (name.to_owned(), times));
    assert_eq!(counted(&world), BTreeMap::from(expected));
}
