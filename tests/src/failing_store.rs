//! The store fails at any one request of a delivery: the sender hears 503 and
//! tries again, and what was half written breaks nothing.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use local::dynamodb::{Fault, StoreRequest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, event, phone_call};

/// What a request is for, the same for every delivery.
fn purpose(request: &StoreRequest) -> String {
    let part = request
        .key("part")
        .split('#')
        .next()
        .unwrap_or_default()
        .to_owned();
    format!("{} {} {part}", request.operation, request.table())
}

fn body(id: &str) -> Vec<u8> {
    phone_call(id, "2026-11-20T10:00:00Z", "2026-11-20T10:02:00Z")
        .to_string()
        .into_bytes()
}

async fn purposes_of_a_delivery() -> BTreeSet<String> {
    let world = World::new().await;
    world.stack.dynamodb().record();
    world.deliver_ok(body("conv_1")).await;
    world.stack.dynamodb().recorded().iter().map(purpose).collect()
}

#[tokio::test]
async fn a_delivery_makes_the_requests_that_are_broken_below() {
    let expected = [
        "BatchGetItem CampaignsTable ",
        "GetItem CallsTable body",
        "GetItem CallsTable erasure_key",
        "GetItem CallsTable head",
        "GetItem CallsTable months",
        "PutItem CallsTable body",
        "PutItem CallsTable head",
        "PutItem DeliveriesTable ",
        "Query CampaignsTable ",
        "UpdateItem CallsTable months",
    ];
    assert_eq!(
        purposes_of_a_delivery().await,
        BTreeSet::from(expected.map(str::to_owned))
    );
}

#[tokio::test]
async fn each_request_failing_costs_no_call_and_the_next_attempt_completes_it() {
    for fault in [
        Fault::Throttled,
        Fault::InternalError,
        Fault::CutBefore,
        Fault::CutAfter,
        Fault::LeftOver,
    ] {
        for broken in purposes_of_a_delivery().await {
            if fault == Fault::LeftOver && !broken.starts_with("BatchGetItem") {
                continue;
            }
            let world = World::new().await;
            let what = format!("{fault:?} at {broken}");
            let log_only = broken.contains("DeliveriesTable");
            world
                .stack
                .dynamodb()
                .inject(move |request| (purpose(request) == broken).then_some(fault));
            let answer = world.deliver(body("conv_1")).await;
            if log_only {
                assert_eq!(answer.status, 200, "{what}: a failed log write changes no answer");
            } else {
                assert_eq!(answer.error(), (503, "unavailable".to_owned()), "{what}");
            }
            world.stack.dynamodb().heal();

            // Whatever was half written, everything can be read.
            for call in world.calls("").await {
                world.call(call["id"].as_str().unwrap()).await;
            }
            world.deliveries().await;

            let result = world.deliver_ok(body("conv_1")).await;
            assert!(result == "stored" || result == "duplicate", "{what}: {result}");
            let calls = world.calls("").await;
            assert_eq!(calls.len(), 1, "{what}");
            let call = world.call("conv_1").await;
            assert_eq!(call["transcript"][0]["message"], "Hello", "{what}");
            let raw = world.get("/api/calls/conv_1/raw").await;
            assert_eq!(raw.body, body("conv_1"), "{what}");
            assert_eq!(world.deliver_ok(body("conv_1")).await, "duplicate", "{what}");
        }
    }
}

#[tokio::test]
async fn a_failed_delivery_is_in_the_log_as_failed() {
    let world = World::new().await;
    world
        .stack
        .dynamodb()
        .inject(|request| (purpose(request) == "PutItem CallsTable head").then_some(Fault::Throttled));
    assert_eq!(world.deliver(body("conv_1")).await.status, 503);
    let entry = &world.deliveries().await[0];
    assert_eq!(
        (
            &entry["result"],
            &entry["status"],
            &entry["reason"],
            &entry["conversation_id"]
        ),
        (
            &json!("failed"),
            &json!(503),
            &json!("unavailable"),
            &json!("conv_1")
        )
    );
}

#[tokio::test]
async fn a_passing_fault_is_not_felt_by_the_sender() {
    let world = World::new().await;
    let hits = AtomicUsize::new(0);
    world.stack.dynamodb().inject(move |request| {
        let hit = purpose(request) == "PutItem CallsTable head" && hits.fetch_add(1, Ordering::SeqCst) < 2;
        hit.then_some(Fault::Throttled)
    });
    assert_eq!(world.deliver_ok(body("conv_1")).await, "stored");
}

/// All of a batch but one key of several is left over, again and again.
fn in_parts(request: &StoreRequest) -> Option<Fault> {
    let tables = request.body["RequestItems"].as_object()?;
    let keys = tables.values().filter_map(|table| table["Keys"].as_array());
    (keys.map(Vec::len).sum::<usize>() > 1).then_some(Fault::LeftOver)
}

#[tokio::test]
async fn campaign_data_that_comes_in_parts_is_asked_for_after_pauses_and_judged_whole() {
    let world = World::new().await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    let by_number = world.campaign("Spring mailing").await;
    world.assign(&by_number, "+16125550142", &ever).await.expect(200);
    let by_agent = world.campaign("Reception").await;
    let agent = format!("/api/campaigns/{by_agent}/agents/agent_1");
    world.send(Method::PUT, &agent, &ever).await.expect(200);

    let store = world.stack.dynamodb();
    store.inject(in_parts);
    store.record();
    world.deliver_ok(body("conv_number")).await;
    let mut parts = store.recorded();
    parts.retain(|request| request.operation == "BatchGetItem");
    assert_eq!(parts.len(), 3, "archived campaigns, the number, the agent");
    for (round, pair) in (1..).zip(parts.windows(2)) {
        let pause = pair[1].started - pair[0].finished;
        assert!(pause >= Duration::from_millis(5) * round, "{pause:?}");
    }
    let mut other = phone_call("conv_agent", "2026-11-20T10:00:00Z", "2026-11-20T10:02:00Z");
    other["data"]["metadata"]["phone_call"]["agent_number"] = json!("+16125550143");
    world.deliver_ok(other.to_string()).await;
    let archived = json!({ "status": "archived" });
    let path = format!("/api/campaigns/{by_number}");
    world.send(Method::PATCH, &path, &archived).await.expect(200);
    world.deliver_ok(body("conv_archived")).await;

    for (call, campaign) in [
        ("conv_number", &by_number),
        ("conv_agent", &by_agent),
        ("conv_archived", &by_agent),
    ] {
        let attribution = &world.call(call).await["attribution"];
        assert_eq!(attribution["campaign_id"], json!(campaign), "{call}");
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_answered_503_while_the_sender_still_listens() {
    let world = World::new().await;
    world.stack.dynamodb().inject(|request| {
        (request.operation == "PutItem").then_some(Fault::Delayed(Duration::from_secs(30)))
    });
    let began = std::time::Instant::now();
    assert_eq!(
        world.deliver(body("conv_1")).await.error(),
        (503, "unavailable".to_owned())
    );
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_cannot_be_understood_is_not_accepted_before_it_is_kept() {
    let world = World::new().await;
    for part in ["PutItem DeliveriesTable "] {
        world
            .stack
            .dynamodb()
            .inject(move |request| (purpose(request) == part).then_some(Fault::InternalError));
        for body in [b"not json".to_vec(), event("webhook/unknown_kind.json")] {
            assert_eq!(world.deliver(body).await.error(), (503, "unavailable".to_owned()));
        }
    }
    world.stack.dynamodb().heal();
    assert_eq!(world.deliver_ok("not json").await, "unparsed");
    // A failing log never turns audio, which is not kept, away.
    world
        .stack
        .dynamodb()
        .inject(|request| (purpose(request) == "PutItem DeliveriesTable ").then_some(Fault::InternalError));
    assert_eq!(world.deliver_ok(event("webhook/audio.json")).await, "ignored");
}

#[tokio::test]
async fn a_refusal_stands_when_it_can_neither_be_counted_nor_logged() {
    let world = World::new().await;
    world.stack.dynamodb().inject(|_| Some(Fault::InternalError));
    let answer = world.post(&[("content-type", "application/json")], "{}").await;
    assert_eq!(answer.error(), (401, "missing_signature".to_owned()));
}

#[tokio::test]
async fn a_reader_hears_503_and_nothing_of_the_cause() {
    let world = World::new().await;
    world.stack.dynamodb().inject(|_| Some(Fault::InternalError));
    for path in [
        "/api/calls",
        "/api/calls/conv_1",
        "/api/deliveries",
        "/api/campaigns",
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.error(), (503, "unavailable".to_owned()), "{path}");
        let message: Value = answer.json()["error"]["message"].clone();
        assert_eq!(message, "temporarily out of service: try again", "{path}");
    }
}

#[tokio::test]
async fn no_body_is_kept_that_no_entry_of_the_log_tells_of_and_no_entry_promises_one_that_is_not() {
    for fault in [Fault::Throttled, Fault::CutAfter] {
        for survives in 0..4 {
            let world = World::new().await;
            let asked = AtomicUsize::new(0);
            world.stack.dynamodb().inject(move |request| {
                let is_of_log = request.table() == "DeliveriesTable";
                (is_of_log && asked.fetch_add(1, Ordering::SeqCst) >= survives).then_some(fault)
            });
            let answer = world.deliver("not JSON").await;
            assert_eq!(answer.status, if survives < 3 { 503 } else { 200 }, "{survives}");
            world.stack.dynamodb().heal();
            let stored = world
                .ask_store("Scan", &json!({ "TableName": "DeliveriesTable" }))
                .await;
            let stored = stored["Items"].as_array().unwrap();
            for body in stored.iter().filter(|item| item["zstd"].is_object()) {
                let entry = stored.iter().find(|entry| entry["sk"] == body["pk"]).unwrap();
                assert_eq!(entry["kept_body"]["S"], "in_log");
            }
            for entry in world.deliveries().await {
                let path = format!("/api/deliveries/{}/raw", entry["id"].as_str().unwrap());
                if entry["body_kept"] == true {
                    assert_eq!(world.get(&path).await.body, b"not JSON", "{entry}");
                }
            }
            assert_eq!(world.deliver_ok("not JSON").await, "unparsed");
        }
    }
}
