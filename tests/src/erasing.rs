//! Erasing a customer: the person goes, the totals stay, and nothing brings either back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use local::Options;
use local::dynamodb::{Fault, StoreRequest};
use local::issuer::VIEWER;
use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::{Conversation, Provider};
use crate::signing_in::{ANNA, Browser};
use crate::support::{Answer, World, deliver_many, event_json, phone_call};
use crate::syncing::world_of;

/// Whom every call of [`phone_call`] comes from.
pub(crate) const NUMBER: &str = "+16125550187";
const OTHER: &str = "+16125550199";
const TABLES: [&str; 4] = ["CallsTable", "CampaignsTable", "DeliveriesTable", "SyncTable"];

async fn erase(world: &World, request: &Value) -> Answer {
    world.send(Method::POST, "/api/erasures", request).await
}

/// Erases a customer; the receipt.
pub(crate) async fn erase_for_good(world: &World, number: &str) -> Value {
    let request = json!({ "customer_number": number, "dry_run": false });
    let receipt = erase(world, &request).await.expect(200);
    assert_eq!(receipt["next_cursor"], Value::Null);
    receipt
}

/// Everything that is stored, but for marks, as text.
pub(crate) async fn all_that_is_stored(world: &World) -> Vec<String> {
    let mut stored = Vec::new();
    for table in TABLES {
        let mut from = Value::Null;
        loop {
            let mut request = json!({ "TableName": table });
            if !from.is_null() {
                request["ExclusiveStartKey"] = from;
            }
            let mut page = world.ask_store("Scan", &request).await;
            let items = page["Items"].as_array().unwrap();
            let items = items.iter().filter(|item| item["erased"].is_null());
            stored.extend(items.map(ToString::to_string));
            from = page["LastEvaluatedKey"].take();
            if from.is_null() {
                break;
            }
        }
    }
    stored
}

/// What is stored of any of these words.
async fn stored_of(world: &World, words: &[&str]) -> Vec<String> {
    let mut stored = all_that_is_stored(world).await;
    stored.retain(|item| words.iter().any(|word| item.contains(word)));
    stored
}

/// Bodies are compressed, so a kept one can't be searched for words: all keys of bodies.
async fn bodies(world: &World) -> usize {
    let stored = all_that_is_stored(world).await;
    stored.iter().filter(|item| item.contains("\"body#")).count()
}

pub(crate) fn call_of(id: &str, number: &str, minute: u32) -> Value {
    let at = format!("2026-11-20T10:{minute:02}:00Z");
    let mut body = phone_call(id, &at, &at);
    body["data"]["metadata"]["phone_call"]["external_number"] = json!(number);
    body["data"]["metadata"]["termination_reason"] = json!("Mr Smith hung up");
    body["data"]["conversation_initiation_client_data"]["dynamic_variables"] =
        json!({ "utm_campaign": "smith" });
    body
}

/// A customer with three calls, one credited to a campaign as a contact, one by a person and
/// converted, and with traces in the log; and another customer. The campaigns.
pub(crate) async fn two_customers(world: &World) -> [String; 2] {
    world.stack.clock().set("2026-11-21T12:00:00Z".parse().unwrap());
    let mailing = world.campaign("Spring mailing").await;
    let radio = world.campaign("Radio").await;
    let contacts = json!({ "contacts": [{ "number": NUMBER }, { "number": OTHER }] });
    let path = format!("/api/campaigns/{mailing}/contacts");
    world.send(Method::POST, &path, &contacts).await.expect(200);
    for (minute, (id, number)) in [
        ("conv_a", NUMBER),
        ("conv_b", NUMBER),
        ("conv_c", NUMBER),
        ("conv_other", OTHER),
    ]
    .into_iter()
    .enumerate()
    {
        let call = call_of(id, number, u32::try_from(minute).unwrap());
        assert_eq!(world.deliver_ok(call.to_string()).await, "stored");
    }
    let mut newer = call_of("conv_a", NUMBER, 0);
    newer["event_timestamp"] = json!(1_795_262_417);
    assert_eq!(world.deliver_ok(newer.to_string()).await, "updated");
    let mut audio = event_json("webhook/audio.json");
    audio["data"]["conversation_id"] = json!("conv_a");
    world.deliver_ok(audio.to_string()).await;
    let unknown = json!({ "type": "voice_removal_notice", "data": { "caller": NUMBER } });
    world.deliver_ok(unknown.to_string()).await;
    let unparsed = format!("{{\"type\":\"post_call_transcription\",\"to\":\"{NUMBER}\"");
    assert_eq!(world.deliver_ok(unparsed).await, "unparsed");
    let repeated = r#"{"type":"post_call_transcription","data":{"conversation_id":"conv_a","conversation_id":"conv_a"}}"#;
    assert_eq!(world.deliver_ok(repeated).await, "unparsed");

    for campaign in [&mailing, &radio] {
        let credit = json!({ "campaign_id": campaign, "reason": "Mr Smith heard it" });
        let path = "/api/calls/conv_b/attribution";
        world.send(Method::PUT, path, &credit).await.expect(200);
    }
    // The rules are asked again while the customer is no contact, and once more after that.
    let contact = json!({ "contacts": [{ "number": NUMBER }] });
    let path = format!("/api/campaigns/{mailing}/contacts");
    let number = format!("{path}/%2B16125550187");
    for (method, path) in [(Method::DELETE, &number), (Method::POST, &path)] {
        world.send(method, path, &contact).await.expect(200);
        let window = json!({ "from": "2026-11-01", "to": "2026-12-01", "dry_run": false });
        let asked = world
            .send(Method::POST, "/api/reattributions", &window)
            .await
            .expect(200);
        assert_eq!(asked["moved"].as_array().unwrap().len(), 2, "{asked}");
    }
    let converted = json!({ "converted": true, "reason": "Mr Smith bought" });
    let path = "/api/calls/conv_c/conversion";
    world.send(Method::PUT, path, &converted).await.expect(200);
    [mailing, radio]
}

/// What a marketing team counts, but for customers.
async fn totals(world: &World) -> Vec<Value> {
    let path = "/api/reports/summary?group_by=campaign&from=2026-11-01&to=2026-12-01";
    let mut summary = world.get(path).await.expect(200);
    let mut rows: Vec<Value> = serde_json::from_value(summary["rows"].take()).unwrap();
    for row in &mut rows {
        let row = row.as_object_mut().unwrap();
        assert!(row.remove("first_time_customers").is_some() & row.remove("repeat_customers").is_some());
    }
    assert!(!rows.is_empty());
    rows
}

#[tokio::test]
async fn an_erased_customer_leaves_calls_that_count_and_nothing_else() {
    let world = World::new().await;
    let [mailing, radio] = two_customers(&world).await;
    let before = totals(&world).await;
    let others = world.call("conv_other").await;
    let all = bodies(&world).await;

    // By default it is only counted.
    let request = json!({ "customer_number": "+1 (612) 555-0187" });
    let counted = erase(&world, &request).await.expect(200);
    assert_eq!(counted["dry_run"], true);
    assert_eq!(bodies(&world).await, all);

    let receipt = erase_for_good(&world, NUMBER).await;
    for about in ["call_ids", "bodies", "contacts", "deliveries"] {
        assert_eq!(receipt[about], counted[about], "{about}");
    }
    assert_eq!(receipt["call_ids"], json!(["conv_a", "conv_b", "conv_c"]));
    assert_eq!(receipt["bodies"], 4 + 3, "of calls, and of the log");
    assert_eq!(receipt["contacts"], 1);
    assert_eq!(receipt["deliveries"], 4 + 4);
    let places: Vec<&str> = (receipt["remains"].as_array().unwrap().iter())
        .map(|remainder| remainder["place"].as_str().unwrap())
        .collect();
    assert_eq!(
        places,
        ["point_in_time_recovery", "marks", "logs", "elevenlabs", "copies"]
    );
    assert_eq!(receipt["remains"][0]["until"], "2026-12-26T12:00:00Z");
    assert_eq!(receipt["remains"][2]["until"], "2026-12-21T12:00:00Z");

    let words = [
        "6125550187",
        "conv_a",
        "conv_b",
        "conv_c",
        "Mr Smith heard",
        "Mr Smith bought",
    ];
    assert_eq!(stored_of(&world, &words).await, [""; 0]);
    assert_eq!(bodies(&world).await, all - 7);
    assert_eq!(world.get("/api/calls/conv_a").await.error().0, 404);
    assert_eq!(world.calls("customer_number=%2B16125550187").await.len(), 0);

    // What stays counts as before.
    assert_eq!(totals(&world).await, before);
    let calls = world.calls("").await;
    assert_eq!(calls.len(), 4);
    for call in calls.iter().filter(|call| call["id"] != "conv_other") {
        let id = call["id"].as_str().unwrap();
        assert!(id.starts_with("erased_"), "{id}");
        let call = world.call(id).await;
        for gone in ["customer_number", "termination_reason", "summary"] {
            assert_eq!(call[gone], Value::Null, "{gone}");
        }
        assert_eq!(call["transcript"], json!([]));
        let credit = if call["started_at"] == "2026-11-20T10:01:00Z" {
            &radio
        } else {
            &mailing
        };
        assert_eq!(call["attribution"]["campaign_id"], *credit);
        for entry in call["history"].as_array().unwrap() {
            assert_eq!(entry["reason"], Value::Null);
        }
        assert_eq!(world.get(&format!("/api/calls/{id}/raw")).await.error().0, 404);
    }
    assert_eq!(world.call("conv_other").await, others);
    let contacts = world
        .walk(&format!("/api/campaigns/{mailing}/contacts"), "contacts", "")
        .await;
    assert_eq!(contacts.len(), 1);

    // A second time there is nothing left.
    let again = erase_for_good(&world, NUMBER).await;
    assert_eq!((&again["call_ids"], &again["bodies"]), (&json!([]), &json!(0)));
    world.end().await;
}

#[tokio::test]
async fn what_stays_of_a_call_keeps_its_credit_and_can_be_decided_about() {
    let world = World::new().await;
    let [mailing, radio] = two_customers(&world).await;
    let all = json!({ "from": "2026-11-01", "to": "2026-12-01", "dry_run": false });
    // An assignment before the erasure can't be undone for calls that are gone.
    let bulk = json!({ "campaign_id": radio, "call_ids": ["conv_a", "conv_other"] });
    let bulk = world
        .send(Method::POST, "/api/assignments", &bulk)
        .await
        .expect(200);
    erase_for_good(&world, NUMBER).await;
    let undo = format!(
        "/api/assignments/{}/undo",
        bulk["assignment_id"].as_str().unwrap()
    );
    let undone = world.send(Method::POST, &undo, &json!({})).await.expect(200);
    let ids: Vec<&Value> = (undone["outcomes"].as_array().unwrap().iter())
        .map(|outcome| &outcome["call_id"])
        .collect();
    assert_eq!(ids, ["conv_other"]);

    // The rules, asked again, know no more why it was credited to anybody.
    let before = totals(&world).await;
    let reattributed = world
        .send(Method::POST, "/api/reattributions", &all)
        .await
        .expect(200);
    assert_eq!(reattributed["moved"], json!([]));
    assert_eq!(totals(&world).await, before);

    let erased = world.calls(&format!("campaign_id={mailing}")).await;
    let is_erased = |call: &&Value| call["id"].as_str().unwrap().starts_with("erased_");
    let id = erased.iter().find(is_erased).unwrap()["id"].as_str().unwrap();
    let path = format!("/api/calls/{id}/attribution");
    let call = world
        .send(Method::PUT, &path, &json!({ "campaign_id": radio }))
        .await
        .expect(200);
    assert_eq!(call["attribution"]["campaign_id"], radio);
}

#[tokio::test]
async fn an_erased_call_does_not_come_back() {
    let provider = Provider::start().await;
    let world = world_of(&provider).await;
    let conversation = Conversation::new("conv_1", "agent_1", "2026-11-20T10:00:00Z");
    let number = conversation.numbers.1.clone();
    let body = conversation.delivery("2026-11-20T10:05:00Z");
    provider.put(conversation);
    world.deliver_ok(body.clone()).await;
    world.sync().await;
    let row = world.sync_view().await["ledger"].take();
    erase_for_good(&world, &number).await;

    // The same, a newer version, the audio, and something new about it.
    let mut newer: Value = serde_json::from_str(&body).unwrap();
    newer["event_timestamp"] = json!(1_795_262_417);
    let mut audio = event_json("webhook/audio.json");
    audio["data"]["conversation_id"] = json!("conv_1");
    let other = json!({ "type": "new_kind", "data": { "conversation_id": "conv_1", "text": "x" } });
    for late in [body, newer.to_string(), audio.to_string(), other.to_string()] {
        let answer = world.deliver(late).await.expect(200);
        assert_eq!(answer["result"], "ignored");
        assert_eq!(answer["conversation_id"], Value::Null);
        let entry = &world.deliveries().await[0];
        assert_eq!(entry["reason"], "erased", "{entry}");
        assert_eq!(entry["body_kept"], false);
    }
    // What the provider lists is known to be here, and not fetched again.
    provider.asked();
    let status = world.sync().await;
    assert_eq!(status["last_run"]["missing"], 0, "{status}");
    let asked = provider.asked();
    assert!(
        asked.iter().all(|asked| !asked.path.contains("conv_1")),
        "{asked:?}"
    );
    let mut after = world.sync_view().await["ledger"].take();
    after[0]["checked_at"] = row[0]["checked_at"].clone();
    assert_eq!(after, row);

    assert_eq!(stored_of(&world, &["conv_1", &number]).await, [""; 0]);
    assert_eq!(bodies(&world).await, 0);
    assert_eq!(world.calls("").await.len(), 1);

    // Another call of the same customer is another matter.
    let mut call = phone_call("conv_2", "2026-11-21T10:00:00Z", "2026-11-21T10:05:00Z");
    call["data"]["metadata"]["phone_call"]["external_number"] = json!(number);
    assert_eq!(world.deliver_ok(call.to_string()).await, "stored");
}

#[tokio::test]
async fn a_late_delivery_that_fails_names_no_erased_call_either() {
    let world = World::new().await;
    two_customers(&world).await;
    erase_for_good(&world, NUMBER).await;
    // What stays of calls can't be read, or else the campaigns' data.
    for (before, broken) in ["CallsTable", "CampaignsTable"].into_iter().enumerate() {
        world.stack.dynamodb().inject(move |request| {
            let is_read = request.operation.contains("Get") && request.table() == broken;
            is_read.then_some(Fault::Throttled)
        });
        let late = world.deliver(call_of("conv_a", NUMBER, 0).to_string()).await;
        assert_eq!(late.error(), (503, "unavailable".to_owned()), "{broken}");
        world.stack.dynamodb().heal();
        let log = world.deliveries().await;
        let failed = log.iter().filter(|entry| entry["result"] == "failed");
        assert_eq!(failed.count(), before + 1, "{broken}");
        assert_eq!(stored_of(&world, &["conv_a"]).await, [""; 0], "{broken}");
    }
}

#[tokio::test]
async fn a_delivery_that_is_under_way_does_not_undo_an_erasure() {
    // A newer version is held up at its head, an older one brings nothing but its body.
    for (version, held_up) in [(1_795_262_418, "head"), (1_000_000_000, "body#")] {
        let world = World::new().await;
        two_customers(&world).await;
        let mut other = call_of("conv_a", NUMBER, 0);
        other["event_timestamp"] = json!(version);
        let reached = Arc::new(tokio::sync::Notify::new());
        let reaches = Arc::clone(&reached);
        world.stack.dynamodb().inject(move |request: &StoreRequest| {
            let is_late = request.operation == "PutItem"
                && request.key("call_id") == "conv_a"
                && request.key("part").starts_with(held_up)
                && request.body["Item"]["erased"].is_null();
            is_late.then(|| {
                reaches.notify_one();
                Fault::Delayed(Duration::from_millis(1500))
            })
        });
        let delivery = world.deliver(other.to_string());
        let erasure = async {
            reached.notified().await;
            erase_for_good(&world, NUMBER).await
        };
        let (delivery, receipt) = tokio::join!(delivery, erasure);
        assert_eq!(receipt["call_ids"], json!(["conv_a", "conv_b", "conv_c"]));
        assert_eq!(delivery.expect(200)["result"], "ignored");
        world.stack.dynamodb().heal();
        let left = stored_of(&world, &["6125550187", "body#", "conv_a"]).await;
        let of_others = |item: &&String| item.contains("conv_other");
        assert_eq!(left.iter().filter(|item| !of_others(item)).count(), 0, "{left:?}");
        assert_eq!(world.calls("").await.len(), 4);
    }
}

#[tokio::test]
async fn an_erasure_that_breaks_off_anywhere_is_completed_by_asking_again() {
    for (breaks, survives) in (0..).step_by(9).enumerate() {
        let world = World::new().await;
        two_customers(&world).await;
        let before = totals(&world).await;
        let asked = AtomicUsize::new(0);
        world.stack.dynamodb().inject(move |_| {
            let number = asked.fetch_add(1, Ordering::SeqCst);
            (number >= survives).then_some(if number.is_multiple_of(2) {
                Fault::CutAfter
            } else {
                Fault::Throttled
            })
        });
        let request = json!({ "customer_number": NUMBER, "dry_run": false });
        let answer = erase(&world, &request).await;
        world.stack.dynamodb().heal();
        let is_through = answer.status == 200;
        assert!(is_through || answer.status == 503, "{answer:?}");
        assert_eq!(
            totals(&world).await,
            before,
            "broken off after {survives} requests"
        );
        erase_for_good(&world, NUMBER).await;
        assert_eq!(totals(&world).await, before);
        let words = ["6125550187", "conv_a", "conv_b", "conv_c", "Mr Smith heard"];
        assert_eq!(stored_of(&world, &words).await, [""; 0], "after {survives}");
        if is_through {
            assert!(breaks > 3, "it was broken off in earnest");
            return;
        }
    }
}

#[tokio::test]
async fn an_erasure_comes_to_its_end_though_one_page_of_the_log_after_another_fails() {
    let world = World::new().await;
    two_customers(&world).await;
    let failed = AtomicUsize::new(0);
    // Six requests after each other are two operations, each with what the SDK repeats.
    world.stack.dynamodb().inject(move |request| {
        let is_page = request.operation == "Query" && request.table() == "DeliveriesTable";
        (is_page && failed.fetch_add(1, Ordering::SeqCst) % 60 < 6).then_some(Fault::InternalError)
    });
    let receipt = erase_for_good(&world, NUMBER).await;
    assert_eq!(receipt["call_ids"], json!(["conv_a", "conv_b", "conv_c"]));
    world.stack.dynamodb().heal();
    assert_eq!(stored_of(&world, &["6125550187", "conv_a"]).await, [""; 0]);
}

#[tokio::test]
async fn a_customer_with_hundreds_of_calls_is_erased_page_by_page() {
    let world = World::new().await;
    deliver_many(&world, 203).await;
    let mut request = json!({ "customer_number": NUMBER });
    for dry_run in [true, false] {
        request["dry_run"] = json!(dry_run);
        let first = erase(&world, &request).await.expect(200);
        assert_eq!(first["call_ids"].as_array().unwrap().len(), 200);
        let cursor = first["next_cursor"].as_str().unwrap();
        let mut other = request.clone();
        other["cursor"] = json!(cursor);
        let last = erase(&world, &other).await.expect(200);
        assert_eq!(last["call_ids"].as_array().unwrap().len(), 3);
        assert_eq!(last["next_cursor"], Value::Null);
        for counted in ["bodies", "deliveries"] {
            let sum = first[counted].as_u64().unwrap() + last[counted].as_u64().unwrap();
            assert_eq!(sum, 203, "{counted}");
        }
        other["customer_number"] = json!(OTHER);
        assert_eq!(
            erase(&world, &other).await.error(),
            (400, "invalid_cursor".to_owned())
        );
    }
    assert_eq!(
        stored_of(&world, &["6125550187", "conv_", "body#"]).await,
        [""; 0]
    );
    assert_eq!(world.calls("").await.len(), 203);
}

#[tokio::test]
async fn a_log_that_takes_too_long_to_read_is_gone_on_with() {
    let world = World::new().await;
    two_customers(&world).await;
    // Two pages of months, each of which takes its time.
    world.stack.clock().set("2028-12-01T12:00:00Z".parse().unwrap());
    world.stack.dynamodb().inject(|request: &StoreRequest| {
        let is_of_log = request.operation == "Query" && request.table() == "DeliveriesTable";
        is_of_log.then_some(Fault::Delayed(Duration::from_millis(700)))
    });
    let mut request = json!({ "customer_number": NUMBER, "dry_run": false });
    let first = erase(&world, &request).await.expect(200);
    assert_eq!(first["call_ids"], json!([]), "the log goes first");
    world.stack.dynamodb().heal();
    assert_eq!(world.calls("customer_number=%2B16125550187").await.len(), 3);
    request["cursor"] = first["next_cursor"].clone();
    let last = erase(&world, &request).await.expect(200);
    assert_eq!(last["call_ids"], json!(["conv_a", "conv_b", "conv_c"]));
    assert_eq!(last["next_cursor"], Value::Null);
}

#[tokio::test]
async fn a_customer_is_found_by_a_number_that_was_received_without_its_country() {
    let world = World::with(Options::default().parameter("DefaultCountry", "US")).await;
    let national = "6128675309";
    for (id, number) in [("conv_1", national), ("conv_2", "+16128675309")] {
        world.deliver_ok(call_of(id, number, 0).to_string()).await;
    }
    // As it was stored before anybody said in which country.
    let key = json!({ "call_id": { "S": "conv_1" }, "part": { "S": "head" } });
    let found = world
        .ask_store("GetItem", &json!({ "TableName": "CallsTable", "Key": key }))
        .await;
    let mut item = found["Item"].clone();
    item["customer_number"] = json!({ "S": national });
    world
        .ask_store("PutItem", &json!({ "TableName": "CallsTable", "Item": item }))
        .await;
    let request = json!({ "customer_number": "(612) 867-5309", "dry_run": false });
    let first = erase(&world, &request).await.expect(200);
    assert_eq!(first["call_ids"], json!(["conv_2"]));
    let mut rest = json!({ "customer_number": national, "dry_run": false });
    let plain = erase(&world, &rest).await.expect(200);
    rest["cursor"] = plain["next_cursor"].clone();
    let last = erase(&world, &rest).await.expect(200);
    assert_eq!(
        (&last["call_ids"], &last["next_cursor"]),
        (&json!(["conv_1"]), &Value::Null)
    );
}

#[tokio::test]
async fn a_person_erases_a_customer_from_a_call_and_gets_a_receipt() {
    let world = World::new().await;
    two_customers(&world).await;
    let page_of = |answer: Answer| String::from_utf8(answer.body).unwrap();
    let customer = [("customer_number", NUMBER)];
    let mut viewer = Browser::new(&world);
    viewer.sign_in(VIEWER).await;
    assert!(!viewer.page("/calls/conv_a").await.contains("Erase"));
    let refused = viewer.submit_from("/calls/conv_a", "/erasures", &customer).await;
    assert_eq!(refused.status, 403);

    let mut browser = Browser::new(&world);
    browser.sign_in(ANNA).await;
    assert!(
        browser
            .page("/calls/conv_a")
            .await
            .contains("Erase this customer")
    );
    let preview = browser
        .submit_from("/calls/conv_a", "/erasures/preview", &customer)
        .await;
    let preview = page_of(preview);
    assert!(preview.contains("Erase +1 612-555-0187?"), "{preview}");
    assert!(preview.contains("text and id go</dt><dd>3</dd>"), "{preview}");
    assert_eq!(world.calls("customer_number=%2B16125550187").await.len(), 3);

    let receipt = browser
        .submit_from("/erasures/preview", "/erasures", &customer)
        .await;
    let receipt = page_of(receipt);
    for words in [
        "is erased",
        "<code>conv_a</code>",
        "until 26 Dec 2026",
        "until you delete it",
    ] {
        assert!(receipt.contains(words), "{words}: {receipt}");
    }
    assert_eq!(stored_of(&world, &["6125550187", "conv_a"]).await, [""; 0]);
    for call in world.calls("").await {
        let page = browser
            .page(&format!("/calls/{}", call["id"].as_str().unwrap()))
            .await;
        assert!(!page.contains("still on its way"), "{page}");
    }
    assert_eq!(browser.get("/erasures").await.header("location"), "/calls");
}

#[tokio::test]
async fn who_is_not_one_customer_is_not_erased() {
    let world = World::new().await;
    two_customers(&world).await;
    for (request, field) in [
        (json!({}), "customer_number"),
        (json!({ "customer_number": "" }), "customer_number"),
        (json!({ "customer_number": "anonymous" }), "customer_number"),
        (json!({ "customer_number": NUMBER, "all": true }), "all"),
        (json!({ "customer_number": NUMBER, "cursor": "AAAA" }), "cursor"),
    ] {
        let answer = erase(&world, &request).await;
        let told = answer.expect(400);
        assert!(
            told["error"]["message"].as_str().unwrap().contains(field),
            "{request}: {told}"
        );
    }
    assert_eq!(world.calls("customer_number=%2B16125550187").await.len(), 3);
}
