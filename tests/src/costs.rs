//! What a request costs at the store: units and round trips are budgets.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use local::dynamodb::{Fault, StoreRequest};
use local::sender::SIGNATURE_HEADER;
use reqwest::Method;
use serde_json::{Value, json};

use crate::provider::{Conversation, Provider};
use crate::signing_in::{ANNA, Browser};
use crate::support::{World, deliver_many, event, full_size, phone_call};
use crate::syncing;

pub(crate) fn write_units(requests: &[StoreRequest]) -> f64 {
    requests.iter().map(|request| request.write_units).sum()
}

pub(crate) fn read_units(requests: &[StoreRequest]) -> f64 {
    requests.iter().map(|request| request.read_units).sum()
}

/// The longest chain of requests of which each began after the one before was
/// answered. With every request held up, those sent together overlap for sure.
pub(crate) fn round_trips(requests: &[StoreRequest]) -> usize {
    let mut trips = 0;
    let mut answered = None;
    for request in requests {
        if answered.is_none_or(|answered| request.started >= answered) {
            trips += 1;
            answered = Some(request.finished);
        } else {
            answered = answered.max(Some(request.finished));
        }
    }
    trips
}

async fn settled_world() -> World {
    let world = World::new().await;
    settle(&world).await;
    world
}

/// A campaign with the sample's number, and a call in the same month, so that
/// what is measured is the ordinary case.
pub(crate) async fn settle(world: &World) {
    let campaign = world.campaign("Spring mailing").await;
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world.assign(&campaign, "+16125550142", &ever).await.expect(200);
    world
        .deliver_ok(phone_call("conv_first", "2026-11-01T10:00:00Z", "2026-11-01T10:02:00Z").to_string())
        .await;
}

#[tokio::test]
async fn a_new_phone_call_costs_at_most_nine_write_units() {
    let world = settled_world().await;
    world.stack.dynamodb().record();
    world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await;
    let requests = world.stack.dynamodb().recorded();
    eprintln!(
        "new call: {} write, {} read units",
        write_units(&requests),
        read_units(&requests)
    );
    assert!(write_units(&requests) <= 9.0, "{requests:#?}");
    assert!(write_units(&requests) >= 5.0, "the store counts");
}

#[tokio::test]
async fn a_duplicate_costs_at_most_three_write_units() {
    let world = settled_world().await;
    world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await;
    world.stack.dynamodb().record();
    assert_eq!(
        world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await,
        "duplicate"
    );
    let requests = world.stack.dynamodb().recorded();
    eprintln!(
        "duplicate: {} write, {} read units",
        write_units(&requests),
        read_units(&requests)
    );
    assert!(write_units(&requests) <= 3.0, "{requests:#?}");
}

#[tokio::test]
async fn a_refused_delivery_costs_at_most_two_write_units() {
    let world = settled_world().await;
    world.stack.dynamodb().record();
    let bad = [
        ("content-type", "application/json"),
        (SIGNATURE_HEADER, "t=1795300084,v0=00"),
    ];
    assert_eq!(
        world
            .post(&bad, event("webhook/phone_inbound_twilio.json"))
            .await
            .status,
        401
    );
    let requests = world.stack.dynamodb().recorded();
    eprintln!("refused: {} write units", write_units(&requests));
    assert!(write_units(&requests) <= 2.0, "{requests:#?}");
}

#[tokio::test]
async fn a_delivery_takes_two_sequential_round_trips() {
    let world = settled_world().await;
    let hold = Duration::from_millis(300);
    world.stack.dynamodb().inject(move |_| Some(Fault::Delayed(hold)));
    for (what, most) in [("stored", 2), ("duplicate", 2)] {
        world.stack.dynamodb().record();
        assert_eq!(
            world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await,
            what
        );
        let requests = world.stack.dynamodb().recorded();
        assert_eq!(round_trips(&requests), most, "{what}: {requests:#?}");
    }
}

#[tokio::test]
async fn an_erased_call_costs_at_most_twenty_write_units_and_makes_others_no_slower() {
    let world = settled_world().await;
    let sample = |id: &str| {
        let body = String::from_utf8(event("webhook/phone_inbound_twilio.json")).unwrap();
        body.replace("conv_edaakjhb57yhmdwecgv6e0bfjemh", id)
    };
    let mut other = phone_call("conv_other", "2026-11-01T11:00:00Z", "2026-11-01T11:02:00Z");
    other["data"]["metadata"]["phone_call"]["external_number"] = json!("+16125550199");
    world.deliver_ok(other.to_string()).await;
    world.stack.dynamodb().record();
    let erasure = json!({ "customer_number": "+16125550199", "dry_run": false });
    let receipt = world
        .send(Method::POST, "/api/erasures", &erasure)
        .await
        .expect(200);
    assert_eq!(receipt["call_ids"], json!(["conv_other"]));
    let requests = world.stack.dynamodb().recorded();
    eprintln!(
        "erased: {} write, {} read units",
        write_units(&requests),
        read_units(&requests)
    );
    assert!(write_units(&requests) <= 20.0, "{requests:#?}");

    // An instance learns the key once.
    world.deliver_ok(sample("conv_before")).await;
    let hold = Duration::from_millis(300);
    world.stack.dynamodb().inject(move |_| Some(Fault::Delayed(hold)));
    world.stack.dynamodb().record();
    assert_eq!(world.deliver_ok(sample("conv_after")).await, "stored");
    let requests = world.stack.dynamodb().recorded();
    eprintln!("after an erasure: {} read units", read_units(&requests));
    assert_eq!(round_trips(&requests), 2, "{requests:#?}");
    assert!(read_units(&requests) <= 8.0, "{requests:#?}");
}

#[tokio::test]
async fn a_page_of_25_calls_costs_at_most_four_read_units() {
    let world = settled_world().await;
    // Three campaigns on a page: each name is a read of its own.
    for number in ["+16125550143", "+16125550144"] {
        let campaign = world.campaign("Another").await;
        let ever = json!({ "from": "2020-01-01T00:00:00Z" });
        world.assign(&campaign, number, &ever).await.expect(200);
    }
    for index in 0..30 {
        let body = String::from_utf8(event("webhook/phone_inbound_twilio.json")).unwrap();
        let id = format!("conv_edaakjhb57yhmdwecgv6e0bfje{index:02}");
        let body = body
            .replace("conv_edaakjhb57yhmdwecgv6e0bfjemh", &id)
            .replace("+16125550142", &format!("+1612555014{}", 2 + index % 3));
        world.deliver_ok(body).await;
    }
    for path in ["/api/calls", "/api/calls?attribution=unattributed"] {
        world.stack.dynamodb().record();
        world.get(path).await.expect(200);
        let requests = world.stack.dynamodb().recorded();
        eprintln!("{path}: {} read units", read_units(&requests));
        assert!(read_units(&requests) <= 4.0, "{requests:#?}");
        assert!(requests.iter().all(|request| request.operation != "Scan"));
    }
    // And a page that is not the first.
    let first = world.get("/api/calls?limit=15").await.expect(200);
    let cursor = first["next_cursor"].as_str().unwrap();
    world.stack.dynamodb().record();
    let page = world
        .get(&format!("/api/calls?limit=15&cursor={cursor}"))
        .await
        .expect(200);
    assert_eq!(page["calls"].as_array().unwrap().len(), 15);
    let requests = world.stack.dynamodb().recorded();
    assert!(read_units(&requests) <= 4.0, "{requests:#?}");
    let queries = requests.iter().filter(|request| request.operation == "Query");
    assert_eq!(queries.count(), 1);
}

#[tokio::test]
async fn one_assignment_costs_at_most_ten_write_units() {
    let world = settled_world().await;
    let campaign = world.campaign("Another").await;
    world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await;
    let path = "/api/calls/conv_edaakjhb57yhmdwecgv6e0bfjemh/attribution";
    for (what, method, body) in [
        ("assigned", Method::PUT, json!({ "campaign_id": campaign })),
        ("assigned again", Method::PUT, json!({ "campaign_id": campaign })),
        ("released", Method::DELETE, json!({})),
    ] {
        world.stack.dynamodb().record();
        world.send(method, path, &body).await.expect(200);
        let requests = world.stack.dynamodb().recorded();
        eprintln!(
            "{what}: {} write, {} read units",
            write_units(&requests),
            read_units(&requests)
        );
        let most = if what == "assigned again" { 0.0 } else { 10.0 };
        assert!(write_units(&requests) <= most, "{what}: {requests:#?}");
    }
}

#[tokio::test]
async fn a_conversion_costs_at_most_seven_write_units() {
    let world = settled_world().await;
    let path = "/api/calls/conv_first/conversion";
    let worth = json!({ "converted": true, "value": { "amount": "120.00", "currency": "USD" } });
    world.stack.dynamodb().record();
    world.send(Method::PUT, path, &worth).await.expect(200);
    let requests = world.stack.dynamodb().recorded();
    eprintln!(
        "converted: {} write, {} read units",
        write_units(&requests),
        read_units(&requests)
    );
    assert!((1.0..=7.0).contains(&write_units(&requests)), "{requests:#?}");
}

#[tokio::test]
async fn a_bulk_of_a_hundred_costs_what_a_hundred_assignments_cost() {
    let world = settled_world().await;
    let campaign = world.campaign("Another").await;
    deliver_many(&world, 100).await;
    let ids: Vec<String> = (0..100).map(|index| format!("conv_{index:04}")).collect();
    let body = json!({ "campaign_id": campaign, "call_ids": ids });
    world.stack.dynamodb().record();
    let answer = world
        .send(Method::POST, "/api/assignments", &body)
        .await
        .expect(200);
    let requests = world.stack.dynamodb().recorded();
    eprintln!(
        "a bulk of 100: {} write, {} read units",
        write_units(&requests),
        read_units(&requests)
    );
    assert!(write_units(&requests) <= 1000.0);
    world.stack.dynamodb().record();
    let path = format!(
        "/api/assignments/{}/undo",
        answer["assignment_id"].as_str().unwrap()
    );
    world.send(Method::POST, &path, &json!({})).await.expect(200);
    let requests = world.stack.dynamodb().recorded();
    eprintln!("undone: {} write units", write_units(&requests));
    assert!(write_units(&requests) <= 1000.0);
}

#[tokio::test]
async fn a_contact_costs_at_most_four_write_units() {
    let world = World::new().await;
    let campaign = world.campaign("A").await;
    let path = format!("/api/campaigns/{campaign}/contacts");
    let count = if full_size() { 10_000 } else { 990 };
    let rows: String = (0..count).map(|index| format!("+1612{index:07}\n")).collect();
    for (what, most) in [("added", 4.0), ("uploaded again", 0.0)] {
        world.stack.dynamodb().record();
        let headers = [("content-type", "text/csv")];
        let body = format!("number\n{rows}");
        world
            .request(Method::POST, &path, &headers, body)
            .await
            .expect(200);
        let requests = world.stack.dynamodb().recorded();
        let (written, read) = (write_units(&requests), read_units(&requests));
        eprintln!("{count} contacts {what}: {written} write, {read} read units");
        assert!(written <= most * f64::from(count));
        assert!(requests.iter().all(|request| request.operation != "Scan"));
    }
}

const FIRST_START: &str = "2026-09-21T00:00:00Z";

/// From one stored call to the next.
fn step(count: u32) -> SignedDuration {
    SignedDuration::from_secs(60 * 24 * 3600 / i64::from(count))
}

/// Calls put straight into the store, evenly over 60 days up to
/// 2026-11-20, as a call that was delivered is there; 1 in 100 is of another agent, and
/// every second one is credited to the campaign, where there is one.
async fn store_calls(world: &World, count: u32, campaign: Option<&str>) {
    let first = phone_call("conv_first", FIRST_START, FIRST_START);
    world.deliver_ok(first.to_string()).await;
    let table = "CallsTable";
    let key = json!({ "call_id": { "S": "conv_first" }, "part": { "S": "head" } });
    let item = world
        .ask_store("GetItem", &json!({ "TableName": table, "Key": key }))
        .await["Item"]
        .clone();
    let months = ["2026-09", "2026-10", "2026-11"];
    let item_of_months =
        json!({ "call_id": { "S": "calls" }, "part": { "S": "months" }, "months": { "SS": months } });
    let put = json!({ "TableName": table, "Item": item_of_months });
    world.ask_store("PutItem", &put).await;
    let start: Timestamp = FIRST_START.parse().unwrap();
    let indexes: Vec<u32> = (1..count).collect();
    for chunk in indexes.chunks(25) {
        let puts = chunk.iter().map(|index| {
            let started =
                (start + step(count) * i32::try_from(*index).unwrap()).strftime("%Y-%m-%dT%H:%M:%S.000Z");
            let (started, id) = (started.to_string(), format!("conv_{index:024}"));
            let mut item = item.clone();
            for (attribute, value) in [
                ("call_id", id.clone()),
                ("started", format!("{started}#{id}")),
                ("start_month", started[..7].to_owned()),
                ("campaign_month", format!("unattributed#{}", &started[..7])),
                (
                    "customer_number",
                    format!(
                        "+1612{:07}",
                        u64::from(*index) * 7919 % (u64::from(count) * 6 / 10)
                    ),
                ),
                (
                    "agent_id",
                    if index % 100 == 0 { "agent_rare" } else { "agent_1" }.to_owned(),
                ),
            ] {
                item[attribute] = json!({ "S": value });
            }
            if let Some(campaign) = campaign.filter(|_| index % 2 == 0) {
                item["campaign_month"] = json!({ "S": format!("{campaign}#{}", &started[..7]) });
                item["rule_result"]["M"]["status"] = json!({ "S": "attributed" });
                item["rule_result"]["M"]["campaign_id"] = json!({ "S": campaign });
                item["rule_result"]["M"]["method"] = json!({ "S": "tracking_number" });
            }
            item["duration_seconds"] = json!({ "N": (index % 600).to_string() });
            json!({ "PutRequest": { "Item": item } })
        });
        let puts: Vec<Value> = puts.collect();
        let answer = world
            .ask_store("BatchWriteItem", &json!({ "RequestItems": { (table): puts } }))
            .await;
        assert_eq!(answer["UnprocessedItems"], json!({}));
    }
}

/// Read units and milliseconds of a request, and its answer.
async fn measured(world: &World, path: &str) -> (f64, u128, Value) {
    world.stack.dynamodb().record();
    let began = Instant::now();
    let answer = world.get(path).await.expect(200);
    let milliseconds = began.elapsed().as_millis();
    let requests = world.stack.dynamodb().recorded();
    assert!(requests.iter().all(|request| request.operation != "Scan"));
    (read_units(&requests), milliseconds, answer)
}

#[tokio::test]
async fn a_page_by_time_costs_the_same_at_every_size() {
    let sizes: &[u32] = if full_size() {
        &[1000, 10_000, 100_000]
    } else {
        &[1000, 3000]
    };
    let mut pages = Vec::new();
    for size in sizes {
        let world = World::new().await;
        store_calls(&world, *size, None).await;
        let tell = |what: &str, (units, milliseconds, _): &(f64, u128, Value)| {
            eprintln!("{size} calls: {what}: {units} read units, {milliseconds} ms");
        };
        // What runs first pays for the start of a function.
        world.get("/api/calls?limit=1").await.expect(200);

        let mut page = measured(&world, "/api/calls").await;
        tell("first page", &page);
        pages.push(page.0);
        let mut number = 1;
        while let (Some(cursor), 1..100) = (page.2["next_cursor"].as_str(), number) {
            page = measured(&world, &format!("/api/calls?cursor={cursor}")).await;
            number += 1;
        }
        tell(&format!("page {number}"), &page);
        pages.push(page.0);

        let filtered = measured(&world, "/api/calls?agent_id=agent_rare").await;
        tell("page of a filter that 1 in 100 matches", &filtered);
        let found = filtered.2["calls"].as_array().unwrap().len();
        assert_eq!(found, 25.min(*size as usize / 100 - usize::from(*size == 1000)));

        // As many as can be put in order.
        let most = (*size).min(10_000);
        let to = FIRST_START.parse::<Timestamp>().unwrap() + step(*size) * i32::try_from(most).unwrap();
        let sorted = measured(
            &world,
            &format!("/api/calls?sort=duration&from=2026-09-21&to={to}"),
        )
        .await;
        tell(&format!("page by duration, of a window of {most}"), &sorted);

        for report in ["summary?group_by=campaign", "timeseries?interval=day"] {
            let path = format!("/api/reports/{report}&from=2026-09-21&to=2026-11-20");
            let all = measured(&world, &path).await;
            tell(&format!("{report} of 60 days"), &all);
            if report.starts_with("summary") {
                assert_eq!(all.2["total"]["calls"], *size);
            }
            // Half of the calls are from before, where their customers are looked for.
            let path = format!("/api/reports/{report}&from=2026-10-21&to=2026-11-20");
            tell(
                &format!("{report} of the last 30 days of these"),
                &measured(&world, &path).await,
            );
        }
    }
    assert!(pages.iter().all(|units| *units <= 4.0), "{pages:?}");
    // But for a few bytes of difference between one call and another.
    let least = pages.iter().copied().fold(f64::INFINITY, f64::min);
    assert!(pages.iter().all(|units| *units <= least + 0.5), "{pages:?}");
}

#[tokio::test]
async fn a_run_of_sync_costs_what_it_finds() {
    let (held, lost) = if full_size() { (1000, 100) } else { (200, 20) };
    let provider = Provider::start().await;
    let world = syncing::world_of(&provider).await;
    let now: Timestamp = syncing::NOW.parse().unwrap();
    // Three days of ten agents.
    let conversation = |index: i64| {
        let start = now - SignedDuration::from_secs(3600 + index * 3 * 24 * 3600 / (held + lost));
        Conversation::new(
            &format!("conv_{index:026}"),
            &format!("agent_{}", index % 10),
            &start.to_string(),
        )
    };
    for index in 0..held {
        let made_at = conversation(index).started_at + SignedDuration::from_mins(2);
        world
            .deliver_ok(conversation(index).delivery(&made_at.to_string()))
            .await;
        provider.put(conversation(index));
    }
    // The first run compares all, asks about the agents, and sees that all is whole.
    world.stack.clock().advance(SignedDuration::from_hours(1));
    assert_eq!(world.sync().await["last_run"]["fetched"], 0);
    for (what, found) in [("nothing new", 0), ("healed", lost)] {
        for index in held..held + found {
            provider.put(conversation(index));
        }
        world.stack.clock().advance(SignedDuration::from_mins(15));
        provider.asked();
        world.stack.dynamodb().record();
        let run = world.sync_once().await.expect(200)["last_run"].clone();
        assert_eq!((&run["stored"], &run["errors"]), (&json!(found), &json!([])));
        let requests = world.stack.dynamodb().recorded();
        let (asked, written, read) = (
            provider.asked().len(),
            write_units(&requests),
            read_units(&requests),
        );
        eprintln!(
            "sync over {} calls, {what}, {found} stored: {asked} provider requests, {written} write, {read} read units",
            held + found
        );
        assert_eq!(run["requests"], asked);
        // One for each page and each call, one for the webhooks.
        let (held, found) = (usize::try_from(held).unwrap(), usize::try_from(found).unwrap());
        assert_eq!(asked, (held + found).div_ceil(100) + found + 1);
        #[expect(clippy::cast_precision_loss, reason = "small")]
        let (held, found) = (held as f64, found as f64);
        // For each call what a delivery costs but for its log; then the run, and the rows that changed.
        let most = 4.0 + 7.0 * found + if found > 0.0 { 40.0 } else { 0.0 };
        assert!(written <= most, "{written} of {most}");
        assert!(read <= 20.0 + 0.1 * held + 10.0 * found, "{read}");
        assert!(requests.iter().all(|request| request.operation != "Scan"));
    }
    world.end().await;
}

#[tokio::test]
async fn a_page_of_the_console_costs_what_it_reads() {
    let sizes: &[u32] = if full_size() {
        &[1500, 100_000]
    } else {
        &[300, 1500]
    };
    let mut lists: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for size in sizes {
        let world = World::new().await;
        let campaign = world.campaign("Spring mailing").await;
        store_calls(&world, *size, Some(&campaign)).await;
        let ever = json!({ "from": "2020-01-01T00:00:00Z" });
        world.assign(&campaign, "+16125550142", &ever).await.expect(200);
        let mut browser = Browser::new(&world);
        browser.sign_in(ANNA).await;
        world.stack.clock().set("2026-11-20T00:00:00Z".parse().unwrap());
        browser.sign_in(ANNA).await;
        let pages = [
            "/calls".to_owned(),
            "/calls?customer_number=0142".to_owned(),
            "/calls?sort=duration&from=2026-11-15&through=2026-11-20".to_owned(),
            "/calls/conv_first".to_owned(),
            "/unattributed".to_owned(),
            "/campaigns".to_owned(),
            format!("/campaigns/{campaign}"),
            format!("/campaigns/{campaign}/calls"),
            format!("/campaigns/{campaign}/numbers"),
            format!("/campaigns/{campaign}/settings"),
            "/deliveries".to_owned(),
            "/sync".to_owned(),
        ];
        // What runs first pays for the start of a function.
        browser.page("/calls").await;
        for page in pages {
            world.stack.dynamodb().record();
            let began = Instant::now();
            browser.page(&page).await;
            let milliseconds = began.elapsed().as_millis();
            let requests = world.stack.dynamodb().recorded();
            assert!(requests.iter().all(|request| request.operation != "Scan"));
            let units = read_units(&requests);
            eprintln!("{size} calls: {page}: {units} read units, {milliseconds} ms");
            assert!(write_units(&requests) == 0.0, "to look changes nothing");
            if ["/calls", "/unattributed"].contains(&page.as_str()) || page.ends_with("/calls") {
                let page = page.replace(&campaign, "{id}");
                lists.entry(page).or_default().push(units);
            }
        }
    }
    for (page, units) in lists {
        let least = units.iter().copied().fold(f64::INFINITY, f64::min);
        // Whatever the size, but for a few bytes of difference between one call and another.
        assert!(
            units.iter().all(|units| *units <= 9.0 && *units <= least + 0.5),
            "{page}: {units:?}"
        );
    }
}
