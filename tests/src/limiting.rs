//! Every input has a limit: what is within it is taken, and one more is told what to mend.

use jiff::{SignedDuration, Timestamp};
use local::sender::SIGNATURE_HEADER;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, phone_call};

const LINE: &str = "+16125550142";

async fn world_with_a_call() -> (World, String) {
    let world = World::new().await;
    let call = phone_call("conv_1", "2026-11-20T10:00:00Z", "2026-11-20T10:01:00Z");
    world.deliver_ok(call.to_string()).await;
    let campaign = world.campaign("Spring mailing").await;
    (world, campaign)
}

/// A request of which some part is so long.
type Sized = Box<dyn Fn(usize) -> (Method, String, Value)>;

fn request(method: Method, path: impl Into<String>, body: impl Fn(usize) -> Value + 'static) -> Sized {
    let path = path.into();
    Box::new(move |size| (method.clone(), path.clone(), body(size)))
}

#[tokio::test]
async fn what_is_sent_to_the_api_may_be_so_long_and_no_longer() {
    let (world, campaign) = world_with_a_call().await;
    let attribution = "/api/calls/conv_1/attribution";
    let conversion = "/api/calls/conv_1/conversion";
    let contacts = format!("/api/campaigns/{campaign}/contacts");
    let agent = format!("/api/campaigns/{campaign}/agents/");
    let number = format!("/api/campaigns/{campaign}/numbers/");
    let money =
        |amount: String| json!({ "converted": true, "value": { "amount": amount, "currency": "EUR" } });
    let assignments = "/api/assignments";
    let window = json!({ "from": "2026-11-01", "to": "2026-12-01" });
    for (request, most, field) in [
        (
            request(
                Method::POST,
                "/api/campaigns",
                |size| json!({ "name": "é".repeat(size) }),
            ),
            200,
            "name",
        ),
        (
            request(
                Method::POST,
                "/api/campaigns",
                |size| json!({ "name": "x", "code": "c".repeat(size) }),
            ),
            128,
            "code",
        ),
        (
            request(
                Method::PUT,
                attribution,
                |size| json!({ "campaign_id": null, "reason": "é".repeat(size) }),
            ),
            500,
            "reason",
        ),
        (
            request(
                Method::PUT,
                conversion,
                |size| json!({ "converted": true, "reason": "é".repeat(size) }),
            ),
            500,
            "reason",
        ),
        (
            request(Method::PUT, conversion, move |size| money("9".repeat(size))),
            12,
            "amount",
        ),
        (
            request(Method::PUT, conversion, move |size| {
                money(format!("1.{}", "9".repeat(size)))
            }),
            4,
            "amount",
        ),
        (
            request(Method::POST, assignments, |size| {
                let ids: Vec<String> = (0..size).map(|index| format!("conv_{index}")).collect();
                json!({ "campaign_id": null, "call_ids": ids })
            }),
            100,
            "call_ids",
        ),
        (
            request(
                Method::POST,
                assignments,
                |size| json!({ "campaign_id": null, "call_ids": ["c".repeat(size)] }),
            ),
            256,
            "call_ids[0]",
        ),
        (
            request(Method::POST, "/api/reattributions", move |size| {
                let mut request = window.clone();
                request["reason"] = json!("é".repeat(size));
                request
            }),
            500,
            "reason",
        ),
        (
            request(
                Method::POST,
                "/api/erasures",
                |size| json!({ "customer_number": "1".repeat(size) }),
            ),
            256,
            "customer_number",
        ),
        (
            request(Method::POST, contacts, |size| {
                let row = |index| json!({ "number": format!("+1651{index:07}") });
                json!({ "contacts": (0..size).map(row).collect::<Vec<_>>(), })
            }),
            // As many rows as that are taken in `campaigns`.
            10_000,
            "contacts",
        ),
        (
            Box::new(move |size| {
                let body = json!({ "from": "2026-01-01T00:00:00Z" });
                (Method::PUT, format!("{agent}{}", "a".repeat(size)), body)
            }),
            128,
            "agent_id",
        ),
        (
            Box::new(move |size| {
                let body = json!({ "from": "2026-01-01T00:00:00Z" });
                (Method::PUT, format!("{number}{}", "1".repeat(size)), body)
            }),
            256,
            "number",
        ),
    ] {
        let (method, path, body) = request(most + 1);
        let told = world.send(method, &path, &body).await.expect(400);
        let at = told["error"]["field"].as_str().unwrap();
        assert!(at.ends_with(field), "{path}, {field}: {told}");
        if most < 10_000 {
            let (method, path, body) = request(most);
            let answer = world.send(method, &path, &body).await;
            assert!(answer.status < 300, "{path}, {field} of {most}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn a_signature_is_looked_for_in_eight_kilobytes_of_a_header() {
    let world = World::new().await;
    let call = phone_call("conv_1", "2026-11-20T10:00:00Z", "2026-11-20T10:01:00Z").to_string();
    let genuine = world.sign(call.as_bytes());
    for (others, status) in [(1, 200), (100, 200), (130, 401)] {
        let header = format!("{}{genuine}", format!("v0={},", "0".repeat(64)).repeat(others));
        let headers = [("content-type", "application/json"), (SIGNATURE_HEADER, &header)];
        let answer = world.post(&headers, call.clone()).await;
        assert_eq!(answer.status, status, "{} bytes", header.len());
    }
}

#[tokio::test]
async fn lists_come_in_pages_and_reports_over_windows_of_a_greatest_size() {
    let (world, campaign) = world_with_a_call().await;
    let contacts = format!("/api/campaigns/{campaign}/contacts?");
    for (path, most) in [
        ("/api/calls?", 100),
        ("/api/deliveries?", 100),
        ("/api/campaigns?", 100),
        ("/api/calls/conv_1/transcript?", 100),
        (&contacts, 100),
        ("/api/calls/export?format=ndjson&", 1000),
    ] {
        assert_eq!(
            world.get(&format!("{path}limit={most}")).await.status,
            200,
            "{path}"
        );
        for limit in [0, most + 1, usize::MAX] {
            let told = world.get(&format!("{path}limit={limit}")).await.expect(400);
            assert_eq!(told["error"]["field"], "limit", "{path}");
        }
    }
    for (path, status) in [
        ("/api/sync?from=2025-11-21&to=2026-11-21", 200),
        ("/api/sync?from=2025-11-18&to=2026-11-21", 400),
        (
            "/api/reports/timeseries?interval=hour&from=2025-11-01&to=2026-11-01",
            200,
        ),
        (
            "/api/reports/timeseries?interval=hour&from=2024-11-01&to=2026-11-01",
            400,
        ),
    ] {
        let answer = world.get(path).await;
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
}

#[tokio::test]
async fn the_ends_of_time_are_times_like_any_other() {
    let (world, _) = world_with_a_call().await;
    for (from, to) in [
        ("-009999-01-01", "9999-12-31"),
        ("0000-01-01", "0001-01-01"),
        ("9999-12-30", "9999-12-31"),
        ("2026-11-01", "9999-12-31T23:59:59.999Z"),
        ("-009999-01-01T00:00:00Z", "2026-11-30"),
    ] {
        for zone in ["UTC", "Pacific/Kiritimati", "America/Adak"] {
            for path in [
                "/api/calls?",
                "/api/calls?sort=duration&",
                "/api/calls/export?format=csv&",
                "/api/deliveries?",
                "/api/reports/summary?group_by=campaign&",
                "/api/reports/timeseries?interval=month&",
                "/api/sync?",
            ] {
                let zone = if path == "/api/sync?" {
                    ""
                } else {
                    &format!("&tz={zone}")
                };
                let path = format!("{path}from={from}&to={to}{zone}");
                let answer = world.get(&path).await;
                assert!([200, 400].contains(&answer.status), "{path}: {answer:?}");
            }
            let window = json!({ "from": from, "to": to, "tz": zone });
            let answer = world.send(Method::POST, "/api/reattributions", &window).await;
            assert!([200, 400].contains(&answer.status), "{window}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn nesting_without_an_end_is_refused_or_kept_and_never_fails() {
    let (world, campaign) = world_with_a_call().await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [1000, 100_000, 2_000_000] {
        let body = format!(r#"{{"campaign_id":{}}}"#, deep(depth));
        let headers = [("content-type", "application/json")];
        let answer = world
            .request(Method::POST, "/api/assignments", &headers, body)
            .await;
        assert_eq!(answer.error().0, 400, "{depth} deep");

        // Of a delivery only what we read has to be readable.
        let mut call = phone_call("conv_2", "2026-11-20T11:00:00Z", "2026-11-20T11:01:00Z");
        call["data"]["analysis"]["data_collection_results"] = json!("DEEP");
        let call = call.to_string().replace("\"DEEP\"", &deep(depth));
        assert!(["stored", "ignored"].contains(&world.deliver_ok(call.clone()).await.as_str()));
        assert_eq!(world.call("conv_2").await["summary"], "Said hello.");
        assert_eq!(world.deliver_ok(deep(depth)).await, "unparsed");
        assert_eq!(world.deliver_ok("[".repeat(2 * depth)).await, "unparsed");
    }
    assert_eq!(world.get(&format!("/api/campaigns/{campaign}")).await.status, 200);
}

/// Puts as many entries into a stored list as make it so long, copies of the one that is there.
async fn lengthen(
    world: &World,
    key: &Value,
    list: &str,
    length: usize,
    copy: impl Fn(&Value, usize) -> Value,
) {
    let table = "CampaignsTable";
    let found = world
        .ask_store("GetItem", &json!({ "TableName": table, "Key": key }))
        .await;
    let mut item = found["Item"].clone();
    let (kind, entries) = item[list].as_object().unwrap().iter().next().unwrap();
    let first = &entries.as_array().unwrap()[0];
    let copies: Vec<Value> = (0..length).map(|index| copy(first, index)).collect();
    item[list] = json!({ kind: copies });
    world
        .ask_store("PutItem", &json!({ "TableName": table, "Item": item }))
        .await;
}

#[tokio::test]
async fn what_grows_over_the_years_has_an_end_that_is_told() {
    let (world, campaign) = world_with_a_call().await;
    let day = |index: usize| {
        let start: Timestamp = "2020-01-01T00:00:00Z".parse().unwrap();
        start + SignedDuration::from_hours(24 * i64::try_from(index).unwrap())
    };
    let span = |index: usize| json!({ "from": day(index).to_string(), "to": day(index + 1).to_string() });
    world.assign(&campaign, LINE, &span(0)).await.expect(200);

    // What one campaign ever had.
    let key = json!({ "pk": { "S": campaign }, "sk": { "S": "holdings" } });
    let other_number = |_: &Value, index: usize| json!(format!("+1651{index:07}"));
    lengthen(&world, &key, "numbers", 999, other_number).await;
    world.assign(&campaign, LINE, &span(1)).await.expect(200);
    let told = world.assign(&campaign, "+16125550143", &span(1)).await;
    assert_eq!(told.error(), (409, "too_many_assignments".to_owned()));

    // What one number ever was.
    let key = json!({ "pk": { "S": format!("number#{LINE}") }, "sk": { "S": "assignments" } });
    lengthen(&world, &key, "assignments", 500, |first, index| {
        let mut copy = first.clone();
        copy["M"]["from"] = json!({ "S": day(index).to_string() });
        copy["M"]["to"] = json!({ "S": day(index + 1).to_string() });
        copy
    })
    .await;
    let told = world.assign(&campaign, LINE, &span(500)).await;
    assert_eq!(told.error(), (409, "too_many_assignments".to_owned()));

    // What rests.
    let archive = json!({ "status": "archived" });
    let path = format!("/api/campaigns/{campaign}");
    world.send(Method::PATCH, &path, &archive).await.expect(200);
    let key = json!({ "pk": { "S": "archived" }, "sk": { "S": "campaigns" } });
    let other_campaign = |_: &Value, index: usize| json!(format!("cmp_{index:032x}"));
    lengthen(&world, &key, "campaign_ids", 2000, other_campaign).await;
    let another = world.campaign("Radio").await;
    let told = world
        .send(Method::PATCH, &format!("/api/campaigns/{another}"), &archive)
        .await;
    assert_eq!(told.error(), (409, "too_many_archived".to_owned()));
}
