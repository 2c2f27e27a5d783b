//! The doctor finds what is wrong with a stack, from outside.

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use local::doctor::{Finding, Patient, Provider, Verdict, examine};
use local::sender::{SIGNATURE_HEADER, WEBHOOK_PATH};
use local::{DEFAULT_WEBHOOK_SECRET, Options, issuer};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::provider as elevenlabs;
use crate::provider::{Conversation, Fault};
use crate::support::{World, client_from, event, request, with_template};
use crate::syncing;

async fn world_with_template(name: &str, text: &str, other: &str) -> World {
    World::with(with_template(name, text, other)).await
}

fn patient(world: &World) -> Patient {
    Patient {
        url: world.stack.url().to_owned(),
        secret: DEFAULT_WEBHOOK_SECRET.to_owned(),
        token: Some(world.token(&[issuer::READ])),
        provider: None,
    }
}

/// What is to be mended.
fn bad(findings: &[Finding]) -> Vec<&str> {
    let bad = findings.iter().filter(|finding| finding.verdict == Verdict::Bad);
    bad.map(|finding| finding.check).collect()
}

async fn found_in(world: &World) -> Vec<Finding> {
    examine(&patient(world)).await.unwrap()
}

#[tokio::test]
async fn a_sound_stack_has_nothing_to_mend_however_often_it_is_examined() {
    let world = World::new().await;
    for _ in 0..2 {
        let findings = found_in(&world).await;
        assert_eq!(bad(&findings), Vec::<&str>::new(), "{findings:#?}");
        assert!(findings.len() >= 18, "{findings:#?}");
    }
    assert_eq!(
        world.calls("").await.len(),
        1,
        "one call is left behind, always the same"
    );
}

#[tokio::test]
async fn each_wrong_parameter_is_found() {
    for (parameter, value, found) in [
        (
            "AllowUnsignedDeliveries",
            "true",
            "an unsigned delivery is refused",
        ),
        (
            "SignatureMaxAgeSeconds",
            "1800",
            "the sender's last attempt, 50 minutes later, still counts",
        ),
        ("SignatureMaxAgeSeconds", "86400", "an old signature is refused"),
        (
            "ElevenLabsWebhookIpWhitelist",
            "203.0.113.0/24",
            "a signed call is stored",
        ),
        (
            "TrustedProxies",
            "127.0.0.0/8",
            "nobody is believed about his own address",
        ),
    ] {
        let world = World::with(Options::default().parameter(parameter, value)).await;
        let findings = found_in(&world).await;
        assert_eq!(bad(&findings), [found], "{parameter}={value}: {findings:#?}");
    }
}

#[tokio::test]
async fn a_wrong_or_missing_secret_is_found() {
    let world = World::new().await;
    let wrong = Patient {
        secret: "wsec_other".to_owned(),
        ..patient(&world)
    };
    let findings = examine(&wrong).await.unwrap();
    assert_eq!(bad(&findings), ["a signed call is stored"], "{findings:#?}");
    let old = findings
        .iter()
        .find(|finding| finding.check == "an old signature is refused");
    assert_eq!(old.unwrap().verdict, Verdict::Unknown, "that proves nothing");

    let none = World::with(Options {
        webhook_secrets: Vec::new(),
        ..Options::default()
    })
    .await;
    let findings = found_in(&none).await;
    assert!(
        bad(&findings).contains(&"a signed call is stored"),
        "{findings:#?}"
    );
    let says = &findings
        .iter()
        .find(|finding| finding.check == "a signed call is stored")
        .unwrap()
        .says;
    assert!(says.contains("not_configured"), "{says}");
}

#[tokio::test]
async fn a_missing_permission_is_found() {
    for (statement, found) in [
        ("WriteCalls", "a signed call is stored"),
        ("WriteTheDeliveryLog", "the delivery log tells what came"),
    ] {
        let without = vec![("WebhookFunction".to_owned(), statement.to_owned())];
        let world = World::with(Options {
            without_statements: without,
            ..Options::default()
        })
        .await;
        let findings = found_in(&world).await;
        assert!(bad(&findings).contains(&found), "{statement}: {findings:#?}");
    }
}

#[tokio::test]
async fn a_route_that_is_open_or_absent_is_found() {
    let text = "Path: /api/calls/export, Method: GET, Auth: { AuthorizationScopes: [ringmark/read] }";
    let open = world_with_template(
        "open",
        text,
        "Path: /api/calls/export, Method: GET, Auth: { Authorizer: NONE }",
    )
    .await;
    let findings = found_in(&open).await;
    assert_eq!(bad(&findings), ["the API is closed to those without a token"]);
    let says = &findings
        .iter()
        .find(|finding| finding.verdict == Verdict::Bad)
        .unwrap()
        .says;
    assert!(says.ends_with(": GET /api/calls/export"), "{says}");

    let absent = world_with_template(
        "absent",
        "Path: /api/reports/summary,",
        "Path: /api/reports/sumary,",
    )
    .await;
    assert_eq!(bad(&found_in(&absent).await), ["every route is there"]);
}

#[tokio::test]
async fn another_address_and_a_stale_token_are_found() {
    let world = World::new().await;
    let elsewhere = Patient {
        url: format!("{}/api", world.stack.url()),
        ..patient(&world)
    };
    assert_eq!(
        bad(&examine(&elsewhere).await.unwrap()),
        ["the webhook is at this address"]
    );
    let stale = Patient {
        token: Some("stale".to_owned()),
        ..patient(&world)
    };
    assert_eq!(
        bad(&examine(&stale).await.unwrap()),
        ["the delivery log tells what came"]
    );
    let nobody = Patient {
        url: "http://127.0.0.1:1".to_owned(),
        ..patient(&world)
    };
    assert!(examine(&nobody).await.is_err());
}

/// The provider's API, which answers this to whoever has the key.
async fn provider(webhooks: Value, settings: Value) -> Provider {
    let answer = |value: Value| {
        let value = Arc::new(value);
        get(async move |headers: HeaderMap| match headers.get("xi-api-key") {
            Some(key) if key == "sk_doctor" => Ok(Json((*value).clone())),
            _ => Err(StatusCode::UNAUTHORIZED),
        })
    };
    let router = Router::new()
        .route("/v1/workspace/webhooks", answer(webhooks))
        .route("/v1/convai/settings", answer(settings));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Provider {
        url,
        api_key: "sk_doctor".to_owned(),
    }
}

#[tokio::test]
async fn how_the_provider_is_set_up_is_examined() {
    let world = World::new().await;
    let sound_webhook = json!({
        "name": "Ringmark",
        "webhook_id": "wh_1",
        "webhook_url": format!("{}{WEBHOOK_PATH}", world.stack.url()),
        "is_disabled": false,
        "is_auto_disabled": false,
        "created_at_unix": 1_767_225_600,
        "auth_type": "hmac",
        "usage": null,
        "retry_enabled": true,
        "most_recent_failure_error_code": 503,
        "most_recent_failure_timestamp": 1_767_225_600,
    });
    let sound_settings = json!({
        "webhooks": { "post_call_webhook_id": "wh_1", "events": ["transcript", "call_initiation_failure"], "send_audio": false },
        "can_use_mcp_servers": true,
    });
    let examined = async |change: (&str, &str, Value)| {
        let (mut webhook, mut settings) = (sound_webhook.clone(), sound_settings.clone());
        match change.0 {
            "webhook" => webhook[change.1] = change.2,
            _ => settings["webhooks"][change.1] = change.2,
        }
        let provider = provider(json!({ "webhooks": [webhook] }), settings).await;
        examine(&Patient {
            provider: Some(provider),
            ..patient(&world)
        })
        .await
        .unwrap()
    };
    let sound = examined(("webhook", "name", json!("Ringmark"))).await;
    assert_eq!(bad(&sound), Vec::<&str>::new(), "{sound:#?}");
    let now = world.stack.clock().now().as_second();
    for (of, field, value, found) in [
        ("webhook", "is_disabled", json!(true), "the webhook is enabled"),
        (
            "webhook",
            "is_auto_disabled",
            json!(true),
            "the webhook is enabled",
        ),
        (
            "webhook",
            "retry_enabled",
            json!(false),
            "failed deliveries are repeated",
        ),
        (
            "webhook",
            "webhook_url",
            json!("https://elsewhere.example/"),
            "the provider delivers to this address",
        ),
        (
            "webhook",
            "most_recent_failure_timestamp",
            json!(now),
            "no delivery failed lately",
        ),
        (
            "settings",
            "events",
            json!(["audio", "transcript"]),
            "audio is not sent",
        ),
        ("settings", "send_audio", json!(true), "audio is not sent"),
        (
            "settings",
            "events",
            json!(["call_initiation_failure"]),
            "transcripts are sent",
        ),
    ] {
        let findings = examined((of, field, value)).await;
        assert_eq!(bad(&findings), [found], "{field}: {findings:#?}");
    }
    // What the provider does not tell is not guessed.
    let findings = examined(("webhook", "retry_enabled", Value::Null)).await;
    let retries = findings
        .iter()
        .find(|finding| finding.check == "failed deliveries are repeated")
        .unwrap();
    assert_eq!(retries.verdict, Verdict::Unknown);
    assert_eq!(bad(&findings), Vec::<&str>::new());
}

#[tokio::test]
async fn a_provider_that_can_not_be_reached_spoils_nothing_of_the_rest() {
    let world = World::new().await;
    let provider = Provider {
        url: "http://127.0.0.1:1".to_owned(),
        api_key: "sk_doctor".to_owned(),
    };
    let findings = examine(&Patient {
        provider: Some(provider),
        ..patient(&world)
    })
    .await
    .unwrap();
    assert_eq!(bad(&findings), Vec::<&str>::new());
    let last = findings.last().unwrap();
    assert_eq!(
        (last.check, last.verdict),
        ("the provider delivers to this address", Verdict::Unknown)
    );
}

#[tokio::test]
async fn refusals_that_are_no_longer_written_are_not_missed_in_the_log() {
    let world = World::with(Options::default().parameter("RefusalsPerMinute", "3")).await;
    let findings = found_in(&world).await;
    assert_eq!(bad(&findings), Vec::<&str>::new(), "{findings:#?}");
    let log = findings
        .iter()
        .find(|finding| finding.check == "the delivery log tells what came")
        .unwrap();
    assert_eq!(log.verdict, Verdict::Unknown);
}

#[tokio::test]
async fn how_far_the_sender_is_from_giving_up_is_told_by_its_own_deliveries() {
    let verdict = async |world: &World| {
        let findings = found_in(world).await;
        let check = "the sender will not switch the webhook off";
        findings
            .into_iter()
            .find(|finding| finding.check == check)
            .unwrap()
    };
    let world = World::with(Options::default().parameter("ElevenLabsWebhookIpWhitelist", "127.0.0.1")).await;
    assert_eq!(
        verdict(&world).await.verdict,
        Verdict::Unknown,
        "nothing came so far"
    );

    // From an address that is not known yet, and replayed: no success of the sender.
    let body = event("webhook/phone_inbound_twilio.json");
    let signature = world.sign(&body);
    let headers = [
        ("content-type", "application/json"),
        (SIGNATURE_HEADER, signature.as_str()),
    ];
    let url = format!("{}{WEBHOOK_PATH}", world.stack.url());
    let elsewhere = client_from([127, 0, 0, 2].into());
    assert_eq!(
        request(&elsewhere, Method::POST, &url, &headers, body)
            .await
            .status,
        403
    );
    let log = world.deliveries().await;
    let kept = log.iter().find(|entry| entry["status"] == 403).unwrap();
    let path = format!("/api/deliveries/{}/replay", kept["id"].as_str().unwrap());
    world
        .send(Method::POST, &path, &json!({ "dry_run": false }))
        .await
        .expect(200);
    assert_eq!(
        verdict(&world).await.verdict,
        Verdict::Unknown,
        "a replay is none"
    );

    let days = SignedDuration::from_hours(8 * 24);
    world.stack.clock().advance(-days);
    world.deliver_ok(event("webhook/sms_inbound.json")).await;
    world.stack.clock().advance(days);
    let found = verdict(&world).await;
    assert_eq!(found.verdict, Verdict::Unknown, "more than seven days ago");
    assert!(found.says.contains("last success"), "{found:?}");

    world.deliver_ok(event("webhook/web_widget.json")).await;
    let found = verdict(&world).await;
    assert_eq!(found.verdict, Verdict::Good);
    assert!(found.says.contains("last success"), "{found:?}");
}

#[tokio::test]
async fn what_sync_says_is_told() {
    let told = async |world: &World, check: &str| {
        let findings = found_in(world).await;
        let found = findings.into_iter().find(|finding| finding.check == check);
        found.map(|finding| (finding.verdict, finding.says))
    };
    const SYNC: &str = "sync finds what never arrived";
    const WEBHOOK: &str = "calls come by webhook";
    let (verdict, says) = told(&World::new().await, SYNC).await.unwrap();
    assert_eq!(verdict, Verdict::Unknown);
    assert!(says.contains("ElevenLabsApiKey"), "{says}");

    let provider = elevenlabs::Provider::start().await;
    let world = syncing::world_of(&provider).await;
    let hours_ago = |hours| Timestamp::now() - SignedDuration::from_hours(hours);
    world.stack.clock().set(hours_ago(3));
    let (verdict, says) = told(&world, SYNC).await.unwrap();
    assert_eq!(verdict, Verdict::Unknown);
    assert!(says.contains("no run"), "{says}");
    world.sync().await;
    assert_eq!(told(&world, SYNC).await.unwrap().0, Verdict::Good);
    assert_eq!(told(&world, WEBHOOK).await, None);
    let other = syncing::world_of(&provider).await;
    other.sync().await;
    let (verdict, says) = told(&other, SYNC).await.unwrap();
    assert_eq!(verdict, Verdict::Bad, "it was long ago");
    assert!(says.contains(syncing::NOW), "{says}");

    world.stack.clock().set(hours_ago(0));
    let start = hours_ago(1).to_string();
    provider.put(Conversation::new("conv_bad", "agent_1", &start));
    provider.put(Conversation::new("conv_lost", "agent_1", &start));
    provider.inject(|asked| {
        asked
            .path
            .ends_with("conv_bad")
            .then_some(Fault::Status(422, None))
    });
    world.sync().await;
    let (verdict, says) = told(&world, SYNC).await.unwrap();
    assert_eq!(verdict, Verdict::Bad);
    assert!(says.contains("422"), "{says}");
    for _ in 0..2 {
        let (verdict, says) = told(&world, WEBHOOK).await.unwrap();
        assert_eq!(verdict, Verdict::Bad);
        assert!(says.contains("enabled"), "{says}");
        // What the doctor delivered itself is no sign of life.
        world.sync().await;
    }
}
