//! What every route costs at the store: a budget for each, and the tables of
//! `docs/PERFORMANCE.md`, which `cargo test -p tests -- --nocapture budgets` prints.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::SignedDuration;
use local::Options;
use local::conversation;
use local::dynamodb::{Fault, StoreRequest};
use local::template::Route;
use reqwest::Method;
use serde_json::{Value, json};

use crate::costs::{read_units, round_trips, settle, write_units};
use crate::permitting::deliver_from_elsewhere;
use crate::provider::{self, Provider};
use crate::signing_in::{ANNA, Browser};
use crate::support::{Answer, World, deliver_many, event, phone_call, template};
use crate::syncing;

/// What a request costs: requests to the store, and units.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Cost {
    requests: usize,
    write_units: f64,
    read_units: f64,
}

const fn cost(requests: usize, write_units: f64, read_units: f64) -> Cost {
    Cost {
        requests,
        write_units,
        read_units,
    }
}

impl Cost {
    fn of(requests: &[StoreRequest]) -> Self {
        cost(requests.len(), write_units(requests), read_units(requests))
    }

    fn is_within(self, budget: Self) -> bool {
        self.requests <= budget.requests
            && self.write_units <= budget.write_units
            && self.read_units <= budget.read_units
    }

    /// Whether so little suggests that nothing was found to do.
    fn is_idle(self, budget: Self) -> bool {
        self.requests * 4 < budget.requests
            || self.write_units * 4.0 < budget.write_units
            || self.read_units * 4.0 < budget.read_units
    }
}

/// Of the routes of the API; what each does here is in [`visit_every_route`]. What reads the
/// log has half a unit more for each of its shards than it mostly takes: chance says on which of
/// them an entry is, and one with more than 4 KB costs twice as much.
const OF_THE_API: [(&str, Cost); 36] = [
    ("ANY /api/webhooks/elevenlabs", cost(9, 8.0, 7.0)),
    ("DELETE /api/calls/{id}/attribution", cost(3, 10.0, 1.5)),
    ("DELETE /api/calls/{id}/conversion", cost(3, 7.0, 1.5)),
    ("DELETE /api/campaigns/{id}/agents/{agent_id}", cost(8, 4.0, 8.0)),
    ("DELETE /api/campaigns/{id}/contacts", cost(15, 5.0, 11.0)),
    ("DELETE /api/campaigns/{id}/contacts/{number}", cost(3, 5.0, 2.0)),
    ("DELETE /api/campaigns/{id}/numbers/{number}", cost(8, 4.0, 7.0)),
    ("GET /api/calls", cost(3, 0.0, 2.5)),
    ("GET /api/calls/export", cost(3, 0.0, 3.0)),
    ("GET /api/calls/{id}", cost(4, 0.0, 3.5)),
    ("GET /api/calls/{id}/raw", cost(2, 0.0, 2.0)),
    ("GET /api/calls/{id}/transcript", cost(2, 0.0, 2.0)),
    ("GET /api/campaigns", cost(4, 0.0, 6.0)),
    ("GET /api/campaigns/{id}", cost(3, 0.0, 3.0)),
    ("GET /api/campaigns/{id}/contacts", cost(9, 0.0, 5.0)),
    ("GET /api/campaigns/{id}/contacts/{number}", cost(1, 0.0, 1.0)),
    ("GET /api/deliveries", cost(4, 0.0, 4.0)),
    ("GET /api/deliveries/{id}", cost(1, 0.0, 0.5)),
    ("GET /api/deliveries/{id}/raw", cost(2, 0.0, 1.0)),
    ("GET /api/openapi.json", cost(0, 0.0, 0.0)),
    ("GET /api/reports/summary", cost(8, 0.0, 5.5)),
    ("GET /api/reports/timeseries", cost(7, 0.0, 5.0)),
    ("GET /api/sync", cost(3, 0.0, 2.0)),
    ("PATCH /api/campaigns/{id}", cost(6, 2.0, 5.0)),
    ("POST /api/assignments", cost(3, 10.0, 2.0)),
    ("POST /api/assignments/{id}/undo", cost(3, 10.0, 2.0)),
    ("POST /api/campaigns", cost(1, 4.0, 0.0)),
    ("POST /api/campaigns/{id}/contacts", cost(3, 8.0, 3.0)),
    ("POST /api/deliveries/{id}/replay", cost(19, 6.0, 16.5)),
    ("POST /api/erasures", cost(375, 485.0, 200.0)),
    ("POST /api/reattributions", cost(95, 0.0, 157.5)),
    // By how many days it comes to look at in its time; what it finds has budgets in `costs`.
    ("POST /api/sync", cost(240, 20.0, 120.0)),
    ("PUT /api/calls/{id}/attribution", cost(4, 10.0, 3.0)),
    ("PUT /api/calls/{id}/conversion", cost(3, 7.0, 1.5)),
    ("PUT /api/campaigns/{id}/agents/{agent_id}", cost(8, 4.0, 8.0)),
    ("PUT /api/campaigns/{id}/numbers/{number}", cost(8, 4.0, 7.0)),
];

/// Of the console's, with the same room for the log; what each does here is in
/// [`visit_every_page`].
const OF_THE_CONSOLE: [(&str, Cost); 41] = [
    ("GET /", cost(1, 0.0, 1.0)),
    ("GET /assets/{name}", cost(0, 0.0, 0.0)),
    ("GET /assignments/preview", cost(1, 0.0, 1.0)),
    ("GET /calls", cost(4, 0.0, 3.5)),
    ("GET /calls.csv", cost(4, 0.0, 4.0)),
    ("GET /calls/{id}", cost(7, 0.0, 6.0)),
    ("GET /calls/{id}/raw", cost(3, 0.0, 3.0)),
    ("GET /campaigns", cost(9, 0.0, 10.5)),
    ("GET /campaigns/{id}", cost(8, 0.0, 6.0)),
    ("GET /campaigns/{id}/calls", cost(7, 0.0, 5.5)),
    ("GET /campaigns/{id}/contacts", cost(1, 0.0, 1.0)),
    ("GET /campaigns/{id}/numbers", cost(13, 0.0, 9.0)),
    ("GET /campaigns/{id}/settings", cost(4, 0.0, 4.0)),
    ("GET /deliveries", cost(5, 0.0, 5.0)),
    ("GET /deliveries/{id}", cost(3, 0.0, 2.5)),
    ("GET /deliveries/{id}/raw", cost(3, 0.0, 2.5)),
    ("GET /erasures", cost(1, 0.0, 1.0)),
    ("GET /erasures/preview", cost(1, 0.0, 1.0)),
    ("GET /reattributions/preview", cost(1, 0.0, 1.0)),
    ("GET /sign-in", cost(0, 0.0, 0.0)),
    ("GET /sign-in/callback", cost(0, 0.0, 0.0)),
    ("GET /sign-out", cost(1, 0.0, 1.0)),
    ("GET /sync", cost(4, 0.0, 3.0)),
    ("GET /unattributed", cost(4, 0.0, 2.5)),
    ("POST /assignments", cost(7, 10.0, 4.5)),
    ("POST /assignments/preview", cost(6, 0.0, 4.5)),
    ("POST /assignments/{id}/undo", cost(4, 10.0, 3.0)),
    ("POST /calls/{id}/attribution", cost(5, 10.0, 4.0)),
    ("POST /calls/{id}/conversion", cost(3, 7.0, 2.0)),
    ("POST /campaigns", cost(2, 4.0, 1.0)),
    ("POST /campaigns/{id}", cost(5, 6.0, 4.0)),
    ("POST /campaigns/{id}/agents", cost(5, 4.0, 4.0)),
    ("POST /campaigns/{id}/contacts", cost(16, 8.0, 12.0)),
    ("POST /campaigns/{id}/contacts/remove", cost(4, 5.0, 3.0)),
    ("POST /campaigns/{id}/numbers", cost(5, 4.0, 4.0)),
    ("POST /deliveries/{id}/replay", cost(19, 6.0, 17.0)),
    ("POST /erasures", cost(359, 463.0, 195.5)),
    ("POST /erasures/preview", cost(80, 0.0, 60.0)),
    ("POST /reattributions", cost(94, 0.0, 154.5)),
    ("POST /reattributions/preview", cost(94, 0.0, 154.5)),
    ("POST /sign-out", cost(2, 1.0, 1.0)),
];

/// Requests that are measured one by one.
struct Meter<'a> {
    world: &'a World,
    /// By route; and how many requests came one after another, which a busy machine makes more.
    measured: BTreeMap<String, (Cost, usize)>,
}

impl Meter<'_> {
    fn new(world: &World) -> Meter<'_> {
        Meter {
            world,
            measured: BTreeMap::new(),
        }
    }

    /// Measures what answers a request to a route.
    async fn measure(&mut self, route: &str, answer: impl Future<Output = Answer>) -> Answer {
        self.world.stack.dynamodb().record();
        let answer = answer.await;
        assert!((200..400).contains(&answer.status), "{route}: {answer:?}");
        let location = answer.headers.get("location").map(|location| location.to_str());
        let is_turned_away = location.is_some_and(|location| location.unwrap().starts_with("/sign-in"));
        assert!(!is_turned_away, "{route}: {answer:?}");
        self.note(route);
        answer
    }

    /// Measures a request to a route of the API; its answer.
    async fn ask(&mut self, route: &str, path: &str, body: &Value) -> Value {
        let (method, _) = route.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        let world = self.world;
        let answer = async {
            match method {
                Method::GET => world.get(path).await,
                _ => world.send(method, path, body).await,
            }
        };
        let answer = self.measure(route, answer).await;
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    fn note(&mut self, route: &str) {
        let requests = self.world.stack.dynamodb().recorded();
        assert!(
            requests.iter().all(|request| request.operation != "Scan"),
            "{route}"
        );
        let measured = (Cost::of(&requests), round_trips(&requests));
        self.measured.insert(route.to_owned(), measured);
    }

    /// Prints the table, and holds each route of the template that is asked for to its budget.
    fn expect_within(&self, budgets: &[(&str, Cost)], is_asked_for: impl Fn(&Route) -> bool) {
        eprintln!("| route | requests | after each other | write units | read units |");
        eprintln!("|---|---|---|---|---|");
        for (route, (cost, round_trips)) in &self.measured {
            eprintln!(
                "| `{route}` | {} | {} | {} | {} |",
                cost.requests,
                round_trips,
                cost.write_units + 0.0,
                cost.read_units + 0.0
            );
        }
        for route in template().routes.into_iter().filter(is_asked_for) {
            let route = format!("{} {}", route.method, route.path);
            let budget = budgets.iter().find(|(name, _)| *name == route);
            let (_, budget) = budget.unwrap_or_else(|| panic!("{route} has no budget"));
            let measured = self.measured.get(&route);
            let (measured, _) = measured.unwrap_or_else(|| panic!("{route} was not visited"));
            assert!(
                measured.is_within(*budget),
                "{route}: {measured:?}, over {budget:?}"
            );
            assert!(
                !measured.is_idle(*budget),
                "{route}: {measured:?}, far below {budget:?}"
            );
        }
    }
}

/// Each route once, in a world with 31 calls, as a request that finds something to do.
async fn visit_every_route(meter: &mut Meter<'_>) {
    let none = Value::Null;
    let world = meter.world;
    world.stack.dynamodb().record();
    world.deliver_ok(event("webhook/phone_inbound_twilio.json")).await;
    meter.note("ANY /api/webhooks/elevenlabs");
    let call = "/api/calls/conv_edaakjhb57yhmdwecgv6e0bfjemh";

    let campaign = json!({ "name": "Radio", "code": "radio" });
    let made = meter
        .ask("POST /api/campaigns", "/api/campaigns", &campaign)
        .await;
    let campaign = made["id"].clone();
    let path = format!("/api/campaigns/{}", campaign.as_str().unwrap());
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    let number = format!("{path}/numbers/%2B16125550177");
    let agent = format!("{path}/agents/agent_9");
    let contacts = format!("{path}/contacts");
    let contact = format!("{contacts}/%2B16125550199");
    let numbers = json!({ "contacts": [{ "number": "+16125550199" }, { "number": "+16125550198" }] });
    for (route, path, body) in [
        ("GET /api/campaigns", "/api/campaigns", &none),
        ("GET /api/campaigns/{id}", &path, &none),
        (
            "PATCH /api/campaigns/{id}",
            &path,
            &json!({ "name": "Radio spots" }),
        ),
        ("PUT /api/campaigns/{id}/numbers/{number}", &number, &ever),
        (
            "DELETE /api/campaigns/{id}/numbers/{number}",
            &format!("{number}?from=2020-01-01T00:00:00Z"),
            &none,
        ),
        ("PUT /api/campaigns/{id}/agents/{agent_id}", &agent, &ever),
        (
            "DELETE /api/campaigns/{id}/agents/{agent_id}",
            &format!("{agent}?from=2020-01-01T00:00:00Z"),
            &none,
        ),
        ("POST /api/campaigns/{id}/contacts", &contacts, &numbers),
        ("GET /api/campaigns/{id}/contacts", &contacts, &none),
        ("GET /api/campaigns/{id}/contacts/{number}", &contact, &none),
        ("DELETE /api/campaigns/{id}/contacts/{number}", &contact, &none),
        ("DELETE /api/campaigns/{id}/contacts", &contacts, &none),
    ] {
        meter.ask(route, path, body).await;
    }

    let days = "from=2026-11-01&to=2026-12-01";
    for (route, path) in [
        ("GET /api/calls", "/api/calls"),
        ("GET /api/calls/export", "/api/calls/export?format=csv"),
        ("GET /api/calls/{id}", call),
        ("GET /api/calls/{id}/raw", &format!("{call}/raw")),
        ("GET /api/calls/{id}/transcript", &format!("{call}/transcript")),
        (
            "GET /api/reports/summary",
            &format!("/api/reports/summary?group_by=campaign&{days}"),
        ),
        (
            "GET /api/reports/timeseries",
            &format!("/api/reports/timeseries?interval=day&{days}"),
        ),
        ("GET /api/openapi.json", "/api/openapi.json"),
        ("GET /api/sync", "/api/sync"),
    ] {
        meter.ask(route, path, &none).await;
    }

    let attribution = format!("{call}/attribution");
    let conversion = format!("{call}/conversion");
    let worth = json!({ "converted": true, "value": { "amount": "120.00", "currency": "USD" } });
    let credit = json!({ "campaign_id": campaign });
    for (route, path, body) in [
        ("PUT /api/calls/{id}/attribution", &attribution, &credit),
        ("DELETE /api/calls/{id}/attribution", &attribution, &none),
        ("PUT /api/calls/{id}/conversion", &conversion, &worth),
        ("DELETE /api/calls/{id}/conversion", &conversion, &none),
    ] {
        meter.ask(route, path, body).await;
    }
    let one = json!({ "campaign_id": campaign, "call_ids": ["conv_0001"] });
    let assigned = meter.ask("POST /api/assignments", "/api/assignments", &one).await;
    let undo = format!(
        "/api/assignments/{}/undo",
        assigned["assignment_id"].as_str().unwrap()
    );
    meter
        .ask("POST /api/assignments/{id}/undo", &undo, &json!({}))
        .await;
    let window = json!({ "from": "2026-11-01", "to": "2026-12-01", "dry_run": false });
    let asked = meter
        .ask("POST /api/reattributions", "/api/reattributions", &window)
        .await;
    assert_ne!(asked, Value::Null);

    let log = meter.ask("GET /api/deliveries", "/api/deliveries", &none).await;
    let log = log["deliveries"].as_array().unwrap();
    let kept = log.iter().find(|entry| entry["result"] == "refused").unwrap();
    let entry = format!("/api/deliveries/{}", kept["id"].as_str().unwrap());
    for (route, path) in [
        ("GET /api/deliveries/{id}", entry.clone()),
        ("GET /api/deliveries/{id}/raw", format!("{entry}/raw")),
        ("POST /api/deliveries/{id}/replay", format!("{entry}/replay")),
    ] {
        meter.ask(route, &path, &json!({ "dry_run": false })).await;
    }
    meter.ask("POST /api/sync", "/api/sync", &json!({})).await;
    let customer = json!({ "customer_number": "+16125550187", "dry_run": false });
    meter.ask("POST /api/erasures", "/api/erasures", &customer).await;
}

/// What comes from another address than this one is refused, and kept.
fn only_from_here() -> Options {
    Options::default().parameter("ElevenLabsWebhookIpWhitelist", "127.0.0.1")
}

/// A campaign, 30 calls, and a delivery that was refused a second later, so that the first page
/// of the log has it for sure.
async fn fill(world: &World) {
    settle(world).await;
    deliver_many(world, 29).await;
    world.stack.clock().advance(SignedDuration::from_secs(1));
    deliver_from_elsewhere(world, "conv_kept", "2026-11-02T11:00:00Z").await;
}

#[tokio::test]
async fn every_route_of_the_api_has_a_budget_and_keeps_it() {
    let provider = Provider::start().await;
    provider.put(provider::Conversation::new(
        "conv_lost",
        "agent_1",
        "2026-11-20T10:00:00Z",
    ));
    let world = syncing::world_with(&provider, only_from_here()).await;
    fill(&world).await;
    let hold = Duration::from_millis(100);
    world.stack.dynamodb().inject(move |_| Some(Fault::Delayed(hold)));
    let mut meter = Meter::new(&world);
    visit_every_route(&mut meter).await;
    meter.expect_within(&OF_THE_API, |route| route.function != "ConsoleFunction");
    let (_, round_trips) = meter.measured["GET /api/campaigns/{id}/contacts"];
    assert!(
        round_trips < 5,
        "shards are asked at once, not one after another: {round_trips}"
    );
}

/// Each page and each form of the console once, in a world with 31 calls, where it finds
/// something to do.
async fn visit_every_page(meter: &mut Meter<'_>) {
    let world = meter.world;
    let mut browser = Browser::new(world);
    let answer = meter.measure("GET /sign-in", browser.get("/sign-in")).await;
    let callback = browser.consent(answer.header("location"), ANNA).await;
    meter
        .measure("GET /sign-in/callback", browser.get(&callback))
        .await;

    let made = [("name", "Radio"), ("code", "radio")];
    let made = browser.submit_from("/campaigns", "/campaigns", &made);
    let made = meter.measure("POST /campaigns", made).await;
    let numbers = made.header("location").to_owned();
    let campaign = numbers.trim_end_matches("/numbers").to_owned();
    let id = campaign.trim_start_matches("/campaigns/").to_owned();
    let contacts = format!("{campaign}/contacts");
    let file = "number\n+16125550199\n+16125550198\n";
    let uploaded = browser.upload(&contacts, "contacts", file);
    meter.measure("POST /campaigns/{id}/contacts", uploaded).await;
    let call = "/calls/conv_0001";
    let log = world.deliveries().await;
    let entry = |result: &str| {
        let entry = log.iter().find(|entry| entry["result"] == result).unwrap();
        format!("/deliveries/{}", entry["id"].as_str().unwrap())
    };
    let (delivery, kept) = (entry("stored"), entry("refused"));

    for (route, path) in [
        ("GET /", "/"),
        ("GET /assets/{name}", "/assets/console.css"),
        ("GET /calls", "/calls"),
        ("GET /calls.csv", "/calls.csv"),
        ("GET /calls/{id}", call),
        ("GET /calls/{id}/raw", &format!("{call}/raw")),
        ("GET /unattributed", "/unattributed"),
        ("GET /assignments/preview", "/assignments/preview"),
        ("GET /reattributions/preview", "/reattributions/preview"),
        ("GET /erasures/preview", "/erasures/preview"),
        ("GET /erasures", "/erasures"),
        ("GET /campaigns", "/campaigns"),
        ("GET /campaigns/{id}", &campaign),
        ("GET /campaigns/{id}/calls", &format!("{campaign}/calls")),
        ("GET /campaigns/{id}/numbers", &numbers),
        ("GET /campaigns/{id}/contacts", &contacts),
        ("GET /campaigns/{id}/settings", &format!("{campaign}/settings")),
        ("GET /deliveries", "/deliveries"),
        ("GET /deliveries/{id}", &delivery),
        ("GET /deliveries/{id}/raw", &format!("{delivery}/raw")),
        ("GET /sync", "/sync"),
        ("GET /sign-out", "/sign-out"),
    ] {
        meter.measure(route, browser.get(path)).await;
    }

    let number = [("number", "+16125550177"), ("action", "assign")];
    let agent = [("agent_id", "agent_8"), ("action", "assign")];
    let all = [
        ("campaign_id", id.as_str()),
        ("all_matching", "yes"),
        ("scope", "open"),
    ];
    let days = [("from", "2026-11-01"), ("through", "2026-11-30")];
    let customer = [("customer_number", "+16125550187")];
    for (route, path, fields) in [
        (
            "POST /campaigns/{id}",
            campaign.as_str(),
            &[("name", "Spots"), ("code", "spots")][..],
        ),
        ("POST /campaigns/{id}/numbers", &numbers, &number),
        (
            "POST /campaigns/{id}/agents",
            &format!("{campaign}/agents"),
            &agent,
        ),
        (
            "POST /campaigns/{id}/contacts/remove",
            &format!("{contacts}/remove"),
            &[("number", "+16125550199")],
        ),
        (
            "POST /calls/{id}/conversion",
            &format!("{call}/conversion"),
            &[("converted", "true")],
        ),
        (
            "POST /calls/{id}/attribution",
            &format!("{call}/attribution"),
            &all[..1],
        ),
        ("POST /assignments/preview", "/assignments/preview", &all),
        ("POST /assignments", "/assignments", &all),
    ] {
        let answer = browser.submit_from("/unattributed", path, fields);
        meter.measure(route, answer).await;
    }
    // The notice of what was just done, with its undo.
    let page = browser.page("/unattributed").await;
    let undo = page.split_once("action=\"/assignments/").unwrap().1;
    let undo = format!("/assignments/{}", undo.split_once('"').unwrap().0);
    for (route, path, fields) in [
        ("POST /assignments/{id}/undo", undo.as_str(), &[][..]),
        ("POST /reattributions/preview", "/reattributions/preview", &days),
        ("POST /reattributions", "/reattributions", &days),
        (
            "POST /deliveries/{id}/replay",
            &format!("{kept}/replay"),
            &[("action", "apply")],
        ),
        ("POST /erasures/preview", "/erasures/preview", &customer),
        ("POST /erasures", "/erasures", &customer),
        ("POST /sign-out", "/sign-out", &[]),
    ] {
        let answer = browser.submit_from("/calls", path, fields);
        meter.measure(route, answer).await;
    }
}

#[tokio::test]
async fn every_page_and_form_of_the_console_has_a_budget_and_keeps_it() {
    let world = World::with(only_from_here()).await;
    // What walks through the months walks through as many of them whenever this runs.
    world.stack.clock().set(syncing::NOW.parse().unwrap());
    fill(&world).await;
    let mut open = phone_call("conv_open", "2026-11-02T10:00:00Z", "2026-11-02T10:01:00Z");
    open["data"]["metadata"]["phone_call"]["agent_number"] = json!("+16125550190");
    world.deliver_ok(open.to_string()).await;
    let hold = Duration::from_millis(100);
    world.stack.dynamodb().inject(move |_| Some(Fault::Delayed(hold)));
    let mut meter = Meter::new(&world);
    visit_every_page(&mut meter).await;
    meter.expect_within(&OF_THE_CONSOLE, |route| route.function == "ConsoleFunction");
}

#[tokio::test]
async fn a_new_call_costs_by_its_length_at_most_8_40_and_120_write_units() {
    let world = World::new().await;
    settle(&world).await;
    for (bytes, most) in [(8_552, 8.0), (426_000, 40.0), (1_500_000, 120.0)] {
        let conversation = conversation::Conversation::new(bytes);
        let body = conversation.body(&format!("conv_{bytes:026}"), world.stack.clock().now());
        world.stack.dynamodb().record();
        assert_eq!(world.deliver_ok(body).await, "stored");
        let requests = world.stack.dynamodb().recorded();
        let written = write_units(&requests);
        eprintln!(
            "{bytes} bytes: {written} write units, {} requests",
            requests.len()
        );
        assert!(
            (5.0..=most).contains(&written),
            "{bytes} bytes: {written} write units"
        );
    }
}
