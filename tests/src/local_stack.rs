//! The stand-in for AWS behaves like AWS where the product can tell.

use std::time::Duration;

use local::dynamodb::Fault;
use local::sender::WEBHOOK_PATH;
use reqwest::Method;
use serde_json::json;

use crate::support::{World, event, event_json};

#[tokio::test]
async fn an_instance_that_dies_is_replaced_and_its_request_answered_500() {
    let world = World::new().await;
    let body = event("webhook/phone_inbound_twilio.json");
    world.deliver_ok(event("webhook/web_widget.json")).await;
    // Hold the delivery at the store until the instance that works on it is dead.
    world
        .stack
        .dynamodb()
        .inject(|_| Some(Fault::Delayed(Duration::from_secs(20))));
    world.stack.dynamodb().record();
    let function = world.stack.function("WebhookFunction").unwrap();
    let kill = async {
        while function.busy_instances() == 0 {
            tokio::task::yield_now().await;
        }
        function.kill_instances();
    };
    let (answer, ()) = tokio::join!(world.deliver(body.clone()), kill);
    assert_eq!(
        (answer.status, answer.json()),
        (500, json!({ "message": "Internal Server Error" }))
    );
    world.stack.dynamodb().heal();
    assert_eq!(world.deliver_ok(body).await, "stored");
}

#[tokio::test]
async fn instances_that_die_while_idle_are_not_missed() {
    let world = World::new().await;
    world.deliver_ok(event("webhook/web_widget.json")).await;
    world.stack.function("WebhookFunction").unwrap().kill_instances();
    assert_eq!(
        world.deliver_ok(event("webhook/sms_inbound.json")).await,
        "stored"
    );
}

#[tokio::test]
async fn routes_and_heads_have_the_gateways_limits() {
    let world = World::new().await;
    for (method, path) in [
        (Method::GET, "/api"),
        (Method::GET, "/api/call"),
        (Method::POST, "/api/calls"),
    ] {
        let answer = world.request(method, path, &[], "").await;
        assert_eq!(
            (answer.status, answer.json()),
            (404, json!({ "message": "Not Found" }))
        );
    }
    let long = "x".repeat(10_240);
    let answer = world
        .request(Method::GET, "/api/calls", &[("x-long", &long)], "")
        .await;
    assert_eq!(answer.status, 431);
}

#[tokio::test]
async fn tables_expire_what_the_template_lets_expire() {
    let world = World::new().await;
    for (table, expires) in [
        ("CallsTable", true),
        ("CampaignsTable", false),
        ("DeliveriesTable", true),
        ("RateLimitsTable", true),
        ("SessionsTable", true),
    ] {
        let answer = world
            .ask_store("DescribeTimeToLive", &json!({ "TableName": table }))
            .await;
        let ttl = &answer["TimeToLiveDescription"];
        assert_eq!(ttl["TimeToLiveStatus"] == "ENABLED", expires, "{table}: {ttl}");
        assert_eq!(ttl["AttributeName"] == "expires_at", expires, "{table}: {ttl}");
    }
    // And what is to expire says when.
    world.stack.clock().set("2026-11-22T10:00:17Z".parse().unwrap());
    world.post(&[("content-type", "text/plain")], "x").await;
    for (table, kept_seconds) in [("DeliveriesTable", 90 * 86_400), ("RateLimitsTable", 3600 - 17)] {
        let items = world.ask_store("Scan", &json!({ "TableName": table })).await;
        let expires_at = items["Items"][0]["expires_at"]["N"].as_str().unwrap();
        let now = world.stack.clock().now().as_second();
        assert_eq!(expires_at.parse::<i64>().unwrap() - now, kept_seconds, "{table}");
    }
}

#[tokio::test]
async fn every_sample_event_can_be_invoked_directly() {
    let world = World::new().await;
    for (function, case, status) in [
        ("webhook", "webhook/gateway/status", 200),
        ("webhook", "webhook/gateway/unsigned", 401),
        ("webhook", "webhook/gateway/signed", 200),
        ("webhook", "webhook/gateway/signed_base64", 200),
        ("calls", "calls/list", 200),
        ("calls", "calls/read", 200),
        ("calls", "calls/list_deliveries", 200),
        ("attribution", "attribution/create_campaign", 201),
        ("attribution", "attribution/list_campaigns", 200),
        ("sync", "sync/read", 200),
        ("sync", "sync/run", 409),
        ("console", "console/home", 303),
        ("console", "console/sign_in", 303),
        ("console", "console/style", 200),
    ] {
        let answer = world.invoke(function, &event_json(&format!("{case}.json"))).await;
        assert_eq!(answer["statusCode"], status, "{case}: {answer}");
    }
    let clock = world.invoke("sync", &event_json("sync/clock.json")).await;
    assert_eq!(clock, json!(null), "the clock waits for no answer");
    // Written by hand: without a stamp, or with an old one and a new signature.
    for stamp in [json!(0), json!(1583348638390_i64)] {
        let mut event = event_json("webhook/gateway/signed.json");
        let body = event["body"].as_str().unwrap().to_owned();
        let context = event["requestContext"].as_object_mut().unwrap();
        context.remove("requestId");
        context.insert("timeEpoch".to_owned(), stamp);
        event["headers"]["elevenlabs-signature"] = json!(world.sign(body.as_bytes()));
        let answer = world.invoke("webhook", &event).await;
        assert_eq!(answer["statusCode"], 200, "{answer}");
        assert!(!answer["headers"]["x-request-id"].as_str().unwrap().is_empty());
    }
    let nobody = world.invoke("nobody", &json!({})).await;
    assert_eq!(
        nobody["message"],
        "Function not found: nobody. There are: attribution, calls, console, sync, webhook"
    );
    for (function, event) in [
        ("webhook", json!({ "version": "2.0" })),
        (
            "sync",
            json!({ "source": "aws.s3", "time": "2026-11-21T22:28:10Z" }),
        ),
        ("sync", json!({ "source": "aws.events" })),
    ] {
        let garbage = world.invoke(function, &event).await;
        assert!(garbage["errorMessage"].is_string(), "{garbage}");
    }
}

#[tokio::test]
async fn through_a_tunnel_only_the_webhook_is_reached() {
    let world = World::new().await;
    let from_elsewhere = async |method: Method, path: &str| {
        let headers = [("host", "some-words.trycloudflare.com")];
        world.bare_request(method, path, &headers, "").await.status
    };
    assert_eq!(from_elsewhere(Method::GET, WEBHOOK_PATH).await, 200);
    assert_eq!(from_elsewhere(Method::POST, WEBHOOK_PATH).await, 415);
    let issuer = format!("{}/token", world.stack.issuer().url());
    let issuer = issuer.trim_start_matches(world.stack.url());
    let invoke = "/2015-03-31/functions/calls/invocations";
    for (method, path) in [
        (Method::GET, "/"),
        (Method::GET, "/sign-in"),
        (Method::POST, issuer),
        (Method::POST, invoke),
    ] {
        assert_eq!(from_elsewhere(method, path).await, 403, "{path}");
    }
}
