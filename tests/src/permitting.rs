//! Every function may do what it needs, and nothing else.

use std::sync::Arc;

use local::Options;
use local::permissions::Grant;
use local::sender::{SIGNATURE_HEADER, WEBHOOK_PATH};
use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::{Conversation, KEY, Provider};
use crate::signing_in::{ANNA, Browser};
use crate::support::{World, client_from, phone_call, request, template};

const CALL: &str = "/api/calls/conv_1";

async fn world_without(statements: &[(String, String)]) -> (World, Provider) {
    let provider = Provider::start().await;
    let options = Options {
        without_statements: statements.to_vec(),
        api_key: Some(KEY.to_owned()),
        ..Options::default()
    };
    let options = options.parameter("ElevenLabsApiUrl", provider.url());
    let options = options.parameter("RefusalsPerMinute", "2");
    let world = World::with(options.parameter("ElevenLabsWebhookIpWhitelist", "127.0.0.1")).await;
    (world, provider)
}

/// A walk through everything that any function does to a table or a secret, each
/// step of which must succeed.
async fn everything_once(world: &World, provider: &Provider) {
    let send = async |method: Method, path: &str, body: Value, status: u16| {
        world.send(method, path, &body).await.expect(status)
    };

    // Campaigns, with all that credits calls to them.
    let campaign = world.campaign("Spring").await;
    let path = format!("/api/campaigns/{campaign}");
    send(
        Method::PATCH,
        &path,
        json!({ "name": "Summer", "code": "summer" }),
        200,
    )
    .await;
    assert_eq!(
        world.walk("/api/campaigns", "campaigns", "").await[0]["name"],
        "Summer"
    );
    world
        .assign(
            &campaign,
            "+16125550142",
            &json!({ "from": "2026-01-01T00:00:00Z" }),
        )
        .await
        .expect(200);
    let agent = format!("{path}/agents/agent_9");
    send(
        Method::PUT,
        &agent,
        json!({ "from": "2026-01-01T00:00:00Z" }),
        200,
    )
    .await;
    send(
        Method::DELETE,
        &format!("{agent}?from=2026-01-01T00:00:00Z"),
        json!({}),
        200,
    )
    .await;
    let contacts = format!("{path}/contacts");
    let contact = json!({ "contacts": [{ "number": "+16125550199" }] });
    send(Method::POST, &contacts, contact, 200).await;
    assert_eq!(world.walk(&contacts, "contacts", "").await.len(), 1);
    world.get(&format!("{contacts}/%2B16125550199")).await.expect(200);
    send(Method::DELETE, &contacts, json!({}), 200).await;

    // Deliveries of every fate, each with its place in the log.
    let body = phone_call("conv_1", "2026-11-01T10:00:00Z", "2026-11-01T10:05:00Z").to_string();
    assert_eq!(world.deliver_ok(body.clone()).await, "stored");
    assert_eq!(world.deliver_ok(body).await, "duplicate");
    assert_eq!(world.deliver_ok("not JSON").await, "unparsed");
    for status in [401, 401, 429] {
        let answer = world.post(&[("content-type", "application/json")], "{}").await;
        assert_eq!(answer.status, status);
    }
    deliver_from_elsewhere(world, "conv_2", "2026-12-01T10:00:00Z").await;
    let log = world.deliveries().await;
    assert_eq!(log.len(), 7, "{log:?}");

    // Everything that is read.
    assert_eq!(
        world.call("conv_1").await["attribution"]["campaign_name"],
        "Summer"
    );
    for query in [
        "",
        "customer_number=%2B16125550187",
        &format!("campaign_id={campaign}"),
    ] {
        assert_eq!(world.calls(query).await.len(), 1, "{query:?}");
    }
    world.get(&format!("{CALL}/raw")).await.expect(200);
    world.get(&format!("{CALL}/transcript")).await.expect(200);
    let export = world.get("/api/calls/export?format=ndjson").await;
    assert_eq!(export.status, 200);
    let report = "/api/reports/summary?group_by=campaign&from=2026-10-01&to=2026-12-01";
    assert_eq!(
        world.get(report).await.expect(200)["total"]["first_time_customers"],
        1
    );
    let kept = log.iter().find(|entry| entry["status"] == 403).unwrap();
    let kept = format!("/api/deliveries/{}", kept["id"].as_str().unwrap());
    world.get(&kept).await.expect(200);
    assert_eq!(world.get(&format!("{kept}/raw")).await.status, 200);

    // Everything that is decided.
    send(
        Method::PUT,
        &format!("{CALL}/conversion"),
        json!({ "converted": true }),
        200,
    )
    .await;
    send(
        Method::PUT,
        &format!("{CALL}/attribution"),
        json!({ "campaign_id": null }),
        200,
    )
    .await;
    for filter in [
        json!({ "attribution": "unattributed" }),
        json!({ "customer_number": "+16125550187" }),
        json!({ "from": "2026-11-01", "to": "2026-11-02" }),
    ] {
        let order = json!({ "campaign_id": campaign, "filter": filter });
        let done = send(Method::POST, "/api/assignments", order, 200).await;
        let counts = &done["counts"];
        let found = counts["assigned"].as_u64().unwrap() + counts["unchanged"].as_u64().unwrap();
        assert_eq!(found, 1, "{done}");
        if let Some(id) = done["assignment_id"].as_str().filter(|_| counts["assigned"] == 1) {
            let undone = send(
                Method::POST,
                &format!("/api/assignments/{id}/undo"),
                json!({}),
                200,
            )
            .await;
            assert_eq!(undone["counts"]["assigned"], 1, "{undone}");
        }
    }
    let window = json!({ "from": "2026-11-01", "to": "2026-11-02", "dry_run": false });
    send(Method::POST, "/api/reattributions", window, 200).await;
    let replayed = send(
        Method::POST,
        &format!("{kept}/replay"),
        json!({ "dry_run": false }),
        200,
    )
    .await;
    assert_eq!(replayed["result"], "stored");
    assert_eq!(world.deliveries().await.len(), 8, "the replay is in the log");

    // What never arrived, one with a customer and an agent to look for, in a month of its own.
    provider.put(Conversation::new("conv_lost", "agent_1", "2026-10-20T10:00:00Z"));
    world.stack.clock().set("2026-10-21T10:00:00Z".parse().unwrap());
    let status = world.sync().await;
    assert_eq!(status["last_run"]["stored"], 1);
    assert_eq!(status["last_run"]["errors"], json!([]));
    assert_eq!(world.sync_view().await["ledger"][0]["held"], 1);
    world.stack.clock().set("2026-12-02T10:00:00Z".parse().unwrap());

    // People.
    let mut browser = Browser::new(world);
    browser.sign_in(ANNA).await;
    assert_eq!(browser.is_in().await.as_deref(), Some(ANNA));
    visit_everything_once(world, &mut browser).await;
    browser.submit("/sign-out").await;
    assert_eq!(browser.is_in().await, None);

    // Nothing of a customer.
    let erasure = json!({ "customer_number": "+16125550187", "dry_run": false });
    let receipt = send(Method::POST, "/api/erasures", erasure, 200).await;
    assert_eq!(receipt["call_ids"].as_array().unwrap().len(), 4, "{receipt}");
}

/// A genuine delivery from an address that is not allowed: refused, and kept.
pub(crate) async fn deliver_from_elsewhere(world: &World, id: &str, started_at: &str) {
    let genuine = phone_call(id, started_at, started_at).to_string();
    let signature = world.sign(genuine.as_bytes());
    let headers = [
        ("content-type", "application/json"),
        (SIGNATURE_HEADER, &signature),
    ];
    let url = format!("{}{WEBHOOK_PATH}", world.stack.url());
    let elsewhere = client_from([127, 0, 0, 2].into());
    let refused = request(&elsewhere, Method::POST, &url, &headers, genuine).await;
    assert_eq!(refused.error(), (403, "address_not_allowed".to_owned()));
}

/// All that a person does in the console with what is there by then.
async fn visit_everything_once(world: &World, browser: &mut Browser<'_>) {
    for page in [
        "/calls",
        "/calls?customer_number=%2B16125550187",
        "/calls.csv",
        "/calls/conv_1",
        "/calls/conv_1/raw",
        "/unattributed",
        "/campaigns",
        "/deliveries",
        "/sync",
    ] {
        assert!(!browser.page(page).await.is_empty(), "{page}");
    }
    let made = browser
        .submit_from(
            "/campaigns",
            "/campaigns",
            &[("name", "Autumn"), ("code", "autumn")],
        )
        .await;
    assert_eq!(made.status, 303);
    let numbers = made.header("location").to_owned();
    let campaign = numbers.trim_end_matches("/numbers").to_owned();
    let id = campaign.trim_start_matches("/campaigns/").to_owned();
    browser
        .decide(&numbers, &campaign, &[("name", "Fall"), ("code", "fall")])
        .await;
    browser
        .decide(&numbers, &campaign, &[("status", "archived")])
        .await;
    browser.decide(&numbers, &campaign, &[("status", "active")]).await;
    let number = [("number", "+16125550177"), ("action", "assign")];
    browser.decide(&numbers, &numbers, &number).await;
    let agents = format!("{campaign}/agents");
    let agent = [("agent_id", "agent_8"), ("action", "assign")];
    browser.decide(&numbers, &agents, &agent).await;
    let contacts = format!("{campaign}/contacts");
    assert_eq!(
        browser
            .upload(&contacts, "contacts", "number\n+16125550166\n")
            .await
            .status,
        200
    );
    let contact = [("number", "+16125550166")];
    browser
        .decide(&numbers, &format!("{contacts}/remove"), &contact)
        .await;
    for page in [
        &campaign,
        &format!("{campaign}/calls"),
        &numbers,
        &format!("{campaign}/settings"),
    ] {
        browser.page(page).await;
    }
    let call = "/calls/conv_1";
    browser
        .decide(call, "/calls/conv_1/conversion", &[("converted", "false")])
        .await;
    browser
        .decide(call, "/calls/conv_1/attribution", &[("campaign_id", "none")])
        .await;
    let matching = [
        ("campaign_id", id.as_str()),
        ("all_matching", "yes"),
        ("scope", "open"),
    ];
    assert_eq!(
        browser
            .submit_from("/unattributed", "/assignments/preview", &matching)
            .await
            .status,
        200
    );
    let done = browser.decide("/unattributed", "/assignments", &matching).await;
    let undo = done
        .split_once("action=\"/assignments/")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    let undo = format!("/assignments/{undo}");
    browser.decide("/unattributed", &undo, &[]).await;
    let window = [("from", "2026-11-01"), ("through", "2026-11-02")];
    browser.decide("/campaigns", "/reattributions", &window).await;
    let log = browser.page("/deliveries?result=unparsed").await;
    let delivery = log
        .split_once("href=\"/deliveries/")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    let delivery = format!("/deliveries/{delivery}");
    browser.page(&delivery).await;
    browser.page(&format!("{delivery}/raw")).await;
    deliver_from_elsewhere(world, "conv_3", "2026-09-01T10:00:00Z").await;
    let log = browser.page("/deliveries?status=403").await;
    let refused = log
        .split_once("href=\"/deliveries/")
        .unwrap()
        .1
        .split_once('"')
        .unwrap()
        .0;
    let replay = format!("/deliveries/{refused}/replay");
    assert_eq!(
        browser
            .submit_from("/deliveries", &replay, &[("action", "preview")])
            .await
            .status,
        200
    );
    browser
        .decide("/deliveries", &replay, &[("action", "apply")])
        .await;
    let mut call = phone_call("conv_5", "2026-11-02T10:00:00Z", "2026-11-02T10:05:00Z");
    call["data"]["metadata"]["phone_call"]["external_number"] = json!("+16125550155");
    assert_eq!(world.deliver_ok(call.to_string()).await, "stored");
    let customer = [("customer_number", "+16125550155")];
    let erased = browser.submit_from("/calls/conv_5", "/erasures", &customer).await;
    assert_eq!(erased.status, 200);
    assert!(String::from_utf8_lossy(&erased.body).contains("conv_5"));
}

#[tokio::test]
async fn every_action_that_is_granted_is_used() {
    let (world, provider) = world_without(&[]).await;
    everything_once(&world, &provider).await;
    let permissions = world.stack.permissions();
    let (granted, used) = (permissions.granted(), permissions.used());
    let unused: Vec<&Grant> = granted.difference(&used).collect();
    assert!(unused.is_empty(), "granted, but not used: {unused:#?}");
    assert_eq!(
        permissions.refused().len(),
        0,
        "nothing is asked for that is not granted"
    );
}

#[tokio::test]
async fn without_any_single_statement_something_fails() {
    for (function, definition) in template().functions {
        for statement in definition.statements {
            let (world, provider) = world_without(&[(function.clone(), statement.id.clone())]).await;
            let world = Arc::new(world);
            let told = Arc::clone(&world);
            let story = tokio::spawn(async move { everything_once(&told, &provider).await });
            assert!(
                story.await.is_err(),
                "nobody missed {} of {function}",
                statement.id
            );
            // For want of it, and for nothing else.
            let refused = world.stack.permissions().refused();
            let is_missing = |(who, (action, _)): &(String, (String, String))| {
                *who == function && statement.actions.contains(action)
            };
            assert!(
                refused.iter().any(is_missing),
                "{function}, {}: {refused:?}",
                statement.id
            );
        }
    }
}
