//! Campaigns change, take and lose what credits calls to them, and rest.

use std::time::Duration;

use local::dynamodb::Fault;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, full_size, phone_call};

async fn change(world: &World, id: &str, body: Value) -> Value {
    world
        .send(Method::PATCH, &format!("/api/campaigns/{id}"), &body)
        .await
        .expect(200)
}

async fn read(world: &World, id: &str) -> Value {
    world.get(&format!("/api/campaigns/{id}")).await.expect(200)
}

async fn upload(world: &World, id: &str, csv: &str) -> Value {
    let path = format!("/api/campaigns/{id}/contacts");
    let headers = [("content-type", "text/csv; charset=utf-8")];
    world
        .request(Method::POST, &path, &headers, csv)
        .await
        .expect(200)
}

/// Delivers a call and tells its attribution.
async fn deliver(world: &World, id: &str, started_at: &str, shape: impl Fn(&mut Value)) -> Value {
    let mut body = phone_call(id, started_at, "2026-12-02T10:00:00Z");
    shape(&mut body);
    world.deliver_ok(body.to_string()).await;
    world.call(id).await["attribution"].clone()
}

#[tokio::test]
async fn renaming_a_campaign_changes_no_call_and_is_seen_at_once() {
    let world = World::new().await;
    let a = world.campaign("Spring").await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &ever).await.expect(200);
    let before = deliver(&world, "conv_1", "2026-11-20T10:00:00Z", |_| {}).await;
    world.stack.clock().set("2026-12-03T10:00:00Z".parse().unwrap());
    let changed = change(&world, &a, json!({ "name": " Spring mailing " })).await;
    assert_eq!(changed["name"], "Spring mailing");
    assert_eq!(changed["updated_at"], "2026-12-03T10:00:00Z");
    assert_eq!(
        world.calls("").await[0]["attribution"]["campaign_name"],
        "Spring mailing"
    );
    let mut after = world.call("conv_1").await["attribution"].clone();
    after["campaign_name"] = json!("Spring");
    assert_eq!(after, before);
    // What is so already is no change.
    world.stack.clock().set("2026-12-04T10:00:00Z".parse().unwrap());
    let same = change(&world, &a, json!({ "name": "Spring mailing" })).await;
    assert_eq!(same["updated_at"], "2026-12-03T10:00:00Z");
    assert_eq!(change(&world, &a, json!({})).await, same);
}

#[tokio::test]
async fn a_code_is_taken_changed_and_given_up() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    let conflict = async |id: &str| {
        let body = json!({ "code": "spring-26" });
        let answer = world
            .send(Method::PATCH, &format!("/api/campaigns/{id}"), &body)
            .await;
        answer.error()
    };
    assert_eq!(
        change(&world, &a, json!({ "code": "spring-26" })).await["code"],
        "spring-26"
    );
    assert_eq!(conflict(&b).await, (409, "code_in_use".to_owned()));
    let named = |id: &str, code: &str| {
        let (id, code) = (id.to_owned(), code.to_owned());
        let world = &world;
        async move {
            let variables = json!({ "dynamic_variables": { "utm_campaign": code } });
            let attribution = deliver(world, &id, "2026-11-20T10:00:00Z", |body| {
                body["data"]["conversation_initiation_client_data"] = variables.clone();
            });
            attribution.await
        }
    };
    let attribution = named("conv_1", "spring-26").await;
    assert_eq!(attribution["campaign_id"], json!(a));
    assert_eq!(attribution["method"], "dynamic_variable");
    assert_eq!(
        attribution["evidence"],
        json!({ "variable": "utm_campaign", "value": "spring-26" })
    );
    change(&world, &a, json!({ "code": "spring-27" })).await;
    assert_eq!(named("conv_2", "spring-26").await["campaign_id"], Value::Null);
    assert_eq!(named("conv_3", "spring-27").await["campaign_id"], json!(a));
    assert_eq!(
        change(&world, &a, json!({ "code": null })).await["code"],
        Value::Null
    );
    assert_eq!(
        change(&world, &b, json!({ "code": "spring-27" })).await["code"],
        "spring-27"
    );
    assert_eq!(named("conv_4", "spring-27").await["campaign_id"], json!(b));
}

#[tokio::test]
async fn a_dynamic_variable_names_a_campaign_before_every_other_rule() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&b, "+16125550142", &ever).await.expect(200);
    let by_variable = async |call: &str, value: Value| {
        let variables = json!({ "dynamic_variables": { "campaign_id": value } });
        deliver(&world, call, "2026-11-20T10:00:00Z", |body| {
            body["data"]["conversation_initiation_client_data"] = variables.clone();
        })
        .await
    };
    let attribution = by_variable("conv_1", json!(a)).await;
    assert_eq!(attribution["campaign_id"], json!(a));
    assert_eq!(
        attribution["evidence"],
        json!({ "variable": "campaign_id", "value": a })
    );
    assert_eq!(
        attribution["candidates"],
        json!([{ "campaign_id": b, "campaign_name": "B", "method": "tracking_number" }]),
        "and who lost"
    );
    // What names no campaign says nothing.
    let nobody = "cmp_00000000000000000000000000000000";
    for (call, value) in [
        ("conv_2", json!(nobody)),
        ("conv_3", json!("spring")),
        ("conv_4", json!("")),
        ("conv_5", json!(null)),
        ("conv_6", json!(7)),
    ] {
        assert_eq!(by_variable(call, value).await["campaign_id"], json!(b), "{call}");
    }
}

#[tokio::test]
async fn an_archived_campaign_keeps_its_calls_and_gets_no_new_ones() {
    let world = World::new().await;
    let a = world.campaign("A").await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &ever).await.expect(200);
    upload(&world, &a, "number\n+16125550187\n").await;
    deliver(&world, "conv_1", "2026-11-20T10:00:00Z", |_| {}).await;
    assert_eq!(
        change(&world, &a, json!({ "status": "archived" })).await["status"],
        "archived"
    );
    let later = deliver(&world, "conv_2", "2026-11-20T11:00:00Z", |_| {}).await;
    assert_eq!(later["status"], "unattributed");
    assert_eq!(world.call("conv_1").await["attribution"]["campaign_id"], json!(a));
    // A person may credit it all the same.
    let path = "/api/calls/conv_2/attribution";
    let answer = world
        .send(Method::PUT, path, &json!({ "campaign_id": a }))
        .await
        .expect(200);
    assert_eq!(answer["attribution"]["campaign_id"], json!(a));
    change(&world, &a, json!({ "status": "active" })).await;
    let back = deliver(&world, "conv_3", "2026-11-20T12:00:00Z", |_| {}).await;
    assert_eq!(back["campaign_id"], json!(a));
}

#[tokio::test]
async fn a_number_that_moved_belongs_to_whom_it_belonged_then() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    let since = json!({ "from": "2026-01-01T00:00:00Z" });
    world.assign(&a, "+16125550142", &since).await.expect(200);
    let moved = json!({ "from": "2026-11-01T00:00:00Z", "move": true });
    world.assign(&b, "+16125550142", &moved).await.expect(200);
    // All of them arrive on 2 December.
    for (call, started_at, campaign) in [
        ("conv_1", "2026-10-31T23:59:59Z", &a),
        ("conv_2", "2026-11-01T00:00:00Z", &b),
        ("conv_3", "2026-11-01T00:00:01Z", &b),
    ] {
        let attribution = deliver(&world, call, started_at, |_| {}).await;
        assert_eq!(attribution["campaign_id"], json!(campaign), "{started_at}");
    }
}

#[tokio::test]
async fn numbers_and_agents_are_ended_and_wrong_entries_removed() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    let agent = |campaign: &str| format!("/api/campaigns/{campaign}/agents/agent_1");
    world.stack.clock().set("2026-11-22T10:00:00Z".parse().unwrap());
    for campaign in [&a, &b] {
        let since = json!({ "from": "2026-11-01T00:00:00Z" });
        let answer = world
            .send(Method::PUT, &agent(campaign), &since)
            .await
            .expect(200);
        assert_eq!(answer["agents"][0]["agent_id"], "agent_1");
        assert_eq!(answer["agents"][0]["to"], Value::Null, "shared");
    }
    let shared = deliver(&world, "conv_1", "2026-11-20T10:00:00Z", |_| {}).await;
    assert_eq!(shared["status"], "ambiguous");
    // Ended now: what was stays, what comes is B's alone.
    let ended = world
        .request(Method::DELETE, &agent(&a), &[], "")
        .await
        .expect(200);
    assert_eq!(ended["agents"][0]["to"], "2026-11-22T10:00:00Z");
    let b_alone = deliver(&world, "conv_2", "2026-11-22T10:00:00Z", |_| {}).await;
    assert_eq!(b_alone["campaign_id"], json!(b));
    assert_eq!(
        b_alone["evidence"],
        json!({ "agent_id": "agent_1", "from": "2026-11-01T00:00:00Z", "to": null })
    );
    let again = world.request(Method::DELETE, &agent(&a), &[], "").await;
    assert_eq!(again.error(), (404, "not_found".to_owned()));
    // Removed: as if it had never been.
    let removal = format!("{}?from=2026-11-01T00:00:00Z", agent(&a));
    let removed = world.request(Method::DELETE, &removal, &[], "").await.expect(200);
    assert_eq!(removed["agents"], json!([]));
    let again = world.request(Method::DELETE, &removal, &[], "").await;
    assert_eq!(again.error(), (404, "not_found".to_owned()));

    let number = format!("/api/campaigns/{a}/numbers/%2B16125550142");
    world.assign(&a, "+16125550142", &json!({})).await.expect(200);
    world.stack.clock().set("2026-11-23T10:00:00Z".parse().unwrap());
    let ended = world.request(Method::DELETE, &number, &[], "").await.expect(200);
    assert_eq!(ended["numbers"][0]["from"], "2026-11-22T10:00:00Z");
    assert_eq!(ended["numbers"][0]["to"], "2026-11-23T10:00:00Z");
    world.assign(&b, "+16125550142", &json!({})).await.expect(200);
}

#[tokio::test]
async fn contacts_are_uploaded_read_and_removed() {
    let world = World::new().await;
    let [a, b] = [world.campaign("A").await, world.campaign("B").await];
    let file = "\u{feff}number;from;to\r\n\
                \"+1 (612) 555-0187\";2026-11-01;\r\n\
                +16125550188;;2026-11-15T00:00:00Z\r\n\
                not a number;;\r\n\
                +16125550189;soon;\r\n";
    let answer = upload(&world, &a, file).await;
    assert_eq!(answer["added"], 2);
    assert_eq!(answer["unchanged"], 0);
    let errors = answer["errors"].as_array().unwrap();
    let rows: Vec<_> = errors
        .iter()
        .map(|error| error["row"].as_u64().unwrap())
        .collect();
    assert_eq!(rows, [4, 5]);
    assert!(
        errors[1]["reason"].as_str().unwrap().contains("from"),
        "{errors:?}"
    );
    assert_eq!(read(&world, &a).await["contact_count"], 2);

    // The same upload twice changes nothing.
    let answer = upload(&world, &a, file).await;
    assert_eq!(
        (&answer["added"], &answer["updated"], &answer["unchanged"]),
        (&json!(0), &json!(0), &json!(2))
    );
    // Another time for one of them is told of.
    let answer = upload(&world, &a, "number,to\n+16125550188,2026-11-16\n").await;
    assert_eq!((&answer["added"], &answer["updated"]), (&json!(0), &json!(1)));
    assert_eq!(read(&world, &a).await["contact_count"], 2);
    let path = format!("/api/campaigns/{a}/contacts");
    let contact = world.get(&format!("{path}/%2B16125550188")).await.expect(200);
    assert_eq!(contact["to"], "2026-11-16T00:00:00Z");
    assert_eq!(contact["by"], "local-script");

    // Whom a campaign reached out to is credited to it, in its time.
    let attribution = deliver(&world, "conv_1", "2026-11-20T10:00:00Z", |_| {}).await;
    assert_eq!(
        (&attribution["campaign_id"], &attribution["method"]),
        (&json!(a), &json!("contact"))
    );
    assert_eq!(
        attribution["evidence"],
        json!({ "number": "+16125550187", "from": "2026-11-01T00:00:00Z", "to": null })
    );
    let early = deliver(&world, "conv_2", "2026-10-31T10:00:00Z", |_| {}).await;
    assert_eq!(early["status"], "unattributed");
    upload(&world, &b, "number\n+16125550187\n").await;
    let both = deliver(&world, "conv_3", "2026-11-20T10:00:00Z", |_| {}).await;
    assert_eq!(both["status"], "ambiguous");

    let removed = world
        .request(Method::DELETE, &format!("{path}/%2B16125550187"), &[], "")
        .await;
    assert_eq!(removed.expect(200)["number"], "+16125550187");
    let again = world
        .request(Method::DELETE, &format!("{path}/%2B16125550187"), &[], "")
        .await;
    assert_eq!(again.error(), (404, "not_found".to_owned()));
    assert_eq!(read(&world, &a).await["contact_count"], 1);
    let now_b = deliver(&world, "conv_4", "2026-11-20T10:00:00Z", |_| {}).await;
    assert_eq!(now_b["campaign_id"], json!(b));
    let removed = world.request(Method::DELETE, &path, &[], "").await.expect(200);
    assert_eq!(removed, json!({ "removed": 1, "remaining": 0 }));
    assert_eq!(read(&world, &a).await["contact_count"], 0);
}

#[tokio::test]
async fn a_large_upload_is_kept_whole_and_listed_page_by_page() {
    let world = World::new().await;
    let a = world.campaign("A").await;
    let count = if full_size() { 10_000 } else { 1_000 };
    let mut file = "number\n".to_owned();
    for index in 0..count {
        file.push_str(&format!("+1612{index:07}\n"));
    }
    assert_eq!(upload(&world, &a, &file).await["added"], count);
    assert_eq!(upload(&world, &a, &file).await["unchanged"], count);
    assert_eq!(read(&world, &a).await["contact_count"], count);
    let mut numbers = std::collections::BTreeSet::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/api/campaigns/{a}/contacts?limit=100{cursor}");
        let page = world.get(&path).await.expect(200);
        let contacts = page["contacts"].as_array().unwrap();
        for contact in contacts {
            assert!(
                numbers.insert(contact["number"].as_str().unwrap().to_owned()),
                "twice"
            );
        }
        match page["next_cursor"].as_str() {
            Some(next) => {
                assert_eq!(contacts.len(), 100, "pages are full");
                cursor = format!("&cursor={next}");
            }
            None => break,
        }
    }
    assert_eq!(numbers.len(), count);
    let path = format!("/api/campaigns/{a}/contacts");
    let removed = world.request(Method::DELETE, &path, &[], "").await.expect(200);
    assert_eq!(removed, json!({ "removed": count, "remaining": 0 }));
    // One row too many is refused whole.
    let mut file = "number\n".to_owned();
    for index in 0..10_001 {
        file.push_str(&format!("+1612{index:07}\n"));
    }
    let headers = [("content-type", "text/csv")];
    let answer = world.request(Method::POST, &path, &headers, file).await;
    assert_eq!(answer.error(), (400, "invalid_request".to_owned()));
    assert_eq!(read(&world, &a).await["contact_count"], 0);
}

#[tokio::test]
async fn uploads_at_the_same_time_count_every_contact_once() {
    let world = World::new().await;
    let a = world.campaign("A").await;
    let file = |from: usize| {
        let rows = (from..from + 150).map(|index| format!("+1612{index:07}\n"));
        format!("number\n{}", rows.collect::<String>())
    };
    let files = [file(0), file(100), file(200), file(0)];
    // All of them have read before any of them writes.
    let hold = Duration::from_millis(200);
    world
        .stack
        .dynamodb()
        .inject(move |request| (request.operation == "TransactWriteItems").then_some(Fault::Delayed(hold)));
    let (one, two, three, four) = tokio::join!(
        upload(&world, &a, &files[0]),
        upload(&world, &a, &files[1]),
        upload(&world, &a, &files[2]),
        upload(&world, &a, &files[3]),
    );
    let added: u64 = [one, two, three, four]
        .iter()
        .map(|answer| answer["added"].as_u64().unwrap())
        .sum();
    assert_eq!(added, 350);
    assert_eq!(read(&world, &a).await["contact_count"], 350);
}

#[tokio::test]
async fn bad_input_names_its_field_and_changes_nothing() {
    let world = World::new().await;
    let a = world.campaign("A").await;
    world
        .deliver_ok(phone_call("conv_1", "2026-11-20T10:00:00Z", "2026-11-20T10:02:00Z").to_string())
        .await;
    let before = (read(&world, &a).await, world.call("conv_1").await);
    let campaign = format!("/api/campaigns/{a}");
    let number = format!("{campaign}/numbers/%2B16125550142");
    let agent = format!("{campaign}/agents/agent_1");
    let contacts = format!("{campaign}/contacts");
    let (attribution, conversion) = ("/api/calls/conv_1/attribution", "/api/calls/conv_1/conversion");
    let long = "x".repeat(10_000);
    let nobody = "cmp_00000000000000000000000000000000";
    let cases: Vec<(Method, &str, Value, &str)> = vec![
        (Method::POST, "/api/campaigns", json!({ "name": "" }), "name"),
        (Method::POST, "/api/campaigns", json!({ "name": long }), "name"),
        (Method::POST, "/api/campaigns", json!({ "name": 7 }), "name"),
        (
            Method::POST,
            "/api/campaigns",
            json!({ "name": "B", "colour": "red" }),
            "colour",
        ),
        (Method::PATCH, &campaign, json!({ "name": "" }), "name"),
        (Method::PATCH, &campaign, json!({ "name": null }), "name"),
        (Method::PATCH, &campaign, json!({ "name": long }), "name"),
        (Method::PATCH, &campaign, json!({ "name": "a\nb" }), "name"),
        (Method::PATCH, &campaign, json!({ "code": "with blank" }), "code"),
        (Method::PATCH, &campaign, json!({ "code": "" }), "code"),
        (Method::PATCH, &campaign, json!({ "status": "resting" }), "status"),
        (Method::PATCH, &campaign, json!({ "id": "x" }), "id"),
        (
            Method::PUT,
            &number,
            json!({ "from": "2026-02-30T00:00:00Z" }),
            "from",
        ),
        (Method::PUT, &number, json!({ "from": "yesterday" }), "from"),
        (
            Method::PUT,
            &number,
            json!({ "from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z" }),
            "to",
        ),
        (Method::PUT, &number, json!({ "move": "yes" }), "move"),
        (
            Method::PUT,
            &agent,
            json!({ "from": "2026-11-02T00:00:00Z", "to": "2026-11-02T00:00:00Z" }),
            "to",
        ),
        (Method::PUT, &agent, json!({ "till": null }), "till"),
        (Method::POST, &contacts, json!({ "contacts": "all" }), "contacts"),
        (
            Method::POST,
            &contacts,
            json!({ "contacts": [{ "number": "+16125550187", "name": "x" }] }),
            "contacts[0].name",
        ),
        (Method::PUT, attribution, json!({}), "campaign_id"),
        (
            Method::PUT,
            attribution,
            json!({ "campaign_id": 7 }),
            "campaign_id",
        ),
        (
            Method::PUT,
            attribution,
            json!({ "campaign_id": "spring" }),
            "campaign_id",
        ),
        (
            Method::PUT,
            attribution,
            json!({ "campaign_id": nobody }),
            "campaign_id",
        ),
        (
            Method::PUT,
            attribution,
            json!({ "campaign_id": a, "reason": long }),
            "reason",
        ),
        (
            Method::PUT,
            attribution,
            json!({ "campaign_id": a, "by": "me" }),
            "by",
        ),
        (Method::PUT, conversion, json!({}), "converted"),
        (
            Method::PUT,
            conversion,
            json!({ "converted": "yes" }),
            "converted",
        ),
        (
            Method::PUT,
            conversion,
            json!({ "converted": true, "value": 120 }),
            "value",
        ),
        (
            Method::PUT,
            conversion,
            json!({ "converted": true, "value": { "amount": 120, "currency": "USD" } }),
            "value.amount",
        ),
        (
            Method::PUT,
            conversion,
            json!({ "converted": true, "value": { "amount": "1,20", "currency": "USD" } }),
            "value.amount",
        ),
        (
            Method::PUT,
            conversion,
            json!({ "converted": true, "value": { "amount": "1", "currency": "dollars" } }),
            "value.currency",
        ),
        (
            Method::PUT,
            conversion,
            json!({ "converted": false, "value": { "amount": "1", "currency": "USD" } }),
            "value",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a }),
            "call_ids",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a, "call_ids": [] }),
            "call_ids",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a, "call_ids": vec!["c"; 101] }),
            "call_ids",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a, "call_ids": ["conv_1", ""] }),
            "call_ids[1]",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "call_ids": ["conv_1"] }),
            "campaign_id",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a, "call_ids": ["conv_1"], "filter": {} }),
            "call_ids",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a, "filter": { "colour": "red" } }),
            "filter.colour",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a, "filter": { "attribution": "lost" } }),
            "filter.attribution",
        ),
        (
            Method::POST,
            "/api/assignments",
            json!({ "campaign_id": a, "filter": {}, "cursor": "x" }),
            "cursor",
        ),
        (Method::POST, "/api/reattributions", json!({}), "from"),
        (
            Method::POST,
            "/api/reattributions",
            json!({ "from": "2026-11-02T00:00:00Z", "to": "2026-11-01T00:00:00Z" }),
            "to",
        ),
        (
            Method::POST,
            "/api/reattributions",
            json!({ "from": "2026-11-31T00:00:00Z", "to": "2026-12-01T00:00:00Z" }),
            "from",
        ),
    ];
    for (method, path, body, field) in cases {
        let answer = world.send(method.clone(), path, &body).await;
        assert_eq!(answer.status, 400, "{method} {path} {body}: {answer:?}");
        let error = answer.json()["error"].clone();
        let names =
            error["field"] == field || error["message"].as_str().unwrap().contains(&format!("`{field}`"));
        assert!(names, "{method} {path} {body}: {error}");
    }
    let delivery = world.deliveries().await[0]["id"].as_str().unwrap().to_owned();
    let replay = format!("/api/deliveries/{delivery}/replay");
    let undo = "/api/assignments/asg_00000000000000000000000000000000/undo";
    for (path, body, field) in [
        (replay.as_str(), json!({ "dry_run": "no" }), "dry_run"),
        (&replay, json!({ "colour": "red" }), "colour"),
        (undo, json!({ "dry_run": 1 }), "dry_run"),
        (undo, json!({ "colour": "red" }), "colour"),
        (undo, json!({ "cursor": "x" }), "cursor"),
    ] {
        let answer = world.send(Method::POST, path, &body).await;
        assert_eq!(answer.status, 400, "{path} {body}: {answer:?}");
        let error = answer.json()["error"].clone();
        let names = error["field"] == field || error["message"].as_str().unwrap().contains(field);
        assert!(names, "{path} {body}: {error}");
    }
    let agent_id = format!("{campaign}/agents/a%20b");
    for (method, path, field) in [
        (Method::PUT, format!("{campaign}/numbers/%20"), "number"),
        (Method::PUT, agent_id, "agent_id"),
        (Method::DELETE, format!("{number}?from=now"), "from"),
        (Method::DELETE, format!("{number}?colour=red"), "colour"),
        (Method::GET, format!("{contacts}?limit=0"), "limit"),
    ] {
        let answer = world.send(method.clone(), &path, &json!({})).await;
        assert_eq!(answer.status, 400, "{method} {path}: {answer:?}");
        assert_eq!(answer.json()["error"]["field"], field, "{method} {path}");
    }
    for (method, path) in [
        (Method::PATCH, format!("/api/campaigns/{nobody}")),
        (Method::PUT, format!("/api/campaigns/{nobody}/numbers/1001")),
        (Method::PUT, format!("/api/campaigns/{nobody}/agents/agent_1")),
        (Method::GET, format!("/api/campaigns/{nobody}/contacts")),
        (Method::DELETE, "/api/calls/conv_2/attribution".to_owned()),
        (Method::DELETE, "/api/calls/conv_2/conversion".to_owned()),
        (
            Method::POST,
            "/api/assignments/asg_00000000000000000000000000000000/undo".to_owned(),
        ),
        (Method::POST, "/api/assignments/x/undo".to_owned()),
    ] {
        let answer = world.send(method.clone(), &path, &json!({})).await;
        assert_eq!(answer.error(), (404, "not_found".to_owned()), "{method} {path}");
    }
    assert_eq!((read(&world, &a).await, world.call("conv_1").await), before);
}
