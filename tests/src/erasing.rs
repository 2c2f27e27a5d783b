//! Erasing a customer: the person goes, the totals stay, and nothing brings either back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use local::dynamodb::{Fault, StoreRequest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::{Conversation, Provider};
use crate::support::{Answer, World, event_json, phone_call};
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
async fn all_that_is_stored(world: &World) -> Vec<String> {
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
    world.deliver_ok(unparsed).await;

    let credit = json!({ "campaign_id": radio, "reason": "Mr Smith heard it" });
    let path = "/api/calls/conv_b/attribution";
    world.send(Method::PUT, path, &credit).await.expect(200);
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
    assert_eq!(receipt["bodies"], 4 + 2, "of calls, and of the log");
    assert_eq!(receipt["contacts"], 1);
    assert_eq!(receipt["deliveries"], 4 + 3);
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
    assert_eq!(bodies(&world).await, all - 6);
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

fn writes_head_of(request: &StoreRequest, id: &str) -> bool {
    request.operation == "PutItem" && request.key("part") == "head" && request.key("call_id") == id
}

#[tokio::test]
async fn a_delivery_that_is_under_way_does_not_undo_an_erasure() {
    let world = World::new().await;
    two_customers(&world).await;
    let mut newer = call_of("conv_a", NUMBER, 0);
    newer["event_timestamp"] = json!(1_795_262_418);
    // It has read the head, and its writes are slow.
    let reached = Arc::new(tokio::sync::Notify::new());
    let reaches = Arc::clone(&reached);
    world.stack.dynamodb().inject(move |request| {
        writes_head_of(request, "conv_a").then(|| {
            reaches.notify_one();
            Fault::Delayed(Duration::from_millis(900))
        })
    });
    let delivery = world.deliver(newer.to_string());
    let erasure = async {
        reached.notified().await;
        erase_for_good(&world, NUMBER).await
    };
    let (delivery, receipt) = tokio::join!(delivery, erasure);
    assert_eq!(receipt["call_ids"], json!(["conv_a", "conv_b", "conv_c"]));
    assert_eq!(delivery.expect(200)["result"], "ignored");
    world.stack.dynamodb().heal();
    let left = stored_of(&world, &["6125550187", "body#", "conv_a"]).await;
    let of_log = |item: &&String| item.contains("2026-11#") && !item.contains("erased");
    let of_others = |item: &&String| item.contains("conv_other") || of_log(item);
    assert_eq!(left.iter().filter(|item| !of_others(item)).count(), 0, "{left:?}");
}

#[tokio::test]
async fn an_erasure_that_breaks_off_anywhere_is_completed_by_asking_again() {
    for (breaks, survives) in (0..).step_by(5).enumerate() {
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
            assert!(breaks > 5, "it was broken off in earnest");
            return;
        }
    }
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
