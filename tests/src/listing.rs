//! Lists of calls and of deliveries: in order, page by page, each entry once.

use jiff::{SignedDuration, Timestamp};
use local::Options;
use local::sender::WEBHOOK_PATH;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{World, client_from, phone_call, request};

/// Forty calls over four months, some of them at the same instant; ids in the
/// order in which lists show them.
async fn forty_calls(world: &World) -> Vec<String> {
    let mut starts: Vec<(Timestamp, String)> = Vec::new();
    let newest: Timestamp = "2026-11-20T10:00:00Z".parse().unwrap();
    for index in 0..40 {
        let start = newest - SignedDuration::from_hours(24 * 3 * (index / 2));
        let id = format!("conv_{index:02}");
        let mut body = phone_call(&id, &start.to_string(), "2026-11-20T10:05:00Z");
        body["data"]["metadata"]["phone_call"]["agent_number"] = json!(format!("100{}", index % 4));
        world.deliver_ok(body.to_string()).await;
        starts.push((start, id));
    }
    starts.sort();
    starts.into_iter().rev().map(|(_, id)| id).collect()
}

fn ids(calls: &[Value]) -> Vec<&str> {
    calls.iter().map(|call| call["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn calls_are_listed_newest_first_in_full_pages() {
    let world = World::new().await;
    assert_eq!(
        world.get("/api/calls").await.expect(200),
        json!({ "calls": [], "next_cursor": null })
    );
    let expected = forty_calls(&world).await;
    for limit in [1, 7, 20, 39, 40, 100] {
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = world
                .get(&format!("/api/calls?limit={limit}{cursor}"))
                .await
                .expect(200);
            let calls = page["calls"].as_array().unwrap();
            seen.extend(ids(calls).into_iter().map(str::to_owned));
            match page["next_cursor"].as_str() {
                Some(next) => {
                    assert_eq!(calls.len(), limit, "a page before the last is full");
                    cursor = format!("&cursor={next}");
                }
                None => break,
            }
        }
        assert_eq!(seen, expected, "limit {limit}");
    }
    let default = world.get("/api/calls").await.expect(200);
    assert_eq!(default["calls"].as_array().unwrap().len(), 25);
}

#[tokio::test]
async fn calls_are_filtered_by_campaign_and_standing() {
    let world = World::new().await;
    let (a, b) = (world.campaign("A").await, world.campaign("B").await);
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "1000", &ever).await.expect(200);
    world.assign(&b, "1001", &ever).await.expect(200);
    let all = forty_calls(&world).await;
    let of = |remainders: &[usize]| -> Vec<String> {
        let number = |id: &str| id[5..].parse::<usize>().unwrap() % 4;
        all.iter()
            .filter(|id| remainders.contains(&number(id)))
            .cloned()
            .collect()
    };
    for (query, expected) in [
        (format!("campaign_id={a}"), of(&[0])),
        (format!("campaign_id={b}&attribution=attributed"), of(&[1])),
        (format!("campaign_id={b}&attribution=unattributed"), of(&[])),
        ("attribution=attributed".to_owned(), of(&[0, 1])),
        ("attribution=unattributed".to_owned(), of(&[2, 3])),
        ("attribution=ambiguous".to_owned(), of(&[])),
        (
            "campaign_id=cmp_00000000000000000000000000000000".to_owned(),
            of(&[]),
        ),
    ] {
        for limit in [3, 100] {
            let calls = world.calls(&format!("{query}&limit={limit}")).await;
            assert_eq!(ids(&calls), expected, "{query} by {limit}");
        }
    }
}

#[tokio::test]
async fn a_page_that_finds_too_little_goes_on_by_its_cursor() {
    let world = World::new().await;
    let (old, new) = (world.campaign("Old").await, world.campaign("New").await);
    let ever = json!({ "from": "1990-01-01T00:00:00Z" });
    world.assign(&old, "1000", &ever).await.expect(200);
    world.assign(&new, "1001", &ever).await.expect(200);
    // One call in each of 60 months, the oldest for one campaign, the rest for another.
    for index in 0..60 {
        let start = format!("{}-{:02}-15T10:00:00Z", 2026 - index / 12, 12 - index % 12);
        let mut body = phone_call(&format!("conv_{index:02}"), &start, "2026-12-20T10:05:00Z");
        let called = if index == 59 { "1000" } else { "1001" };
        body["data"]["metadata"]["phone_call"]["agent_number"] = json!(called);
        world.deliver_ok(body.to_string()).await;
    }
    world.stack.dynamodb().record();
    let first = world
        .get(&format!("/api/calls?campaign_id={old}"))
        .await
        .expect(200);
    assert_eq!(
        first["calls"],
        json!([]),
        "the budget of one page ends before that month"
    );
    assert!(first["next_cursor"].is_string());
    assert!(world.stack.dynamodb().recorded().len() <= 42);
    assert_eq!(
        ids(&world.calls(&format!("campaign_id={old}")).await),
        ["conv_59"]
    );
    assert_eq!(world.calls(&format!("campaign_id={new}")).await.len(), 59);
}

#[tokio::test]
async fn calls_that_come_in_between_move_nothing() {
    let world = World::new().await;
    let before = forty_calls(&world).await;
    let first = world.get("/api/calls?limit=10").await.expect(200);
    for (id, start) in [
        ("conv_newer", "2026-11-21T10:00:00Z"),
        ("conv_older", "2026-01-01T10:00:00Z"),
    ] {
        world
            .deliver_ok(phone_call(id, start, "2026-11-21T10:05:00Z").to_string())
            .await;
    }
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = world
        .get(&format!("/api/calls?limit=100&cursor={cursor}"))
        .await
        .expect(200);
    let mut seen = ids(first["calls"].as_array().unwrap());
    seen.extend(ids(rest["calls"].as_array().unwrap()));
    assert_eq!(seen[..40], before);
    assert_eq!(seen[40..], ["conv_older"], "in a month that held no call before");
}

#[tokio::test]
async fn bad_parameters_are_refused_by_name() {
    let world = World::new().await;
    forty_calls(&world).await;
    let cursor = world.get("/api/calls?limit=10").await.expect(200)["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let altered = format!("{}A{}", &cursor[..20], &cursor[21..]);
    for (query, code, field) in [
        ("limit=0".to_owned(), "invalid_request", "limit"),
        ("limit=101".to_owned(), "invalid_request", "limit"),
        ("limit=ten".to_owned(), "invalid_request", "limit"),
        ("limit=1&limit=2".to_owned(), "invalid_request", "limit"),
        ("campaign_id=7".to_owned(), "invalid_request", "campaign_id"),
        ("attribution=maybe".to_owned(), "invalid_request", "attribution"),
        ("colour=red".to_owned(), "invalid_request", "colour"),
        ("cursor=".to_owned(), "invalid_cursor", "cursor"),
        ("cursor=%F0%9F%A6%B7".to_owned(), "invalid_cursor", "cursor"),
        (format!("cursor={altered}"), "invalid_cursor", "cursor"),
        (
            format!("cursor={}", &cursor[..cursor.len() - 1]),
            "invalid_cursor",
            "cursor",
        ),
        (
            format!("campaign_id=cmp_00000000000000000000000000000000&attribution=ambiguous&cursor={cursor}"),
            "invalid_cursor",
            "cursor",
        ),
        (
            format!("attribution=unattributed&cursor={cursor}"),
            "invalid_cursor",
            "cursor",
        ),
    ] {
        let answer = world.get(&format!("/api/calls?{query}")).await;
        assert_eq!(answer.error(), (400, code.to_owned()), "{query}");
        assert_eq!(answer.json()["error"]["field"], field, "{query}");
    }
    let answer = world.get(&format!("/api/deliveries?cursor={cursor}")).await;
    assert_eq!(answer.error(), (400, "invalid_cursor".to_owned()));
}

#[tokio::test]
async fn garbage_in_any_parameter_is_refused_by_its_name() {
    let world = World::new().await;
    let garbage = [
        "",
        "%20",
        "null",
        "%00",
        "{}",
        "%F0%9F%A6%B7",
        "-1",
        "1e9999",
        "'%3B--",
    ];
    for (path, parameters) in [
        (
            "/api/calls",
            &[
                "campaign_id",
                "attribution",
                "from",
                "to",
                "tz",
                "outcome",
                "direction",
                "channel",
                "converted",
                "min_duration",
                "max_duration",
                "sort",
                "order",
                "limit",
                "cursor",
            ][..],
        ),
        (
            "/api/deliveries",
            &[
                "from",
                "to",
                "tz",
                "result",
                "status",
                "client_ip",
                "limit",
                "cursor",
            ],
        ),
        ("/api/campaigns", &["limit", "cursor"]),
    ] {
        for parameter in parameters {
            for value in garbage {
                let answer = world.get(&format!("{path}?{parameter}={value}")).await;
                let code = match *parameter {
                    "cursor" => "invalid_cursor",
                    _ => "invalid_request",
                };
                assert_eq!(
                    answer.error(),
                    (400, code.to_owned()),
                    "{path} {parameter}={value}"
                );
                assert_eq!(answer.json()["error"]["field"], *parameter, "{parameter}={value}");
            }
            let twice = world.get(&format!("{path}?{parameter}=1&{parameter}=1")).await;
            assert_eq!(twice.json()["error"]["field"], *parameter);
        }
    }
    // What may be any text, or cannot be together.
    for (query, field) in [
        ("agent_id=", "agent_id"),
        ("customer_number=", "customer_number"),
        ("customer_number=%00", "customer_number"),
        ("customer_number=187", "customer_number"),
        ("tracking_number=(1)-42", "tracking_number"),
        ("min_duration=10&max_duration=9", "max_duration"),
        ("max_duration=4294967296", "max_duration"),
        ("from=2026-11-02&to=2026-11-01", "to"),
        ("from=2026-11-01T10:00:00", "from"),
        ("from=2026-13-01", "from"),
        ("from=20261101", "from"),
        ("to=2026-11-01&tz=Europe", "tz"),
        ("tz=+02:00", "tz"),
    ] {
        let answer = world.get(&format!("/api/calls?{query}")).await;
        assert_eq!(answer.error(), (400, "invalid_request".to_owned()), "{query}");
        assert_eq!(answer.json()["error"]["field"], field, "{query}");
    }
}

#[tokio::test]
async fn another_order_than_by_time_needs_a_window() {
    let world = World::new().await;
    forty_calls(&world).await;
    for (query, field) in [
        ("sort=duration", "from"),
        ("sort=outcome&from=2026-11-01", "to"),
        ("sort=customer_number&to=2026-11-01", "from"),
    ] {
        let answer = world.get(&format!("/api/calls?{query}")).await;
        assert_eq!(answer.error(), (400, "window_too_large".to_owned()), "{query}");
        assert_eq!(answer.json()["error"]["field"], field, "{query}");
    }
    let query = "sort=duration&from=2026-11-01&to=2026-11-30";
    assert!(!world.calls(query).await.is_empty());
}

#[tokio::test]
async fn a_number_is_found_in_any_way_of_writing_it() {
    let options = Options {
        parameters: [("DefaultCountry".to_owned(), "US".to_owned())].into(),
        ..Options::default()
    };
    let world = World::with(options).await;
    for (id, number) in [
        ("conv_e164", "+16128675309"),
        ("conv_short", "1001"),
        ("conv_sip", "anna@example.com"),
        ("conv_hidden", "anonymous"),
    ] {
        let mut body = phone_call(id, "2026-11-20T10:00:00Z", "2026-11-20T10:05:00Z");
        body["data"]["metadata"]["phone_call"]["external_number"] = json!(number);
        world.deliver_ok(body.to_string()).await;
    }
    for (written, id) in [
        ("%2B16128675309", Some("conv_e164")),
        ("%2B1 (612) 867-5309", Some("conv_e164")),
        ("(612) 867-5309", Some("conv_e164")),
        ("612.867.5309", Some("conv_e164")),
        ("16128675309", Some("conv_e164")),
        ("5309", Some("conv_e164")),
        ("86-75309", Some("conv_e164")),
        ("%2B5309", None),
        ("1001", Some("conv_short")),
        ("anna@example.com", Some("conv_sip")),
        ("anonymous", Some("conv_hidden")),
        ("example.com", None),
    ] {
        let calls = world
            .calls(&format!("customer_number={}", written.replace(' ', "%20")))
            .await;
        assert_eq!(ids(&calls), Vec::from_iter(id), "{written}");
    }
}

#[tokio::test]
async fn the_log_is_in_order_however_it_is_spread() {
    let world = World::new().await;
    let start: Timestamp = "2026-11-10T10:00:00Z".parse().unwrap();
    let body = phone_call("conv_1", "2026-11-10T09:00:00Z", "2026-11-10T09:05:00Z").to_string();
    let mut times = Vec::new();
    for seconds in 0..60 {
        let at = start + SignedDuration::from_secs(seconds);
        world.stack.clock().set(at);
        world.deliver_ok(body.clone()).await;
        times.insert(0, at.to_string());
    }
    for query in [
        "limit=1",
        "limit=7",
        "limit=100",
        "limit=7&status=200",
        "limit=1&client_ip=127.0.0.1",
    ] {
        let log = world.walk("/api/deliveries", "deliveries", query).await;
        let told: Vec<&str> = log
            .iter()
            .map(|entry| entry["received_at"].as_str().unwrap())
            .collect();
        assert_eq!(told, times, "{query}");
    }
}

#[tokio::test]
async fn the_delivery_log_is_filtered() {
    let world = World::new().await;
    let start: Timestamp = "2026-10-30T22:00:00Z".parse().unwrap();
    let [a, b] =
        ["conv_a", "conv_b"].map(|id| phone_call(id, "2026-10-30T10:00:00Z", "2026-10-30T10:05:00Z"));
    for (hours, body) in [(0, &a), (1, &b), (3, &a), (26, &a)] {
        world.stack.clock().set(start + SignedDuration::from_hours(hours));
        world.deliver_ok(body.to_string()).await;
    }
    let other = client_from([127, 0, 0, 2].into());
    let url = format!("{}{WEBHOOK_PATH}", world.stack.url());
    let json_type = [("content-type", "application/json")];
    let refused = request(&other, Method::POST, &url, &json_type, "{}").await;
    assert_eq!(refused.status, 401);
    world.deliver_ok("{}").await;
    for (query, times) in [
        (
            "result=stored",
            vec!["2026-10-30T23:00:00Z", "2026-10-30T22:00:00Z"],
        ),
        (
            "result=duplicate",
            vec!["2026-11-01T00:00:00Z", "2026-10-31T01:00:00Z"],
        ),
        ("result=failed", vec![]),
        ("status=401", vec!["2026-11-01T00:00:00Z"]),
        ("client_ip=127.0.0.2", vec!["2026-11-01T00:00:00Z"]),
        ("client_ip=::ffff:127.0.0.2", vec!["2026-11-01T00:00:00Z"]),
        ("client_ip=::1", vec![]),
        ("conversation_id=conv_b", vec!["2026-10-30T23:00:00Z"]),
        (
            "conversation_id=conv_a&result=duplicate&to=2026-11-01",
            vec!["2026-10-31T01:00:00Z"],
        ),
        ("from=2026-10-31&to=2026-11-01", vec!["2026-10-31T01:00:00Z"]),
        (
            "from=2026-10-31&to=2026-11-01&tz=Europe/Berlin",
            vec!["2026-10-31T01:00:00Z", "2026-10-30T23:00:00Z"],
        ),
        (
            "from=2026-10-30T23:00:00Z&to=2026-10-31T01:00:00Z",
            vec!["2026-10-30T23:00:00Z"],
        ),
        ("from=1970-01-01&result=unparsed", vec!["2026-11-01T00:00:00Z"]),
    ] {
        for limit in [1, 100] {
            let found = world
                .walk("/api/deliveries", "deliveries", &format!("{query}&limit={limit}"))
                .await;
            let found: Vec<&str> = found
                .iter()
                .map(|entry| entry["received_at"].as_str().unwrap())
                .collect();
            assert_eq!(found, times, "{query} by {limit}");
        }
    }
    // What waits to be understood is found for as long as it waits.
    world
        .stack
        .clock()
        .set(start + SignedDuration::from_hours(24 * 200));
    assert!(world.deliveries().await.is_empty(), "90 days by default");
    let waiting = world
        .walk("/api/deliveries", "deliveries", "from=2026-10-01")
        .await;
    assert_eq!(waiting.len(), 1);
    assert_eq!(waiting[0]["result"], "unparsed");
    let back_then = world.walk("/api/deliveries", "deliveries", "to=2026-12-01").await;
    assert_eq!(back_then, waiting, "90 days before the end of the window");
    assert!(
        world
            .walk("/api/deliveries", "deliveries", "to=0001-01-01")
            .await
            .is_empty()
    );
}

#[tokio::test]
async fn a_cursor_of_the_log_belongs_to_its_filter() {
    let world = World::new().await;
    for _ in 0..3 {
        world
            .deliver_ok(phone_call("conv_1", "2026-11-20T10:00:00Z", "2026-11-20T10:05:00Z").to_string())
            .await;
    }
    let first = world.get("/api/deliveries?limit=1&status=200").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    for other in [
        "",
        "&status=401",
        "&status=200&from=2026-01-01",
        "&status=200&result=stored",
    ] {
        let answer = world
            .get(&format!("/api/deliveries?limit=1{other}&cursor={cursor}"))
            .await;
        assert_eq!(answer.error(), (400, "invalid_cursor".to_owned()), "{other}");
    }
    let again = world
        .get(&format!("/api/deliveries?limit=1&status=200&cursor={cursor}"))
        .await;
    assert_eq!(again.expect(200)["deliveries"][0]["result"], "duplicate");
}

#[tokio::test]
async fn what_is_not_there_is_404() {
    let world = World::new().await;
    for path in [
        "/api/calls/conv_none",
        "/api/calls/conv_none/raw",
        "/api/calls/conv_none/transcript",
        "/api/calls/%00",
        "/api/deliveries/dlv_none",
        "/api/deliveries/dlv_01a203925941742200000000000000ff",
        "/api/deliveries/dlv_01a20392-5941-7422-bab2-07dc545493a5/raw",
    ] {
        assert_eq!(
            world.get(path).await.error(),
            (404, "not_found".to_owned()),
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_delivery_log_tells_every_attempt_newest_first() {
    let world = World::new().await;
    let start: Timestamp = "2026-10-31T23:59:00Z".parse().unwrap();
    for index in 0..12 {
        // Over the end of the month.
        world
            .stack
            .clock()
            .set(start + SignedDuration::from_secs(10 * index));
        let body = phone_call(
            &format!("conv_{index}"),
            "2026-10-31T23:00:00Z",
            "2026-10-31T23:30:00Z",
        );
        world.deliver_ok(body.to_string()).await;
    }
    let expected: Vec<String> = (0..12).rev().map(|index| format!("conv_{index}")).collect();
    for limit in [1, 5, 12, 100] {
        let log = world.walk_deliveries(limit).await;
        let named: Vec<&str> = log
            .iter()
            .map(|entry| entry["conversation_id"].as_str().unwrap())
            .collect();
        assert_eq!(named, expected, "limit {limit}");
    }
    let entry = &world.walk_deliveries(100).await[0];
    let body = phone_call("conv_11", "2026-10-31T23:00:00Z", "2026-10-31T23:30:00Z").to_string();
    let hash = {
        use sha2::Digest;
        hex::encode(sha2::Sha256::digest(&body))
    };
    assert_eq!(
        *entry,
        json!({
            "id": entry["id"], "received_at": "2026-11-01T00:00:50Z", "client_ip": "127.0.0.1", "status": 200,
            "result": "stored", "reason": null, "kind": "post_call_transcription",
            "conversation_id": "conv_11", "bytes": body.len(), "body_sha256": hash,
            "latency_ms": entry["latency_ms"], "body_kept": true,
        })
    );
    let raw = world
        .get(&format!("/api/deliveries/{}/raw", entry["id"].as_str().unwrap()))
        .await;
    assert_eq!(raw.body, body.into_bytes());

    // After 90 days the log is empty, whether the store has deleted it or not.
    world
        .stack
        .clock()
        .set(start + SignedDuration::from_hours(24 * 91));
    assert!(world.walk_deliveries(100).await.is_empty());
    let path = format!("/api/deliveries/{}", entry["id"].as_str().unwrap());
    assert_eq!(world.get(&path).await.error().0, 404);
}
