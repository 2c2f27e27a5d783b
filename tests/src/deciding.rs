//! What people decide about calls stands, whatever the machines say, and can be
//! taken back.

use jiff::SignedDuration;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, phone_call};

/// A call of 20 November, told at a time, with an outcome.
fn told_at(id: &str, event_at: &str, outcome: &str) -> String {
    let mut body = phone_call(id, "2026-11-20T10:00:00Z", event_at);
    body["data"]["analysis"]["call_successful"] = json!(outcome);
    body.to_string()
}

async fn put(world: &World, path: &str, body: Value) -> Value {
    world.send(Method::PUT, path, &body).await.expect(200)
}

async fn delete(world: &World, path: &str) -> Value {
    world.request(Method::DELETE, path, &[], "").await.expect(200)
}

fn tick(world: &World) {
    world.stack.clock().advance(SignedDuration::from_secs(1));
}

#[tokio::test]
async fn a_person_credits_a_call_and_returns_it_to_automatic() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &ever).await.expect(200);
    world
        .deliver_ok(told_at("conv_1", "2026-11-20T10:02:00Z", "failure"))
        .await;

    world.stack.clock().set("2026-11-22T10:00:00Z".parse().unwrap());
    let path = "/api/calls/conv_1/attribution";
    let body = json!({ "campaign_id": b, "reason": "She named the postcard." });
    let answer = put(&world, path, body.clone()).await;
    let call = world.call("conv_1").await;
    assert_eq!(answer["attribution"], call["attribution"]);
    assert_eq!(
        call["attribution"],
        json!({
            "status": "attributed", "campaign_id": b, "campaign_name": "B", "method": "manual",
            "by": "local-script", "at": "2026-11-22T10:00:00Z", "evidence": null,
            "candidates": [{ "campaign_id": a, "campaign_name": "A", "method": "tracking_number" }],
        })
    );
    assert_eq!(call["updated_at"], "2026-11-22T10:00:00Z");
    // Lists know it at once, by every way.
    for (query, ids) in [
        (format!("campaign_id={a}"), vec![]),
        (format!("campaign_id={b}"), vec!["conv_1"]),
        ("attribution=attributed".to_owned(), vec!["conv_1"]),
        (String::new(), vec!["conv_1"]),
    ] {
        let calls = world.calls(&query).await;
        let found: Vec<&str> = calls.iter().map(|call| call["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }
    assert_eq!(world.calls("").await[0]["attribution"]["by"], "local-script");

    // The same again decides nothing.
    tick(&world);
    let again = put(&world, path, body).await;
    assert_eq!(again["assignment_id"], Value::Null);
    assert_eq!(again["attribution"]["at"], "2026-11-22T10:00:00Z");

    // To nobody, then back to the rules.
    let nobody = put(&world, path, json!({ "campaign_id": null })).await;
    assert_eq!(nobody["attribution"]["status"], "unattributed");
    assert_eq!(nobody["attribution"]["method"], "manual");
    tick(&world);
    let rules = delete(&world, path).await;
    assert_eq!(rules["attribution"]["campaign_id"], json!(a));
    assert_eq!(rules["attribution"]["method"], "tracking_number");
    assert_eq!(rules["attribution"]["by"], "automatic");

    let history = world.call("conv_1").await["history"].clone();
    let credit = |status: &str, campaign: Option<&String>, method: &str| json!({ "status": status, "campaign_id": campaign, "method": method });
    assert_eq!(
        history,
        json!([
            {
                "at": "2026-11-22T10:00:02Z", "by": "local-script", "action": "attribution",
                "from": credit("unattributed", None, "manual"),
                "to": credit("attributed", Some(&a), "tracking_number"),
                "reason": null, "assignment_id": rules["assignment_id"],
            },
            {
                "at": "2026-11-22T10:00:01Z", "by": "local-script", "action": "attribution",
                "from": credit("attributed", Some(&b), "manual"),
                "to": credit("unattributed", None, "manual"),
                "reason": null, "assignment_id": nobody["assignment_id"],
            },
            {
                "at": "2026-11-22T10:00:00Z", "by": "local-script", "action": "attribution",
                "from": credit("attributed", Some(&a), "tracking_number"),
                "to": credit("attributed", Some(&b), "manual"),
                "reason": "She named the postcard.", "assignment_id": answer["assignment_id"],
            },
        ])
    );
}

#[tokio::test]
async fn a_conversion_follows_the_outcome_until_a_person_decides() {
    let world = World::new().await;
    world
        .deliver_ok(told_at("conv_1", "2026-11-20T10:02:00Z", "failure"))
        .await;
    let conversion = async || world.call("conv_1").await["conversion"].clone();
    let automatic = |converted: bool| {
        let at = converted.then_some("2026-11-20T10:01:00Z");
        json!({ "converted": converted, "source": "automatic", "by": null, "at": at, "value": null })
    };
    assert_eq!(conversion().await, automatic(false));

    world.stack.clock().set("2026-11-22T10:00:00Z".parse().unwrap());
    let path = "/api/calls/conv_1/conversion";
    let worth = json!({ "amount": "120.00", "currency": "USD" });
    let answer = put(&world, path, json!({ "converted": true, "value": worth })).await;
    let manual = json!({
        "converted": true, "source": "manual", "by": "local-script", "at": "2026-11-22T10:00:00Z", "value": worth,
    });
    assert_eq!(answer["conversion"], manual);
    assert_eq!(conversion().await, manual);

    // Newer facts, older ones and repetitions leave it alone.
    for (event_at, result) in [
        ("2026-11-20T11:00:00Z", "updated"),
        ("2026-11-20T11:00:00Z", "duplicate"),
        ("2026-11-20T09:00:00Z", "ignored"),
    ] {
        assert_eq!(
            world.deliver_ok(told_at("conv_1", event_at, "unknown")).await,
            result
        );
        assert_eq!(conversion().await, manual);
    }
    tick(&world);
    let cleared = put(&world, path, json!({ "converted": false })).await;
    assert_eq!(cleared["conversion"]["converted"], false);
    assert_eq!(cleared["conversion"]["source"], "manual");
    // Returned to the outcome, as it is by now.
    world
        .deliver_ok(told_at("conv_1", "2026-11-20T12:00:00Z", "success"))
        .await;
    assert_eq!(conversion().await["converted"], false);
    tick(&world);
    assert_eq!(delete(&world, path).await["conversion"], automatic(true));
    assert_eq!(delete(&world, path).await["conversion"], automatic(true));

    let history = world.call("conv_1").await["history"].clone();
    let steps: Vec<_> = history
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["from"]["converted"].clone(), entry["to"].clone()))
        .collect();
    assert_eq!(
        steps,
        [
            (
                json!(false),
                json!({ "converted": true, "source": "automatic", "value": null })
            ),
            (
                json!(true),
                json!({ "converted": false, "source": "manual", "value": null })
            ),
            (
                json!(false),
                json!({ "converted": true, "source": "manual", "value": worth })
            ),
        ]
    );
}

#[tokio::test]
async fn a_decision_survives_every_delivery_of_the_call() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    world
        .deliver_ok(told_at("conv_1", "2026-11-20T10:02:00Z", "failure"))
        .await;
    put(
        &world,
        "/api/calls/conv_1/attribution",
        json!({ "campaign_id": b }),
    )
    .await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &ever).await.expect(200);
    let newer = told_at("conv_1", "2026-11-20T11:00:00Z", "success");
    assert_eq!(world.deliver_ok(newer).await, "updated");
    let call = world.call("conv_1").await;
    assert_eq!(call["outcome"], "success", "the facts are new");
    assert_eq!(
        call["attribution"]["campaign_id"],
        json!(b),
        "the decision stands"
    );
    assert_eq!(call["history"].as_array().unwrap().len(), 1);
    // What the rules say meanwhile is there when they are asked for.
    let released = delete(&world, "/api/calls/conv_1/attribution").await;
    assert_eq!(released["attribution"]["campaign_id"], json!(a));
}

#[tokio::test]
async fn a_choice_on_an_ambiguous_call_stays() {
    let world = World::new().await;
    let [a, b, c] = [
        world.campaign("A").await,
        world.campaign("B").await,
        world.campaign("C").await,
    ];
    for campaign in [&a, &b] {
        let contacts = json!({ "contacts": [{ "number": "+16125550187" }] });
        let path = format!("/api/campaigns/{campaign}/contacts");
        let added = world.send(Method::POST, &path, &contacts).await.expect(200);
        assert_eq!(added["added"], 1);
    }
    // The agent rule would name another one, but is not asked.
    put(
        &world,
        &format!("/api/campaigns/{c}/agents/agent_1"),
        json!({ "from": "2020-01-01T00:00:00Z" }),
    )
    .await;
    world
        .deliver_ok(told_at("conv_1", "2026-11-20T10:02:00Z", "failure"))
        .await;
    let attribution = world.call("conv_1").await["attribution"].clone();
    assert_eq!(attribution["status"], "ambiguous");
    assert_eq!(attribution["campaign_id"], Value::Null);
    let candidates = attribution["candidates"].as_array().unwrap();
    let mut ids: Vec<_> = candidates
        .iter()
        .map(|candidate| candidate["campaign_id"].as_str().unwrap())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, {
        let mut ids = [a.as_str(), b.as_str()];
        ids.sort_unstable();
        ids
    });
    assert!(
        candidates
            .iter()
            .all(|candidate| candidate["method"] == "contact")
    );
    assert_eq!(world.calls("attribution=ambiguous").await.len(), 1);

    put(
        &world,
        "/api/calls/conv_1/attribution",
        json!({ "campaign_id": a }),
    )
    .await;
    assert_eq!(world.calls("attribution=ambiguous").await.len(), 0);
    world
        .deliver_ok(told_at("conv_1", "2026-11-20T11:00:00Z", "failure"))
        .await;
    let attribution = world.call("conv_1").await["attribution"].clone();
    assert_eq!(
        (&attribution["campaign_id"], &attribution["method"]),
        (&json!(a), &json!("manual"))
    );
}

#[tokio::test]
async fn two_people_deciding_at_once_both_decide_one_after_the_other() {
    let world = World::new().await;
    let campaigns = [world.campaign("A").await, world.campaign("B").await];
    for round in 0..5 {
        let id = format!("conv_{round}");
        world
            .deliver_ok(told_at(&id, "2026-11-20T10:02:00Z", "failure"))
            .await;
        let attribution = format!("/api/calls/{id}/attribution");
        let conversion = format!("/api/calls/{id}/conversion");
        let (_, _, _, delivered) = tokio::join!(
            put(&world, &attribution, json!({ "campaign_id": campaigns[0] })),
            put(&world, &attribution, json!({ "campaign_id": campaigns[1] })),
            put(&world, &conversion, json!({ "converted": true })),
            world.deliver_ok(told_at(&id, "2026-11-20T11:00:00Z", "unknown")),
        );
        assert_eq!(delivered, "updated");
        let call = world.call(&id).await;
        assert_eq!(call["outcome"], "unknown");
        assert_eq!(call["conversion"]["source"], "manual");
        // The later of the two stands, and the history has both, in that order.
        let history = call["history"].as_array().unwrap();
        assert_eq!(history.len(), 3, "{call}");
        let credits: Vec<_> = history
            .iter()
            .filter(|entry| entry["action"] == "attribution")
            .collect();
        let stands = &call["attribution"]["campaign_id"];
        assert!(credits.iter().any(|entry| entry["to"]["campaign_id"] == *stands));
        assert!(credits.iter().any(|entry| entry["to"]["campaign_id"] != *stands));
        let last = credits
            .iter()
            .find(|entry| entry["to"]["campaign_id"] == *stands)
            .unwrap();
        assert_ne!(last["from"]["campaign_id"], Value::Null, "{call}");
    }
}
