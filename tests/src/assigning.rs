//! Many calls are assigned at once, and taken back at once.

use local::dynamodb::Fault;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, deliver_many, full_size, phone_call};

async fn assign(world: &World, body: &Value) -> Value {
    world
        .send(Method::POST, "/api/assignments", body)
        .await
        .expect(200)
}

async fn undo(world: &World, id: &Value, body: &Value) -> Value {
    let path = format!("/api/assignments/{}/undo", id.as_str().unwrap());
    world.send(Method::POST, &path, body).await.expect(200)
}

async fn campaigns_of(world: &World) -> Vec<(String, Value)> {
    let calls = world.calls("limit=100").await.into_iter();
    calls
        .map(|call| {
            (
                call["id"].as_str().unwrap().to_owned(),
                call["attribution"]["campaign_id"].clone(),
            )
        })
        .collect()
}

#[tokio::test]
async fn a_hundred_ids_with_unknown_and_repeated_ones_are_assigned_and_undone() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    deliver_many(&world, 90).await;
    // One of them is A's already.
    let path = "/api/calls/conv_0007/attribution";
    world
        .send(Method::PUT, path, &json!({ "campaign_id": a }))
        .await
        .expect(200);

    let mut ids: Vec<String> = (0..90).map(|index| format!("conv_{index:04}")).collect();
    ids.extend((0..6).map(|index| format!("conv_unknown_{index}")));
    ids.extend((0..4).map(|index| format!("conv_{index:04}")));
    let order = json!({ "campaign_id": a, "call_ids": ids, "reason": "the postcard" });
    let counts = json!({ "assigned": 89, "unchanged": 5, "not_found": 6, "changed_since": 0, "failed": 0 });

    // What would happen, which changes nothing.
    let mut rehearsal = order.clone();
    rehearsal["dry_run"] = json!(true);
    let before = campaigns_of(&world).await;
    let answer = assign(&world, &rehearsal).await;
    assert_eq!(
        (&answer["assignment_id"], &answer["counts"]),
        (&Value::Null, &counts)
    );
    assert_eq!(campaigns_of(&world).await, before);

    let answer = assign(&world, &order).await;
    assert_eq!(
        (&answer["counts"], &answer["next_cursor"]),
        (&counts, &Value::Null)
    );
    let outcomes = answer["outcomes"].as_array().unwrap();
    let told: Vec<&str> = outcomes
        .iter()
        .map(|outcome| outcome["call_id"].as_str().unwrap())
        .collect();
    assert_eq!(told, ids, "one for each id, in their order");
    assert_eq!(
        outcomes[0],
        json!({ "call_id": "conv_0000", "result": "assigned", "from": null })
    );
    assert_eq!(
        outcomes[7],
        json!({ "call_id": "conv_0007", "result": "unchanged", "from": a })
    );
    assert_eq!(
        outcomes[90],
        json!({ "call_id": "conv_unknown_0", "result": "not_found", "from": null })
    );
    assert_eq!(outcomes[96]["result"], "unchanged");
    assert!(
        campaigns_of(&world)
            .await
            .iter()
            .all(|(_, campaign)| *campaign == json!(a))
    );
    let history = world.call("conv_0000").await["history"].clone();
    assert_eq!(history[0]["reason"], "the postcard");
    assert_eq!(history[0]["assignment_id"], answer["assignment_id"]);

    // Three are touched by later decisions, of which one is taken back again.
    for (id, body) in [
        ("conv_0001", json!({ "campaign_id": b })),
        ("conv_0002", json!({ "campaign_id": null })),
    ] {
        let path = format!("/api/calls/{id}/attribution");
        world.send(Method::PUT, &path, &body).await.expect(200);
    }
    let path = "/api/calls/conv_0003/attribution";
    let later = world
        .send(Method::PUT, path, &json!({ "campaign_id": b }))
        .await
        .expect(200);
    undo(&world, &later["assignment_id"], &json!({})).await;
    let after = json!({ "assigned": 87, "unchanged": 0, "not_found": 0, "changed_since": 2, "failed": 0 });
    for dry_run in [true, false] {
        let answer = undo(&world, &answer["assignment_id"], &json!({ "dry_run": dry_run })).await;
        assert_eq!(answer["counts"], after, "dry run {dry_run}");
    }
    for (id, campaign) in campaigns_of(&world).await {
        let expected = match id.as_str() {
            "conv_0001" => json!(b),
            "conv_0007" => json!(a),
            _ => Value::Null,
        };
        assert_eq!(campaign, expected, "{id}");
    }
    let call = world.call("conv_0000").await;
    assert_eq!(call["attribution"]["by"], "automatic", "as if it had not been");
    assert_eq!(call["history"][0]["reason"], "undo");
    assert_eq!(
        call["history"].as_array().unwrap().len(),
        2,
        "but the history knows"
    );
    // Undone once is undone.
    let again = undo(&world, &answer["assignment_id"], &json!({})).await;
    assert_eq!(again["counts"]["unchanged"], 87);
    assert_eq!(again["counts"]["assigned"], 0);
}

#[tokio::test]
async fn all_that_match_a_filter_are_one_assignment_over_many_requests() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    // Exactly so many pages: the last one is full, and there is none after it.
    let count = if full_size() { 5000 } else { 1000 };
    deliver_many(&world, count).await;
    let order = json!({ "campaign_id": campaign, "filter": { "attribution": "unattributed" } });

    let page = |answer: &Value| answer["outcomes"].as_array().unwrap().len();
    let mut rehearsal = order.clone();
    rehearsal["dry_run"] = json!(true);
    let mut rehearsed = 0;
    loop {
        let answer = assign(&world, &rehearsal).await;
        rehearsed += page(&answer);
        assert_eq!(answer["assignment_id"], Value::Null);
        match &answer["next_cursor"] {
            Value::Null => break,
            next => rehearsal["cursor"] = next.clone(),
        }
    }
    assert_eq!(rehearsed, count);

    let mut order = order;
    let mut ids = Vec::new();
    let mut assigned = 0;
    loop {
        let answer = assign(&world, &order).await;
        assert!(page(&answer) <= 500);
        assigned += answer["counts"]["assigned"].as_u64().unwrap();
        ids.push(answer["assignment_id"].clone());
        match &answer["next_cursor"] {
            Value::Null => break,
            next => order["cursor"] = next.clone(),
        }
    }
    assert_eq!(assigned, count as u64);
    assert!(ids.len() > 1);
    assert!(ids.iter().all(|id| *id == ids[0]), "one assignment");
    assert_eq!(
        world
            .calls(&format!("campaign_id={campaign}&limit=100"))
            .await
            .len(),
        count
    );

    // A cursor goes on with what it was begun for, and nothing else.
    order["campaign_id"] = Value::Null;
    let answer = world.send(Method::POST, "/api/assignments", &order).await;
    assert_eq!(answer.error(), (400, "invalid_cursor".to_owned()));

    // One call is decided about in between: it is told of, and left.
    let path = "/api/calls/conv_0100/attribution";
    world
        .send(Method::PUT, path, &json!({ "campaign_id": null }))
        .await
        .expect(200);
    let (mut undone, mut since) = (0, Vec::new());
    let mut body = json!({});
    loop {
        let answer = undo(&world, &ids[0], &body).await;
        undone += answer["counts"]["assigned"].as_u64().unwrap();
        let outcomes = answer["outcomes"].as_array().unwrap().iter();
        since.extend(
            outcomes
                .filter(|outcome| outcome["result"] == "changed_since")
                .cloned(),
        );
        match &answer["next_cursor"] {
            Value::Null => break,
            next => body["cursor"] = next.clone(),
        }
    }
    assert_eq!(undone, count as u64 - 1);
    assert_eq!(since.len(), 1);
    assert_eq!(since[0]["call_id"], "conv_0100");
    assert_eq!(
        world.calls("attribution=unattributed&limit=100").await.len(),
        count
    );
    assert_eq!(world.call("conv_0100").await["attribution"]["method"], "manual");
}

#[tokio::test]
async fn a_delivery_during_a_bulk_assignment_loses_nothing() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    deliver_many(&world, 40).await;
    let ids: Vec<String> = (0..40).map(|index| format!("conv_{index:04}")).collect();
    let order = json!({ "campaign_id": campaign, "call_ids": ids });
    let newer = ids.iter().map(|id| {
        let body = phone_call(id, "2026-11-01T00:00:00Z", "2026-11-25T00:00:00Z");
        world.deliver_ok(body.to_string())
    });
    let (answer, delivered) = tokio::join!(assign(&world, &order), futures_util::future::join_all(newer));
    assert_eq!(answer["counts"]["assigned"], 40);
    assert!(
        delivered.iter().all(|result| result == "updated"),
        "{delivered:?}"
    );
    for id in &ids {
        let call = world.call(id).await;
        assert_eq!(call["attribution"]["campaign_id"], json!(campaign), "{id}");
        assert_eq!(call["started_at"], "2026-11-01T00:00:00Z", "{id}");
        assert_eq!(call["history"].as_array().unwrap().len(), 1, "{id}");
    }
}

#[tokio::test]
async fn calls_that_fail_are_told_of_and_decided_about_later_in_the_same_assignment() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    deliver_many(&world, 20).await;
    let ids: Vec<String> = (0..20).map(|index| format!("conv_{index:04}")).collect();
    // The store fails whenever one of these is written.
    let unlucky = ["conv_0003", "conv_0017"];
    world.stack.dynamodb().inject(move |request| {
        let writes = request.operation == "TransactWriteItems";
        let body = request.body.to_string();
        (writes && unlucky.iter().any(|id| body.contains(id))).then_some(Fault::InternalError)
    });
    let alone = json!({ "campaign_id": campaign, "call_ids": unlucky });
    let answer = world.send(Method::POST, "/api/assignments", &alone).await;
    assert_eq!(
        answer.error(),
        (503, "unavailable".to_owned()),
        "nothing was done"
    );
    let order = json!({ "campaign_id": campaign, "call_ids": ids });
    let answer = assign(&world, &order).await;
    assert_eq!(
        (&answer["counts"]["assigned"], &answer["counts"]["failed"]),
        (&json!(18), &json!(2))
    );
    let outcomes = answer["outcomes"].as_array().unwrap().iter();
    let failed: Vec<_> = outcomes.filter(|outcome| outcome["result"] == "failed").collect();
    let failed: Vec<&str> = failed
        .iter()
        .map(|outcome| outcome["call_id"].as_str().unwrap())
        .collect();
    assert_eq!(failed, unlucky);
    world.stack.dynamodb().heal();

    let id = &answer["assignment_id"];
    let rest = json!({ "campaign_id": campaign, "call_ids": failed, "assignment_id": id });
    let answer = assign(&world, &rest).await;
    assert_eq!(
        (&answer["assignment_id"], &answer["counts"]["assigned"]),
        (id, &json!(2))
    );
    let undone = undo(&world, id, &json!({})).await;
    assert_eq!(undone["counts"]["assigned"], 20, "one undo takes back all of it");
    assert_eq!(world.calls("attribution=unattributed").await.len(), 20);
    // One that changed nothing is none.
    let nothing = json!({ "campaign_id": campaign, "call_ids": ["conv_unknown"] });
    assert_eq!(assign(&world, &nothing).await["assignment_id"], Value::Null);
}
