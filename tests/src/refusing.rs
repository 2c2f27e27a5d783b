//! What is not a genuine delivery is refused, stores no call and is logged.

use jiff::{SignedDuration, Timestamp};
use local::sender::{SIGNATURE_HEADER, WEBHOOK_PATH, signature};
use local::{DEFAULT_WEBHOOK_SECRET, Options};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, client_from, event, request};

const JSON: (&str, &str) = ("content-type", "application/json");

fn code(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn every_bad_signature_is_refused() {
    let world = World::new().await;
    let body = event("webhook/phone_inbound_twilio.json");
    let now: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
    world.stack.clock().set(now);
    let at = |seconds: i64| {
        let time = Timestamp::from_second(now.as_second() + seconds).unwrap();
        signature(DEFAULT_WEBHOOK_SECRET, time, &body)
    };
    let good = at(0);
    let (t, v0) = good.split_once(',').unwrap();
    let mut reserialised: Vec<u8> = Vec::new();
    serde_json::to_writer(
        &mut reserialised,
        &serde_json::from_slice::<Value>(&body).unwrap(),
    )
    .unwrap();
    let mut changed = body.clone();
    changed[100] ^= 1;
    let upper = format!("{t},v0={}", v0[3..].to_uppercase());

    let cases: Vec<(&str, Option<String>, &[u8], &str)> = vec![
        ("none", None, &body, "missing_signature"),
        ("empty", Some(String::new()), &body, "missing_signature"),
        (
            "wrong secret",
            Some(signature("wsec_other", now, &body)),
            &body,
            "invalid_signature",
        ),
        (
            "one byte changed",
            Some(good.clone()),
            &changed,
            "invalid_signature",
        ),
        (
            "re-serialised",
            Some(good.clone()),
            &reserialised,
            "invalid_signature",
        ),
        ("t=abc", Some(format!("t=abc,{v0}")), &body, "invalid_signature"),
        ("no v0", Some(t.to_owned()), &body, "invalid_signature"),
        ("upper-case hex", Some(upper), &body, "invalid_signature"),
        (
            "8 KB of commas",
            Some(",".repeat(8192)),
            &body,
            "invalid_signature",
        ),
        ("stale", Some(at(-3601)), &body, "stale_signature"),
        ("from the future", Some(at(301)), &body, "stale_signature"),
        (
            "not ASCII",
            Some(format!("{good}\u{e9}")),
            &body,
            "invalid_signature",
        ),
    ];
    for (name, header, body, expected) in &cases {
        let mut headers = vec![JSON];
        if let Some(header) = header {
            headers.push((SIGNATURE_HEADER, header));
        }
        // The log has an order by the millisecond.
        world.stack.clock().advance(SignedDuration::from_millis(1));
        let answer = world.post(&headers, *body).await;
        assert_eq!(answer.error(), code(401, expected), "{name}");
        let entry = &world.deliveries().await[0];
        assert_eq!(
            (
                &entry["result"],
                &entry["reason"],
                &entry["status"],
                &entry["body_kept"]
            ),
            (&json!("refused"), &json!(expected), &json!(401), &json!(false)),
            "{name}"
        );
    }
    assert!(world.calls("").await.is_empty());
    assert_eq!(world.deliveries().await.len(), cases.len());
    assert_eq!(world.deliver_ok(body).await, "stored");
}

#[tokio::test]
async fn only_posted_json_is_taken() {
    let world = World::new().await;
    let body = event("webhook/phone_inbound_twilio.json");
    let signature = world.sign(&body);
    let signed = (SIGNATURE_HEADER, signature.as_str());
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let answer = world
            .request(method.clone(), WEBHOOK_PATH, &[JSON, signed], body.clone())
            .await;
        assert_eq!(answer.error(), code(405, "method_not_allowed"), "{method}");
        assert_eq!(answer.header("allow"), "GET, POST");
    }
    for content_type in [
        "text/plain",
        "application/jsonx",
        "application/x-www-form-urlencoded",
        "json",
    ] {
        let answer = world
            .post(&[("content-type", content_type), signed], body.clone())
            .await;
        assert_eq!(
            answer.error(),
            code(415, "unsupported_media_type"),
            "{content_type}"
        );
    }
    let answer = world.post(&[signed], body.clone()).await;
    assert_eq!(answer.error(), code(415, "unsupported_media_type"), "none");
    assert!(world.calls("").await.is_empty());
    for content_type in ["application/json; charset=utf-8", "Application/JSON"] {
        let answer = world
            .post(&[("content-type", content_type), signed], body.clone())
            .await;
        assert_eq!(answer.status, 200, "{content_type}");
    }
}

#[tokio::test]
async fn the_endpoint_says_that_it_is_there() {
    let world = World::new().await;
    assert_eq!(
        world.get(WEBHOOK_PATH).await.expect(200),
        json!({
            "success": true, "message": "ElevenLabs webhook endpoint is active",
            "endpoint": "/api/webhooks/elevenlabs", "methods": ["POST"], "version": "1.0.0",
        })
    );
}

#[tokio::test]
async fn without_a_secret_nothing_is_accepted_until_one_is_stored() {
    let options = Options {
        webhook_secrets: Vec::new(),
        ..Options::default()
    };
    let world = World::with(options).await;
    let body = event("webhook/phone_inbound_twilio.json");
    for secret in ["", DEFAULT_WEBHOOK_SECRET] {
        let signature = signature(secret, world.stack.clock().now(), &body);
        let answer = world
            .post(&[JSON, (SIGNATURE_HEADER, &signature)], body.clone())
            .await;
        assert_eq!(answer.error(), code(503, "not_configured"));
    }
    assert!(world.calls("").await.is_empty());
    world
        .stack
        .set_secret("WebhookSecret", &[DEFAULT_WEBHOOK_SECRET])
        .unwrap();
    world.stack.clock().advance(SignedDuration::from_secs(60));
    assert_eq!(world.deliver_ok(body).await, "stored");
}

#[tokio::test]
async fn a_secret_is_rotated_without_a_gap_or_a_restart() {
    let options = Options {
        webhook_secrets: vec!["one".to_owned()],
        ..Options::default()
    };
    let world = World::with(options).await;
    let body = event("webhook/phone_inbound_twilio.json");
    let status = async |secret: &str| {
        let signature = signature(secret, world.stack.clock().now(), &body);
        world
            .post(&[JSON, (SIGNATURE_HEADER, &signature)], body.clone())
            .await
            .status
    };
    assert_eq!((status("one").await, status("two").await), (200, 401));
    world.stack.set_secret("WebhookSecret", &["two", "one"]).unwrap();
    world.stack.clock().advance(SignedDuration::from_secs(60));
    assert_eq!(
        (status("one").await, status("two").await, status("three").await),
        (200, 200, 401)
    );
    world
        .stack
        .set_secret("WebhookSecret", &["three", "two"])
        .unwrap();
    world.stack.clock().advance(SignedDuration::from_secs(60));
    assert_eq!(
        (status("one").await, status("two").await, status("three").await),
        (401, 200, 200)
    );
}

#[tokio::test]
async fn bad_signatures_cause_no_flood_of_fetches_of_the_secret() {
    let world = World::new().await;
    world.stack.clock().set("2026-11-22T10:00:00Z".parse().unwrap());
    world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await;
    let before = world.stack.secrets().fetches();
    for _ in 0..50 {
        let signed = [JSON, (SIGNATURE_HEADER, "t=1795300084,v0=00")];
        assert_eq!(world.post(&signed, "{}").await.status, 401);
    }
    // One, for the version before, which nobody needed until then.
    assert_eq!(world.stack.secrets().fetches(), before + 1);

    // Nor while they can't be had: one attempt, which the SDK repeats twice, then a pause.
    world.stack.clock().advance(SignedDuration::from_secs(61));
    world.stack.secrets().set_broken(true);
    for _ in 0..50 {
        let signed = [JSON, (SIGNATURE_HEADER, "t=1795300084,v0=00")];
        assert_eq!(world.post(&signed, "{}").await.status, 503);
    }
    assert!(world.stack.secrets().fetches() <= before + 4);
}

#[tokio::test]
async fn while_secrets_are_out_of_reach_deliveries_wait_and_known_ones_go_on() {
    let world = World::new().await;
    let body = event("webhook/phone_inbound_twilio.json");
    world.stack.secrets().set_broken(true);
    assert_eq!(
        world.deliver(body.clone()).await.error(),
        code(503, "unavailable")
    );
    world.stack.secrets().set_broken(false);
    world.stack.clock().advance(SignedDuration::from_secs(5));
    assert_eq!(world.deliver_ok(body.clone()).await, "stored");
    world.stack.secrets().set_broken(true);
    world.stack.clock().advance(SignedDuration::from_secs(120));
    assert_eq!(world.deliver_ok(body.clone()).await, "duplicate");

    // A secret that could not be learned of is no reason to turn a delivery away for good.
    world.stack.clock().advance(SignedDuration::from_millis(1));
    let newer = signature("wsec_rotated", world.stack.clock().now(), &body);
    let answer = world.post(&[JSON, (SIGNATURE_HEADER, &newer)], body).await;
    assert_eq!(answer.error(), code(503, "unavailable"));
    let entry = &world.deliveries().await[0];
    assert_eq!(
        (&entry["result"], &entry["reason"]),
        (&json!("failed"), &json!("unavailable"))
    );
}

#[tokio::test]
async fn a_previous_secret_that_was_known_outlives_an_outage_as_the_current_one_does() {
    let options = Options {
        webhook_secrets: vec!["two".to_owned(), "one".to_owned()],
        ..Options::default()
    };
    let world = World::with(options).await;
    let body = event("webhook/phone_inbound_twilio.json");
    let status = async |secret: &str| {
        let signature = signature(secret, world.stack.clock().now(), &body);
        world
            .post(&[JSON, (SIGNATURE_HEADER, &signature)], body.clone())
            .await
            .status
    };
    assert_eq!((status("one").await, status("two").await), (200, 200));
    // Asked again for the current one alone, and then for nothing any more.
    world.stack.clock().advance(SignedDuration::from_secs(61));
    assert_eq!(status("two").await, 200);
    world.stack.secrets().set_broken(true);
    assert_eq!((status("one").await, status("three").await), (200, 503));
}

#[tokio::test]
async fn an_address_that_is_not_listed_may_try_again_while_secrets_are_out_of_reach() {
    let listed = Options::default().parameter("ElevenLabsWebhookIpWhitelist", "34.67.146.145");
    let world = World::with(listed).await;
    let body = event("webhook/phone_inbound_twilio.json");
    world.stack.secrets().set_broken(true);
    assert_eq!(
        world.deliver(body.clone()).await.error(),
        code(503, "unavailable")
    );
    world.stack.secrets().set_broken(false);
    world.stack.clock().advance(SignedDuration::from_secs(5));
    assert_eq!(
        world.deliver(body).await.error(),
        code(403, "address_not_allowed")
    );
    assert_eq!(world.deliveries().await[0]["body_kept"], true);
}

#[tokio::test]
async fn an_unsigned_delivery_from_an_address_that_is_not_listed_is_not_kept() {
    let options = Options::default()
        .parameter("AllowUnsignedDeliveries", "true")
        .parameter("ElevenLabsWebhookIpWhitelist", "34.67.146.145");
    let world = World::with(options).await;
    let answer = world
        .post(&[JSON], event("webhook/phone_inbound_twilio.json"))
        .await;
    assert_eq!(answer.error(), code(403, "address_not_allowed"));
    assert_eq!(world.deliveries().await[0]["body_kept"], false);
}

#[tokio::test]
async fn a_country_that_does_not_exist_costs_no_call() {
    let world = World::with(Options::default().parameter("DefaultCountry", "UK")).await;
    assert_eq!(
        world.deliver_ok(event("webhook/phone_inbound_exotel.json")).await,
        "stored"
    );
    let call = world.get("/api/calls/conv_inbound_exotel_01").await.expect(200);
    assert_eq!(call["tracking_number"], "08044319240");
}

#[tokio::test]
async fn a_spoofed_client_address_is_believed_from_a_trusted_proxy_only() {
    let body = event("webhook/phone_inbound_twilio.json");
    let logged = async |world: &World| {
        let signature = world.sign(&body);
        let headers = [
            JSON,
            (SIGNATURE_HEADER, signature.as_str()),
            ("x-forwarded-for", "198.51.100.7"),
        ];
        assert_eq!(world.post(&headers, body.clone()).await.status, 200);
        world.deliveries().await[0]["client_ip"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(logged(&World::new().await).await, "127.0.0.1");
    let behind = Options::default().parameter("TrustedProxies", "127.0.0.0/24");
    assert_eq!(logged(&World::with(behind).await).await, "198.51.100.7");
    let elsewhere = Options::default().parameter("TrustedProxies", "10.0.0.0/8, 2001:db8::/32");
    assert_eq!(logged(&World::with(elsewhere).await).await, "127.0.0.1");
}

#[tokio::test]
async fn an_address_that_is_not_listed_is_refused_but_a_genuine_body_is_kept() {
    let listed = Options::default().parameter("ElevenLabsWebhookIpWhitelist", "34.67.146.145, 127.0.0.9");
    let world = World::with(listed).await;
    let body = event("webhook/phone_inbound_twilio.json");

    assert_eq!(
        world.deliver(body.clone()).await.error(),
        code(403, "address_not_allowed")
    );
    let entry = &world.deliveries().await[0];
    assert_eq!(
        (&entry["status"], &entry["reason"], &entry["body_kept"]),
        (&json!(403), &json!("address_not_allowed"), &json!(true))
    );
    let raw = world
        .get(&format!("/api/deliveries/{}/raw", entry["id"].as_str().unwrap()))
        .await;
    assert_eq!(raw.body, body);

    let forged = world
        .post(&[JSON, (SIGNATURE_HEADER, "t=1,v0=00")], body.clone())
        .await;
    assert_eq!(forged.error(), code(403, "address_not_allowed"));
    assert_eq!(world.deliveries().await[0]["body_kept"], false);
    assert!(world.calls("").await.is_empty());

    let signature = world.sign(&body);
    let answer = request(
        &client_from([127, 0, 0, 9].into()),
        Method::POST,
        &format!("{}{WEBHOOK_PATH}", world.stack.url()),
        &[JSON, (SIGNATURE_HEADER, &signature)],
        body,
    )
    .await;
    assert_eq!(answer.expect(200)["result"], "stored");
}
