//! Every filter, sort and report, against a plain recount of the same calls.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};

use crate::exporting::download;
use crate::support::{World, full_size, phone_call};

const START: &str = "2026-07-20T00:00:00Z";
const DAYS: i64 = 125;
/// Ours; the last one belongs to no campaign.
const NUMBERS: [&str; 4] = ["+16125550142", "+16125550143", "+4930555014", "1001"];
/// The second one works for both campaigns, the others for none.
const AGENTS: [&str; 3] = ["agent_1", "agent_2", "agent_3"];
const OUTCOMES: [&str; 3] = ["success", "failure", "unknown"];
const ZONES: [&str; 4] = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"];

/// A call as the test knows it.
#[derive(Debug, Clone)]
struct Call {
    id: String,
    started_at: Timestamp,
    duration: u32,
    outcome: &'static str,
    channel: &'static str,
    direction: Option<&'static str>,
    agent: &'static str,
    customer: Option<String>,
    number: Option<&'static str>,
    /// What a person says: nothing, nobody, or one of the campaigns.
    assigned: Option<Option<usize>>,
    converted: Option<bool>,
}

impl Call {
    /// The campaign that it is credited to, or its standing.
    fn credit(&self) -> Result<usize, &'static str> {
        match (self.assigned, self.number, self.agent) {
            (Some(Some(campaign)), ..) => Ok(campaign),
            (Some(None), ..) => Err("unattributed"),
            (None, Some("+16125550142" | "+16125550143"), _) => Ok(0),
            (None, Some("+4930555014"), _) => Ok(1),
            (None, _, "agent_2") => Err("ambiguous"),
            (None, ..) => Err("unattributed"),
        }
    }

    fn has_converted(&self) -> bool {
        self.converted.unwrap_or(self.outcome == "success")
    }

    fn body(&self) -> Value {
        let (start, end) = (self.started_at.to_string(), self.started_at.to_string());
        let mut body = phone_call(&self.id, &start, &end);
        let data = &mut body["data"];
        data["agent_id"] = json!(self.agent);
        data["analysis"]["call_successful"] = json!(self.outcome);
        let metadata = &mut data["metadata"];
        metadata["call_duration_secs"] = json!(self.duration);
        match self.channel {
            "phone" => {
                metadata["phone_call"]["direction"] = json!(self.direction);
                metadata["phone_call"]["agent_number"] = json!(self.number);
                metadata["phone_call"]["external_number"] = json!(self.customer);
            }
            "sms" => {
                metadata["phone_call"] = Value::Null;
                metadata["sms"] = json!({
                    "direction": self.direction, "agent_phone_number": self.number,
                    "sms_user_phone_number": self.customer,
                });
            }
            _ => {
                metadata["phone_call"] = Value::Null;
                metadata["conversation_initiation_source"] = json!("widget");
            }
        }
        body
    }
}

fn call() -> impl Strategy<Value = Call> {
    let customers = if full_size() { 4000 } else { 150 };
    let facts = (
        0..DAYS * 24 * 12,
        prop_oneof![0..5_u32, 0..600_u32],
        select(&OUTCOMES),
        prop_oneof![6 => Just("phone"), 1 => Just("sms"), 2 => Just("web")],
        select(&["inbound", "outbound"]),
        select(&AGENTS),
        prop_oneof![9 => (0..customers).prop_map(Some), 1 => Just(None)],
        select(&NUMBERS),
    );
    let decisions = (
        weighted(0.1, weighted(0.8, 0..2_usize)),
        weighted(0.1, any::<bool>()),
    );
    (facts, decisions).prop_map(|(facts, (assigned, converted))| {
        let (minutes, duration, outcome, channel, direction, agent, customer, number) = facts;
        let start: Timestamp = START.parse().unwrap();
        let is_line = channel != "web";
        Call {
            id: String::new(),
            started_at: start + SignedDuration::from_mins(5 * minutes),
            duration,
            outcome,
            channel,
            direction: is_line.then_some(direction),
            agent,
            customer: customer
                .filter(|_| is_line)
                .map(|index: i32| format!("+1612{:07}", 5_550_000 + index)),
            number: is_line.then_some(number),
            assigned,
            converted,
        }
    })
}

/// Calls in a system, and the campaigns there.
struct Known {
    world: World,
    calls: Vec<Call>,
    /// The id of each customer's first call.
    first_calls: BTreeMap<String, String>,
    campaigns: [String; 2],
}

impl Known {
    async fn new(count: usize) -> Self {
        let world = World::new().await;
        let campaigns = [world.campaign("Spring").await, world.campaign("Autumn").await];
        let ever = json!({ "from": "2020-01-01T00:00:00Z" });
        for (campaign, number) in [(0, NUMBERS[0]), (0, NUMBERS[1]), (1, NUMBERS[2])] {
            world
                .assign(&campaigns[campaign], number, &ever)
                .await
                .expect(200);
        }
        for campaign in &campaigns {
            let path = format!("/api/campaigns/{campaign}/agents/agent_2");
            world.send(Method::PUT, &path, &ever).await.expect(200);
        }
        let mut runner = deterministic(1);
        let mut calls: Vec<Call> = (0..count)
            .map(|_| call().new_tree(&mut runner).unwrap().current())
            .collect();
        for (index, call) in calls.iter_mut().enumerate() {
            // Ids that do not sort as they were made.
            call.id = format!("conv_{:05}", index * 7919 % 100_003);
        }
        let mut in_time: Vec<&Call> = calls.iter().collect();
        in_time.sort_by_key(|call| (call.started_at, &call.id));
        let mut first_calls = BTreeMap::new();
        for call in in_time {
            if let Some(customer) = &call.customer {
                first_calls.entry(customer.clone()).or_insert(call.id.clone());
            }
        }
        let known = Self {
            world,
            calls,
            first_calls,
            campaigns,
        };
        for chunk in known.calls.chunks(8) {
            let told = chunk.iter().map(|call| known.tell(call));
            futures_util::future::join_all(told).await;
        }
        known
    }

    /// Has a call delivered and decided about.
    async fn tell(&self, call: &Call) {
        self.world.deliver_ok(call.body().to_string()).await;
        let path = format!("/api/calls/{}", call.id);
        if let Some(campaign) = call.assigned {
            let body = json!({ "campaign_id": campaign.map(|campaign| &self.campaigns[campaign]) });
            let path = format!("{path}/attribution");
            self.world.send(Method::PUT, &path, &body).await.expect(200);
        }
        if let Some(converted) = call.converted {
            let body = json!({ "converted": converted });
            let path = format!("{path}/conversion");
            self.world.send(Method::PUT, &path, &body).await.expect(200);
        }
    }

    fn recount(&self, filter: &Filter) -> Vec<&Call> {
        self.calls.iter().filter(|call| filter.holds(call)).collect()
    }
}

fn deterministic(seed: u8) -> TestRunner {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
    TestRunner::new_with_rng(config(0), rng)
}

fn config(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    }
}

/// A bound in time as a person writes it.
#[derive(Debug, Clone)]
enum Bound {
    Minute(i64),
    Day(i64),
}

impl Bound {
    fn text(&self) -> String {
        let start: Timestamp = START.parse().unwrap();
        match self {
            Self::Minute(minutes) => (start + SignedDuration::from_mins(*minutes)).to_string(),
            Self::Day(days) => self.date(*days).to_string(),
        }
    }

    fn date(&self, days: i64) -> Date {
        let start: Timestamp = START.parse().unwrap();
        start
            .to_zoned(TimeZone::UTC)
            .date()
            .checked_add(days.days())
            .unwrap()
    }

    fn instant(&self, zone: &str) -> Timestamp {
        match self {
            Self::Minute(_) => self.text().parse().unwrap(),
            Self::Day(days) => self.date(*days).in_tz(zone).unwrap().timestamp(),
        }
    }
}

fn bound() -> impl Strategy<Value = Bound> {
    prop_oneof![
        (-10..DAYS * 24 * 60).prop_map(Bound::Minute),
        (-1..DAYS).prop_map(Bound::Day)
    ]
}

#[derive(Debug, Clone)]
struct Filter {
    campaign: Option<usize>,
    attribution: Option<&'static str>,
    from: Option<Bound>,
    to: Option<Bound>,
    zone: &'static str,
    outcome: Option<&'static str>,
    direction: Option<&'static str>,
    channel: Option<&'static str>,
    agent: Option<&'static str>,
    customer: Option<String>,
    number: Option<&'static str>,
    converted: Option<bool>,
    min_duration: Option<u32>,
    max_duration: Option<u32>,
}

impl Filter {
    fn holds(&self, call: &Call) -> bool {
        fn is<T: PartialEq>(wanted: Option<T>, value: Option<T>) -> bool {
            wanted.is_none() || wanted == value
        }
        let written = |wanted: Option<&str>, number: Option<&str>| {
            let Some(wanted) = wanted else {
                return true;
            };
            let digits = |text: &str| text.chars().filter(char::is_ascii_digit).collect::<String>();
            number.is_some_and(|number| match wanted.starts_with('+') {
                true => digits(number) == digits(wanted),
                false => digits(number).ends_with(&digits(wanted)),
            })
        };
        let standing = match call.credit() {
            Ok(_) => "attributed",
            Err(standing) => standing,
        };
        is(self.campaign, call.credit().ok())
            && is(self.attribution, Some(standing))
            && (self.from.as_ref()).is_none_or(|from| from.instant(self.zone) <= call.started_at)
            && (self.to.as_ref()).is_none_or(|to| call.started_at < to.instant(self.zone))
            && is(self.outcome, Some(call.outcome))
            && is(self.direction, call.direction)
            && is(self.channel, Some(call.channel))
            && is(self.agent, Some(call.agent))
            && written(self.customer.as_deref(), call.customer.as_deref())
            && written(self.number, call.number)
            && is(self.converted, Some(call.has_converted()))
            && self.min_duration.is_none_or(|least| least <= call.duration)
            && self.max_duration.is_none_or(|most| call.duration <= most)
    }

    /// As a query string that begins with `&`.
    fn query(&self, campaigns: &[String; 2]) -> String {
        let text = |value: Option<&str>| value.map(str::to_owned);
        let parameters = [
            (
                "campaign_id",
                self.campaign.map(|campaign| campaigns[campaign].clone()),
            ),
            ("attribution", text(self.attribution)),
            ("from", self.from.as_ref().map(Bound::text)),
            ("to", self.to.as_ref().map(Bound::text)),
            ("tz", Some(self.zone.to_owned())),
            ("outcome", text(self.outcome)),
            ("direction", text(self.direction)),
            ("channel", text(self.channel)),
            ("agent_id", text(self.agent)),
            ("customer_number", self.customer.clone()),
            ("tracking_number", text(self.number)),
            ("converted", self.converted.map(|converted| converted.to_string())),
            ("min_duration", self.min_duration.map(|least| least.to_string())),
            ("max_duration", self.max_duration.map(|most| most.to_string())),
        ];
        let mut query = String::new();
        for (name, value) in parameters {
            if let Some(value) = value {
                let value = value.replace('+', "%2B").replace(' ', "%20");
                write!(query, "&{name}={value}").unwrap();
            }
        }
        query
    }
}

fn filter() -> impl Strategy<Value = Filter> {
    let customer = prop_oneof![
        (0..150).prop_map(|index| format!("+1612{:07}", 5_550_000 + index)),
        (0..150).prop_map(|index| format!("+1 (612) 555-0{index:03}")),
        (0..150).prop_map(|index| format!("(612) 555-0{index:03}")),
        (0..150).prop_map(|index| format!("0{index:03}")),
    ];
    let rarely = 0.15;
    (
        (
            weighted(0.25, 0..2_usize),
            weighted(rarely, select(&["attributed", "unattributed", "ambiguous"])),
            weighted(0.4, bound()),
            weighted(0.4, bound()),
            select(&ZONES),
        ),
        (
            weighted(0.2, select(&OUTCOMES)),
            weighted(rarely, select(&["inbound", "outbound"])),
            weighted(rarely, select(&["phone", "web", "sms", "whatsapp"])),
            weighted(rarely, select(&AGENTS)),
            weighted(rarely, customer),
            weighted(
                rarely,
                select(&["+1 612 555 0142", "5014", "1001", "+4930555014"]),
            ),
            weighted(rarely, any::<bool>()),
            weighted(rarely, 0..300_u32),
            weighted(rarely, 100..600_u32),
        ),
    )
        .prop_map(|((campaign, attribution, from, to, zone), rest)| {
            let (outcome, direction, channel, agent, customer, number, converted, least, most) = rest;
            // A window that ends before it begins is refused; that is another story.
            let to = to.filter(|to| {
                from.as_ref()
                    .is_none_or(|from| from.instant(zone) < to.instant(zone))
            });
            Filter {
                campaign,
                attribution,
                from,
                to,
                zone,
                outcome,
                direction,
                channel,
                agent,
                customer,
                number,
                converted,
                min_duration: least,
                max_duration: most.filter(|most| least.is_none_or(|least| least <= *most)),
            }
        })
}

#[derive(Debug, Clone)]
struct List {
    filter: Filter,
    sort: &'static str,
    order: &'static str,
    limit: usize,
}

/// What a page holds; more than 100 calls are asked for as parts of an export.
fn list() -> impl Strategy<Value = List> {
    let limits: &[usize] = if full_size() {
        &[100, 1000, 1000, 1000]
    } else {
        &[40, 300]
    };
    let sorts = prop_oneof![
        3 => Just("started_at"), 1 => Just("duration"), 1 => Just("outcome"), 1 => Just("customer_number")
    ];
    let orders = select(&["desc", "asc"]);
    (filter(), sorts, orders, select(limits)).prop_map(|(filter, sort, order, limit)| {
        let mut filter = filter;
        if sort != "started_at" {
            // As many calls as can be put in order, whatever the size.
            let day = match filter.from {
                Some(Bound::Day(day)) => day,
                Some(Bound::Minute(minute)) => minute / 60 / 24,
                None => -1,
            };
            filter.from = Some(Bound::Day(day));
            let days = match (full_size(), limit) {
                (true, 100) => 6,
                (true, _) => 50,
                (false, _) => 130,
            };
            filter.to = Some(Bound::Day(day + days));
        }
        List {
            filter,
            sort,
            order,
            limit,
        }
    })
}

async fn expect_list(known: &Known, list: &List) {
    let mut expected = known.recount(&list.filter);
    let key = |call: &Call| match list.sort {
        "duration" => format!("{:010}", call.duration),
        "outcome" => call.outcome.to_owned(),
        "customer_number" => call.customer.clone().unwrap_or_default(),
        _ => String::new(),
    };
    expected.sort_by_key(|call| (key(call), call.started_at, call.id.clone()));
    if list.order == "desc" {
        expected.reverse();
    }
    if list.sort == "customer_number" {
        // Those without a number are last in either direction.
        expected.sort_by_key(|call| call.customer.is_none());
    }
    let expected: Vec<&str> = expected.iter().map(|call| call.id.as_str()).collect();
    let filter = list.filter.query(&known.campaigns);
    let query = format!(
        "sort={}&order={}&limit={}{filter}",
        list.sort, list.order, list.limit
    );
    let listed = if list.limit <= 100 {
        known.world.calls(&query).await
    } else {
        let (file, _) = download(&known.world, &format!("format=ndjson&{query}")).await;
        let lines = String::from_utf8(file).unwrap();
        lines
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let listed: Vec<&str> = listed.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(listed, expected, "{query}");
}

/// What a number of calls comes to, counted plainly.
fn measures(known: &Known, calls: &[&Call]) -> Value {
    let converted = calls.iter().filter(|call| call.has_converted()).count();
    let total: u32 = calls.iter().map(|call| call.duration).sum();
    let customers: BTreeSet<&String> = calls.iter().filter_map(|call| call.customer.as_ref()).collect();
    let ids: BTreeSet<&String> = calls.iter().map(|call| &call.id).collect();
    let is_first_time = |customer: &&&String| ids.contains(&known.first_calls[**customer]);
    let first_time = customers.iter().filter(is_first_time).count();
    let (count, rate) = (calls.len(), converted as f64 / calls.len() as f64);
    json!({
        "calls": count,
        "converted": converted,
        "conversion_rate": (count > 0).then(|| (rate * 10_000.0).round() / 10_000.0),
        "total_duration_seconds": total,
        "average_duration_seconds": (count > 0).then(|| (f64::from(total) / count as f64).round() as u64),
        "first_time_customers": first_time,
        "repeat_customers": customers.len() - first_time,
    })
}

#[derive(Debug, Clone)]
struct Report {
    filter: Filter,
    group_by: &'static str,
    interval: &'static str,
}

fn report() -> impl Strategy<Value = Report> {
    let groups = select(&["campaign", "agent", "tracking_number", "outcome", "channel"]);
    let intervals = select(&["hour", "day", "week", "month"]);
    (filter(), groups, intervals).prop_map(|(mut filter, group_by, interval)| {
        // Without a window a report is about the last 30 days.
        let day = match filter.from {
            Some(Bound::Day(day)) => day,
            Some(Bound::Minute(minute)) => minute / 60 / 24,
            None => -1,
        };
        filter.from = Some(Bound::Day(day));
        filter.to = Some(match interval {
            // So that there are not too many of them.
            "hour" => Bound::Day(day + 6),
            _ => filter.to.unwrap_or(Bound::Day(DAYS + 1)),
        });
        Report {
            filter,
            group_by,
            interval,
        }
    })
}

async fn expect_report(known: &Known, report: &Report) {
    let filter = report.filter.query(&known.campaigns);
    let (from, to) = (
        report.filter.from.as_ref().unwrap(),
        report.filter.to.as_ref().unwrap(),
    );
    let (from, to) = (from.instant(report.filter.zone), to.instant(report.filter.zone));
    if to <= from {
        return;
    }
    let calls = known.recount(&report.filter);

    let mut groups: BTreeMap<Option<String>, Vec<&Call>> = BTreeMap::new();
    for call in &calls {
        let key = match report.group_by {
            "campaign" => Some(match call.credit() {
                Ok(campaign) => known.campaigns[campaign].clone(),
                Err(standing) => standing.to_owned(),
            }),
            "agent" => Some(call.agent.to_owned()),
            "tracking_number" => call.number.map(str::to_owned),
            "outcome" => Some(call.outcome.to_owned()),
            _ => Some(call.channel.to_owned()),
        };
        groups.entry(key).or_default().push(call);
    }
    let mut rows: Vec<Value> = Vec::new();
    for (key, calls) in &groups {
        let campaign = known.campaigns.iter().position(|id| Some(id) == key.as_ref());
        let mut row = measures(known, calls);
        row["key"] = json!(key);
        row["name"] = json!(campaign.map(|index| ["Spring", "Autumn"][index]));
        rows.push(row);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row["calls"].as_u64()));
    let path = format!("/api/reports/summary?group_by={}{filter}", report.group_by);
    let summary = known.world.get(&path).await.expect(200);
    assert_eq!(summary["rows"], json!(rows), "{path}");
    assert_eq!(summary["total"], measures(known, &calls), "{path}");
    assert_eq!(summary["from"], from.to_string());
    assert_eq!(summary["to"], to.to_string());
    assert_eq!(summary["tz"], report.filter.zone);

    let path = format!("/api/reports/timeseries?interval={}{filter}", report.interval);
    let series = known.world.get(&path).await.expect(200);
    let buckets = series["buckets"].as_array().unwrap();
    let start = |bucket: &Value| bucket["start"].as_str().unwrap().parse::<Timestamp>().unwrap();
    assert!(
        start(&buckets[0]) <= from && start(buckets.last().unwrap()) < to,
        "{path}"
    );
    for (index, bucket) in buckets.iter().enumerate() {
        let (begins, ends) = (start(bucket), buckets.get(index + 1).map_or(to, start));
        // No bucket is missing: each is as long as the calendar says.
        let local = begins.in_tz(report.filter.zone).unwrap();
        let expected_end = match report.interval {
            "hour" => begins + SignedDuration::from_hours(1),
            "day" => local
                .date()
                .tomorrow()
                .unwrap()
                .in_tz(report.filter.zone)
                .unwrap()
                .timestamp(),
            "week" => (local.date() + 7.days())
                .in_tz(report.filter.zone)
                .unwrap()
                .timestamp(),
            _ => (local.date() + 1.month())
                .in_tz(report.filter.zone)
                .unwrap()
                .timestamp(),
        };
        assert_eq!(ends, expected_end.min(to), "{path}: {bucket}");
        assert_eq!((local.minute(), local.second()), (0, 0), "{path}: {bucket}");
        let held: Vec<&Call> = calls
            .iter()
            .copied()
            .filter(|call| begins.max(from) <= call.started_at && call.started_at < ends)
            .collect();
        let mut expected = measures(known, &held);
        expected["start"] = bucket["start"].clone();
        assert_eq!(*bucket, expected, "{path}");
    }
}

#[test]
fn every_list_and_report_equals_a_plain_recount() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (calls, cases) = if full_size() { (20_000, 150) } else { (500, 120) };
    let known = runtime.block_on(Known::new(calls));
    let result = deterministic_for(cases, 2).run(&list(), |list| {
        runtime.block_on(expect_list(&known, &list));
        Ok(())
    });
    let result = result.map_err(|error| error.to_string()).and_then(|()| {
        let run = deterministic_for(cases / 4, 3).run(&report(), |report| {
            runtime.block_on(expect_report(&known, &report));
            Ok(())
        });
        run.map_err(|error| error.to_string())
    });
    let _inside = runtime.enter();
    if let Err(error) = result {
        panic!("{error}");
    }
}

/// The same cases every time, but for the long run, which looks for new ones.
fn deterministic_for(cases: u32, seed: u8) -> TestRunner {
    if full_size() {
        TestRunner::new(config(cases))
    } else {
        TestRunner::new_with_rng(
            config(cases),
            TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]),
        )
    }
}

/// What happens between two pages.
#[derive(Debug, Clone)]
enum Change {
    Arrives(Box<Call>),
    /// A newer version tells another duration and outcome.
    Retold(usize, u32, &'static str),
    Assigned(usize, Option<usize>),
}

fn change(count: usize) -> impl Strategy<Value = Change> {
    prop_oneof![
        call().prop_map(|call| Change::Arrives(Box::new(call))),
        (0..count, 0..600_u32, select(&OUTCOMES))
            .prop_map(|(index, duration, outcome)| { Change::Retold(index, duration, outcome) }),
        (0..count, weighted(0.7, 0..2_usize)).prop_map(|(index, to)| Change::Assigned(index, to)),
    ]
}

#[tokio::test]
async fn a_walk_shows_what_stays_once_and_what_changes_once_under_each_value() {
    let count = if full_size() { 600 } else { 120 };
    let mut known = Known::new(count).await;
    let mut runner = deterministic(5);
    let mut told = 0;
    for (sort, order, query) in [
        ("started_at", "desc", String::new()),
        ("started_at", "asc", "&outcome=success".to_owned()),
        ("duration", "desc", String::new()),
        ("duration", "asc", "&attribution=attributed".to_owned()),
        ("outcome", "asc", String::new()),
    ] {
        let window = "from=2026-07-01&to=2027-01-01";
        let path = format!("/api/calls?sort={sort}&order={order}&limit=11&{window}{query}");
        let before = known.calls.clone();
        let mut touched: BTreeSet<String> = BTreeSet::new();
        let mut seen: Vec<Value> = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = known.world.get(&format!("{path}{cursor}")).await.expect(200);
            seen.extend(page["calls"].as_array().unwrap().iter().cloned());
            let Some(next) = page["next_cursor"].as_str() else {
                break;
            };
            cursor = format!("&cursor={next}");
            for _ in 0..3 {
                told += 1;
                let mut call = match change(before.len()).new_tree(&mut runner).unwrap().current() {
                    Change::Arrives(call) => Call {
                        id: format!("conv_new_{told}"),
                        ..*call
                    },
                    Change::Retold(index, duration, outcome) => Call {
                        duration,
                        outcome,
                        ..known.calls[index].clone()
                    },
                    Change::Assigned(index, to) => Call {
                        assigned: Some(to),
                        ..known.calls[index].clone()
                    },
                };
                touched.insert(call.id.clone());
                let mut body = call.body();
                body["event_timestamp"] = json!(1_800_000_000 + told);
                known.world.deliver_ok(body.to_string()).await;
                if call.assigned.is_some() || call.converted.is_some() {
                    known.tell(&call).await;
                }
                match known.calls.iter_mut().find(|other| other.id == call.id) {
                    Some(other) => std::mem::swap(other, &mut call),
                    None => known.calls.push(call),
                }
            }
        }
        let holds = |call: &&Call| match query.as_str() {
            "&outcome=success" => call.outcome == "success",
            "&attribution=attributed" => call.credit().is_ok(),
            _ => true,
        };
        let value = |call: &Value| match sort {
            "duration" => call["duration_seconds"].to_string(),
            "outcome" => call["outcome"].to_string(),
            _ => call["started_at"].to_string(),
        };
        let mut shown = BTreeSet::new();
        for call in &seen {
            let once = shown.insert((call["id"].to_string(), value(call)));
            assert!(once, "{path}: {call} twice under one value");
        }
        assert!(touched.len() > 5, "something happened in between");
        for call in before.iter().filter(|call| !touched.contains(&call.id)) {
            let times = seen
                .iter()
                .filter(|other| other["id"] == call.id.as_str())
                .count();
            assert_eq!(times, usize::from(holds(&call)), "{path}: {}", call.id);
        }
    }
}
