//! Reports: what a marketing team reads off, exact whatever the clock does.

use serde_json::{Value, json};

use crate::support::{World, phone_call};

async fn series(world: &World, query: &str) -> Vec<Value> {
    let path = format!("/api/reports/timeseries?{query}");
    let mut answer = world.get(&path).await.expect(200);
    serde_json::from_value(answer["buckets"].take()).unwrap()
}

fn starts(buckets: &[Value]) -> Vec<&str> {
    buckets
        .iter()
        .map(|bucket| bucket["start"].as_str().unwrap())
        .collect()
}

fn calls(buckets: &[Value]) -> Vec<u64> {
    buckets
        .iter()
        .map(|bucket| bucket["calls"].as_u64().unwrap())
        .collect()
}

/// Delivers a call at each of these instants.
async fn calls_at(world: &World, instants: &[&str]) {
    for (index, instant) in instants.iter().enumerate() {
        let body = phone_call(&format!("conv_{index}"), instant, instant);
        world.deliver_ok(body.to_string()).await;
    }
}

#[tokio::test]
async fn a_day_lasts_as_long_as_its_clock_says() {
    let world = World::new().await;
    // In New York the clock goes back at 06:00Z on the first of November, and
    // forward at 07:00Z on the eighth of March.
    calls_at(
        &world,
        &[
            "2026-10-31T04:00:00Z",
            "2026-11-01T03:59:59Z",
            "2026-11-01T04:00:00Z",
            "2026-11-02T04:59:59Z",
            "2026-11-02T05:00:00Z",
            "2026-03-08T05:00:00Z",
            "2026-03-09T03:59:59Z",
            "2026-03-09T04:00:00Z",
        ],
    )
    .await;
    let autumn = series(
        &world,
        "interval=day&from=2026-10-31&to=2026-11-03&tz=America/New_York",
    )
    .await;
    let days = [
        "2026-10-31T04:00:00Z",
        "2026-11-01T04:00:00Z",
        "2026-11-02T05:00:00Z",
    ];
    assert_eq!(starts(&autumn), days, "25 hours between the last two");
    assert_eq!(calls(&autumn), [2, 2, 1]);
    let spring = series(
        &world,
        "interval=day&from=2026-03-08&to=2026-03-10&tz=America/New_York",
    )
    .await;
    assert_eq!(
        starts(&spring),
        ["2026-03-08T05:00:00Z", "2026-03-09T04:00:00Z"],
        "23 hours"
    );
    assert_eq!(calls(&spring), [2, 1]);
    let hours = series(
        &world,
        "interval=hour&from=2026-11-01&to=2026-11-02&tz=America/New_York",
    )
    .await;
    assert_eq!(hours.len(), 25);
    assert_eq!(calls(&hours)[..2], [1, 0]);
    assert_eq!(calls(&hours)[24], 1);
    let hours = series(
        &world,
        "interval=hour&from=2026-03-08&to=2026-03-09&tz=America/New_York",
    )
    .await;
    assert_eq!(hours.len(), 23);
}

#[tokio::test]
async fn buckets_follow_the_calendar_of_any_zone() {
    let world = World::new().await;
    for (query, expected) in [
        // Half an hour, and three quarters, off the full hour.
        (
            "interval=day&from=2026-11-01&to=2026-11-03&tz=Asia/Kolkata",
            vec!["2026-10-31T18:30:00Z", "2026-11-01T18:30:00Z"],
        ),
        (
            "interval=hour&from=2026-11-01T00:00:00Z&to=2026-11-01T01:00:00Z&tz=Asia/Kathmandu",
            vec!["2026-10-31T23:15:00Z", "2026-11-01T00:15:00Z"],
        ),
        // Where the clock goes forward at midnight, the day begins at one.
        (
            "interval=day&from=2026-04-23&to=2026-04-26&tz=Africa/Cairo",
            vec![
                "2026-04-22T22:00:00Z",
                "2026-04-23T22:00:00Z",
                "2026-04-24T21:00:00Z",
            ],
        ),
        // A Sunday belongs to the week that began on the Monday before.
        (
            "interval=week&from=2026-11-01&to=2026-11-10",
            vec![
                "2026-10-26T00:00:00Z",
                "2026-11-02T00:00:00Z",
                "2026-11-09T00:00:00Z",
            ],
        ),
        (
            "interval=month&from=2025-12-31&to=2026-03-01&tz=Europe/Berlin",
            vec![
                "2025-11-30T23:00:00Z",
                "2025-12-31T23:00:00Z",
                "2026-01-31T23:00:00Z",
            ],
        ),
        // Samoa had no 30 December 2011.
        (
            "interval=day&from=2011-12-29&to=2012-01-01&tz=Pacific/Apia",
            vec!["2011-12-29T10:00:00Z", "2011-12-30T10:00:00Z"],
        ),
    ] {
        let buckets = series(&world, query).await;
        assert_eq!(starts(&buckets), expected, "{query}");
        assert!(
            buckets
                .iter()
                .all(|bucket| bucket["calls"] == 0 && bucket["conversion_rate"].is_null())
        );
    }
}

#[tokio::test]
async fn only_what_lies_within_the_window_counts() {
    let world = World::new().await;
    calls_at(
        &world,
        &[
            "2026-11-01T10:00:00Z",
            "2026-11-01T12:00:00Z",
            "2026-11-02T12:00:00Z",
            "2026-11-02T14:00:00Z",
        ],
    )
    .await;
    let window = "from=2026-11-01T11:00:00Z&to=2026-11-02T14:00:00Z";
    let buckets = series(&world, &format!("interval=day&{window}")).await;
    assert_eq!(starts(&buckets), ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"]);
    assert_eq!(calls(&buckets), [1, 1]);
    let summary = world
        .get(&format!("/api/reports/summary?group_by=outcome&{window}"))
        .await;
    assert_eq!(summary.expect(200)["total"]["calls"], 2);
}

#[tokio::test]
async fn a_report_without_a_window_is_about_the_last_thirty_days() {
    let world = World::new().await;
    world.stack.clock().set("2026-11-22T10:00:00Z".parse().unwrap());
    calls_at(
        &world,
        &[
            "2026-10-22T23:59:59Z",
            "2026-10-23T00:00:00Z",
            "2026-11-22T09:00:00Z",
        ],
    )
    .await;
    let summary = world
        .get("/api/reports/summary?group_by=channel")
        .await
        .expect(200);
    assert_eq!(summary["from"], "2026-10-23T00:00:00Z");
    assert_eq!(summary["to"], "2026-11-22T10:00:00Z");
    assert_eq!(summary["total"]["calls"], 2);
    assert_eq!(
        summary["total"]["first_time_customers"], 0,
        "the customer had called before"
    );
    assert_eq!(summary["total"]["repeat_customers"], 1);
    let buckets = series(&world, "interval=day").await;
    assert_eq!(buckets.len(), 31);
    assert_eq!(calls(&buckets).iter().sum::<u64>(), 2);
}

#[tokio::test]
async fn a_customer_is_new_to_the_row_that_holds_the_first_call_ever() {
    let world = World::new().await;
    let (a, b) = (world.campaign("A").await, world.campaign("B").await);
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&a, "1001", &ever).await.expect(200);
    world.assign(&b, "1002", &ever).await.expect(200);
    for (id, start, number) in [
        ("conv_1", "2026-11-01T10:00:00Z", "1001"),
        ("conv_2", "2026-11-02T10:00:00Z", "1002"),
        ("conv_3", "2026-11-03T10:00:00Z", "1001"),
    ] {
        let mut body = phone_call(id, start, start);
        body["data"]["metadata"]["phone_call"]["agent_number"] = json!(number);
        world.deliver_ok(body.to_string()).await;
    }
    let summary = |query: &str| {
        let path = format!("/api/reports/summary?group_by=campaign&to=2026-12-01&{query}");
        let world = &world;
        async move { world.get(&path).await.expect(200) }
    };
    let customers = |row: &Value| {
        (
            row["first_time_customers"].clone(),
            row["repeat_customers"].clone(),
        )
    };
    let both = summary("from=2026-11-01").await;
    assert_eq!(both["rows"][0]["name"], "A");
    assert_eq!(customers(&both["rows"][0]), (json!(1), json!(0)));
    assert_eq!(both["rows"][1]["key"], b.as_str());
    assert_eq!(customers(&both["rows"][1]), (json!(0), json!(1)));
    assert_eq!(
        customers(&both["total"]),
        (json!(1), json!(0)),
        "one customer, whatever the rows"
    );
    let of_b = summary(&format!("from=2026-11-01&campaign_id={b}")).await;
    assert_eq!(
        customers(&of_b["total"]),
        (json!(0), json!(1)),
        "the first call was another campaign's"
    );
    let later = summary("from=2026-11-02").await;
    assert_eq!(customers(&later["total"]), (json!(0), json!(1)));
}

#[tokio::test]
async fn a_customer_is_known_however_long_ago_the_first_call_was() {
    let world = World::new().await;
    let deliver = async |id: &str, start: &str, customer: &str| {
        let mut body = phone_call(id, start, start);
        body["data"]["metadata"]["phone_call"]["external_number"] = json!(customer);
        world.deliver_ok(body.to_string()).await;
    };
    deliver("conv_first", "2024-02-29T10:00:00Z", "+16125550101").await;
    // More calls in between than one would read through for two customers.
    for index in 0..30 {
        let start = format!("2026-10-{:02}T10:00:00Z", index + 1);
        deliver(&format!("conv_{index}"), &start, &format!("+161255502{index:02}")).await;
    }
    deliver("conv_again", "2026-11-01T10:00:00Z", "+16125550101").await;
    deliver("conv_new", "2026-11-01T11:00:00Z", "+16125550102").await;
    let summary = world
        .get("/api/reports/summary?group_by=agent&from=2026-11-01&to=2026-11-02")
        .await
        .expect(200);
    assert_eq!(summary["total"]["first_time_customers"], 1);
    assert_eq!(summary["total"]["repeat_customers"], 1);
}

#[tokio::test]
async fn bad_reports_are_refused_by_name() {
    let world = World::new().await;
    for (query, code, field) in [
        ("summary?", "invalid_request", "group_by"),
        ("summary?group_by=colour", "invalid_request", "group_by"),
        (
            "summary?group_by=agent&group_by=agent",
            "invalid_request",
            "group_by",
        ),
        ("summary?group_by=agent&tz=Mars/Olympus", "invalid_request", "tz"),
        ("summary?group_by=agent&tz=", "invalid_request", "tz"),
        ("summary?group_by=agent&from=yesterday", "invalid_request", "from"),
        (
            "summary?group_by=agent&from=2026-11-02&to=2026-11-02",
            "invalid_request",
            "to",
        ),
        (
            "summary?group_by=agent&from=2999-01-01",
            "invalid_request",
            "from",
        ),
        (
            "summary?group_by=agent&interval=day",
            "invalid_request",
            "interval",
        ),
        ("summary?group_by=agent&limit=10", "invalid_request", "limit"),
        ("timeseries?", "invalid_request", "interval"),
        ("timeseries?interval=minute", "invalid_request", "interval"),
        (
            "timeseries?interval=day&campaign_id=7",
            "invalid_request",
            "campaign_id",
        ),
        (
            "timeseries?interval=hour&from=2020-01-01&to=2026-01-01",
            "window_too_large",
            "interval",
        ),
        (
            "timeseries?interval=day&from=0001-01-01",
            "window_too_large",
            "interval",
        ),
    ] {
        let answer = world.get(&format!("/api/reports/{query}")).await;
        assert_eq!(answer.error(), (400, code.to_owned()), "{query}");
        assert_eq!(answer.json()["error"]["field"], field, "{query}");
    }
}
