//! Calls are credited to the campaign whose tracking number was called.

use local::issuer;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, phone_call};

const NUMBER: &str = "+16125550142";

async fn deliver_started_at(world: &World, id: &str, started_at: &str) -> Value {
    let body = phone_call(id, started_at, "2026-11-20T10:00:00Z");
    world.deliver_ok(body.to_string()).await;
    world.call(id).await["attribution"].clone()
}

#[tokio::test]
async fn a_call_to_a_campaigns_number_is_credited_to_it_with_the_evidence() {
    let world = World::new().await;
    let campaign = world.campaign("Spring mailing").await;
    let assigned = world
        .assign(&campaign, NUMBER, &json!({ "from": "2026-11-01T00:00:00Z" }))
        .await;
    let numbers = &assigned.expect(200)["numbers"];
    assert_eq!(
        *numbers,
        json!([{
            "number": NUMBER, "from": "2026-11-01T00:00:00Z", "to": null,
            "by": "local-script", "at": numbers[0]["at"],
        }])
    );
    let attribution = deliver_started_at(&world, "conv_1", "2026-11-10T09:00:00Z").await;
    assert_eq!(attribution["at"], world.call("conv_1").await["received_at"]);
    let mut expected = json!({
        "status": "attributed", "campaign_id": campaign, "campaign_name": "Spring mailing",
        "method": "tracking_number", "by": "automatic", "at": attribution["at"],
        "evidence": { "number": NUMBER, "from": "2026-11-01T00:00:00Z", "to": null }, "candidates": [],
    });
    assert_eq!(attribution, expected);
    for detail in ["evidence", "candidates"] {
        expected.as_object_mut().unwrap().remove(detail);
    }
    let listed = world.calls(&format!("campaign_id={campaign}")).await;
    assert_eq!(
        listed[0]["attribution"], expected,
        "a list tells it without the evidence"
    );
}

#[tokio::test]
async fn a_call_is_judged_by_its_own_start() {
    let world = World::new().await;
    let (a, b) = (world.campaign("A").await, world.campaign("B").await);
    world
        .assign(&a, NUMBER, &json!({ "from": "2026-10-01T00:00:00Z" }))
        .await
        .expect(200);
    let moved = json!({ "from": "2026-11-01T00:00:00Z", "move": true });
    world.assign(&b, NUMBER, &moved).await.expect(200);

    for (started_at, owner) in [
        ("2026-09-30T23:59:59Z", None),
        ("2026-10-01T00:00:00Z", Some(&a)),
        ("2026-10-31T23:59:59Z", Some(&a)),
        ("2026-11-01T00:00:00Z", Some(&b)),
        ("2026-11-15T00:00:00Z", Some(&b)),
    ] {
        let attribution = deliver_started_at(&world, &format!("conv {started_at}"), started_at).await;
        assert_eq!(
            attribution["campaign_id"].as_str(),
            owner.map(String::as_str),
            "{started_at}"
        );
        let status = if owner.is_some() {
            "attributed"
        } else {
            "unattributed"
        };
        assert_eq!(attribution["status"], status);
    }
    let a = world.get(&format!("/api/campaigns/{a}")).await.expect(200);
    let [span] = a["numbers"].as_array().unwrap().as_slice() else {
        panic!("{a}");
    };
    assert_eq!(span["from"], "2026-10-01T00:00:00Z");
    assert_eq!(span["to"], "2026-11-01T00:00:00Z");
}

#[tokio::test]
async fn an_assignment_counts_for_the_very_next_delivery() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    for round in 0..5 {
        let number = format!("+1612555010{round}");
        let deliver = async |id: String| {
            let mut body = phone_call(&id, "2026-11-20T10:00:00Z", "2026-11-20T10:02:00Z");
            body["data"]["metadata"]["phone_call"]["agent_number"] = json!(number);
            world.deliver_ok(body.to_string()).await;
            world.call(&id).await["attribution"]["status"].clone()
        };
        assert_eq!(deliver(format!("before_{round}")).await, "unattributed");
        let since = json!({ "from": "2026-11-01T00:00:00Z" });
        world.assign(&campaign, &number, &since).await.expect(200);
        assert_eq!(deliver(format!("after_{round}")).await, "attributed");
    }
}

#[tokio::test]
async fn any_text_can_be_a_tracking_number_and_any_way_of_writing_names_it() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    let since = json!({ "from": "2026-11-01T00:00:00Z" });
    for number in ["1001", "+1 (612) 555-0142", "front desk"] {
        world
            .assign(&campaign, &number.replace(' ', "%20"), &since)
            .await
            .expect(200);
    }
    for called in ["1001", NUMBER, "front desk"] {
        let mut body = phone_call(called, "2026-11-20T10:00:00Z", "2026-11-20T10:02:00Z");
        body["data"]["metadata"]["phone_call"]["agent_number"] = json!(called);
        world.deliver_ok(body.to_string()).await;
    }
    assert_eq!(world.calls("attribution=attributed").await.len(), 3);
}

#[tokio::test]
async fn a_number_of_another_campaign_is_not_taken_unasked() {
    let world = World::new().await;
    let (a, b) = (world.campaign("A").await, world.campaign("B").await);
    let since = json!({ "from": "2026-11-01T00:00:00Z" });
    world.assign(&a, NUMBER, &since).await.expect(200);
    let refused = world.assign(&b, NUMBER, &since).await;
    assert_eq!(refused.error(), (409, "number_overlap".to_owned()));
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(message.contains(&a) && message.contains("(A)"), "{message}");
    assert_eq!(
        world.get(&format!("/api/campaigns/{b}")).await.expect(200)["numbers"],
        json!([])
    );
}

#[tokio::test]
async fn two_people_cannot_give_one_number_to_two_campaigns() {
    let world = World::new().await;
    let mut campaigns = Vec::new();
    for name in ["A", "B", "C", "D"] {
        campaigns.push(world.campaign(name).await);
    }
    let since = json!({ "from": "2026-11-01T00:00:00Z" });
    let (a, b, c, d) = tokio::join!(
        world.assign(&campaigns[0], NUMBER, &since),
        world.assign(&campaigns[1], NUMBER, &since),
        world.assign(&campaigns[2], NUMBER, &since),
        world.assign(&campaigns[3], NUMBER, &since),
    );
    let mut statuses = [a, b, c, d].map(|answer| answer.status);
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409]);
}

#[tokio::test]
async fn an_assignment_counts_in_every_instance_at_once() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    let number = "+16125550142";
    // Held up at the store, so that each needs an instance of its own.
    let hold = std::time::Duration::from_millis(300);
    world
        .stack
        .dynamodb()
        .inject(move |_| Some(local::dynamodb::Fault::Delayed(hold)));
    let eight_calls = async |round: &str| {
        let ids: Vec<String> = (0..8).map(|index| format!("conv_{round}_{index}")).collect();
        let deliveries = ids.iter().map(|id| {
            let body = phone_call(id, "2026-11-20T10:00:00Z", "2026-11-20T10:02:00Z");
            world.deliver_ok(body.to_string())
        });
        futures_util::future::join_all(deliveries).await;
        ids
    };
    eight_calls("before").await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&campaign, number, &ever).await.expect(200);
    for id in eight_calls("after").await {
        let attribution = world.call(&id).await["attribution"].clone();
        assert_eq!(attribution["campaign_id"], json!(campaign), "{id}");
    }
}

#[tokio::test]
async fn decisions_name_who_made_them_last_and_when() {
    let world = World::new().await;
    let campaigns = [world.campaign("A").await, world.campaign("B").await];
    let as_person = async |person: &str, campaign: &str, assignment: Value| {
        let mut claims = world.stack.issuer().access_claims(&[issuer::WRITE]);
        claims["username"] = json!(person);
        let bearer = format!("Bearer {}", world.stack.issuer().sign(&claims).unwrap());
        let headers = [
            ("authorization", bearer.as_str()),
            ("content-type", "application/json"),
        ];
        let path = format!("/api/campaigns/{campaign}/numbers/%2B16125550142");
        world
            .bare_request(Method::PUT, &path, &headers, assignment.to_string())
            .await
            .expect(200)
    };
    let who = async |campaign: &str| {
        let campaign = world.get(&format!("/api/campaigns/{campaign}")).await.expect(200);
        let span = campaign["numbers"][0].clone();
        (span["by"].clone(), span["at"].clone())
    };
    let days = [
        "2026-11-22T10:00:00Z",
        "2026-11-23T10:00:00Z",
        "2026-11-24T10:00:00Z",
    ];
    world.stack.clock().set(days[0].parse().unwrap());
    let since = json!({ "from": "2026-11-01T00:00:00Z" });
    as_person("anna", &campaigns[0], since.clone()).await;
    assert_eq!(who(&campaigns[0]).await, (json!("anna"), json!(days[0])));

    // Who asks for what is so already decides nothing.
    world.stack.clock().set(days[1].parse().unwrap());
    as_person("ben", &campaigns[0], since).await;
    assert_eq!(who(&campaigns[0]).await, (json!("anna"), json!(days[0])));

    // A move is a decision about both campaigns.
    world.stack.clock().set(days[2].parse().unwrap());
    as_person("ben", &campaigns[1], json!({ "move": true })).await;
    for campaign in &campaigns {
        assert_eq!(who(campaign).await, (json!("ben"), json!(days[2])));
    }
}

#[tokio::test]
async fn campaigns_are_made_read_and_listed() {
    let world = World::new().await;
    let made = world
        .send(
            Method::POST,
            "/api/campaigns",
            &json!({ "name": " Spring mailing ", "code": "spring-26" }),
        )
        .await
        .expect(201);
    assert_eq!(
        made,
        json!({
            "id": made["id"], "name": "Spring mailing", "code": "spring-26", "status": "active",
            "created_at": made["created_at"], "created_by": "local-script",
            "updated_at": made["created_at"], "updated_by": "local-script", "numbers": [], "agents": [], "contact_count": 0,
        })
    );
    let id = made["id"].as_str().unwrap();
    assert_eq!(world.get(&format!("/api/campaigns/{id}")).await.expect(200), made);

    let again = json!({ "name": "Other", "code": "spring-26" });
    let again = world.send(Method::POST, "/api/campaigns", &again).await;
    assert_eq!(again.error(), (409, "code_in_use".to_owned()));
    assert_eq!(again.json()["error"]["field"], "code");

    for number in 0..6 {
        world.campaign(&format!("Campaign {number}")).await;
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = world
            .get(&format!("/api/campaigns?limit=3{cursor}"))
            .await
            .expect(200);
        names.extend(
            page["campaigns"]
                .as_array()
                .unwrap()
                .iter()
                .map(|campaign| campaign["name"].clone()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names.len(), 7);
    assert_eq!(
        (&names[0], &names[6]),
        (&json!("Campaign 5"), &json!("Spring mailing"))
    );
}

#[tokio::test]
async fn bad_input_names_the_field_and_changes_nothing() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    let long = "n".repeat(10_000);
    for (body, field) in [
        (json!({}), Some("name")),
        (json!({ "name": "" }), Some("name")),
        (json!({ "name": "  " }), Some("name")),
        (json!({ "name": long }), Some("name")),
        (json!({ "name": 7 }), Some("name")),
        (json!({ "name": "B", "code": "" }), Some("code")),
        (json!({ "name": "B", "code": "a b" }), Some("code")),
        (json!({ "name": "B", "colour": "red" }), Some("colour")),
        (json!([]), None),
        (json!(["B", null]), None),
    ] {
        let answer = world.send(Method::POST, "/api/campaigns", &body).await;
        assert_eq!(answer.error(), (400, "invalid_request".to_owned()), "{body:.60}");
        assert_eq!(answer.json()["error"]["field"].as_str(), field, "{body:.60}");
    }
    for (body, field) in [
        (json!({ "from": "yesterday" }), "from"),
        (json!({ "from": "2026-02-30T00:00:00Z" }), "from"),
        (json!({ "to": "2020-01-01T00:00:00Z" }), "to"),
        (
            json!({ "from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z" }),
            "to",
        ),
        (json!({ "move": "yes" }), "move"),
        (json!({ "until": null }), "until"),
    ] {
        let answer = world.assign(&campaign, NUMBER, &body).await;
        assert_eq!(answer.error(), (400, "invalid_request".to_owned()), "{body}");
        assert_eq!(answer.json()["error"]["field"], field, "{body}");
    }
    assert_eq!(
        world.assign(&campaign, "10%0001", &json!({})).await.error().0,
        400
    );
    assert_eq!(world.assign(&campaign, NUMBER, &json!([])).await.error().0, 400);
    for id in ["cmp_00000000000000000000000000000000", "cmp_x", "%20"] {
        assert_eq!(world.assign(id, NUMBER, &json!({})).await.error().0, 404);
        assert_eq!(world.get(&format!("/api/campaigns/{id}")).await.error().0, 404);
    }
    let campaigns = world.get("/api/campaigns").await.expect(200);
    assert_eq!(campaigns["campaigns"].as_array().unwrap().len(), 1);
    assert_eq!(campaigns["campaigns"][0]["numbers"], json!([]));
}
