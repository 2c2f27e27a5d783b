//! What every route of the API costs at the store: a budget for each, and the table of
//! `docs/PERFORMANCE.md`, which `cargo test -p tests -- --nocapture every_route` prints.

use std::collections::BTreeMap;
use std::time::Duration;

use local::conversation;
use local::dynamodb::{Fault, StoreRequest};
use reqwest::Method;
use serde_json::{Value, json};

use crate::costs::{read_units, round_trips, settle, write_units};
use crate::provider::{self, Provider};
use crate::support::{World, deliver_many, event, template};
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
}

/// By the template's routes; what each does here is in [`visit_every_route`].
const BUDGETS: [(&str, Cost); 36] = [
    ("ANY /api/webhooks/elevenlabs", cost(11, 8.0, 7.0)),
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
    ("GET /api/deliveries", cost(4, 0.0, 2.5)),
    ("GET /api/deliveries/{id}", cost(1, 0.0, 0.5)),
    ("GET /api/deliveries/{id}/raw", cost(2, 0.0, 1.5)),
    ("GET /api/openapi.json", cost(0, 0.0, 0.0)),
    ("GET /api/reports/summary", cost(8, 0.0, 5.5)),
    ("GET /api/reports/timeseries", cost(7, 0.0, 5.0)),
    ("GET /api/sync", cost(3, 0.0, 2.0)),
    ("PATCH /api/campaigns/{id}", cost(6, 2.0, 5.0)),
    ("POST /api/assignments", cost(3, 10.0, 2.0)),
    ("POST /api/assignments/{id}/undo", cost(3, 10.0, 2.0)),
    ("POST /api/campaigns", cost(1, 4.0, 0.0)),
    ("POST /api/campaigns/{id}/contacts", cost(3, 8.0, 3.0)),
    ("POST /api/deliveries/{id}/replay", cost(21, 1.0, 17.0)),
    ("POST /api/erasures", cost(360, 467.0, 191.0)),
    ("POST /api/reattributions", cost(157, 0.0, 157.5)),
    // By how many days it comes to look at in its time; what it finds has budgets in `costs`.
    ("POST /api/sync", cost(500, 50.0, 300.0)),
    ("PUT /api/calls/{id}/attribution", cost(4, 10.0, 3.0)),
    ("PUT /api/calls/{id}/conversion", cost(3, 7.0, 1.5)),
    ("PUT /api/campaigns/{id}/agents/{agent_id}", cost(8, 4.0, 8.0)),
    ("PUT /api/campaigns/{id}/numbers/{number}", cost(8, 4.0, 7.0)),
];

/// Requests that are measured one by one.
struct Meter<'a> {
    world: &'a World,
    /// By route; and how many requests came one after another, which a busy machine makes more.
    measured: BTreeMap<String, (Cost, usize)>,
}

impl Meter<'_> {
    /// Measures a request to a route; its answer.
    async fn ask(&mut self, route: &str, path: &str, body: &Value) -> Value {
        let (method, _) = route.split_once(' ').unwrap();
        let method: Method = method.parse().unwrap();
        self.world.stack.dynamodb().record();
        let answer = match method {
            Method::GET => self.world.get(path).await,
            _ => self.world.send(method, path, body).await,
        };
        assert!((200..300).contains(&answer.status), "{route}: {}", answer.status);
        self.note(route);
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

    world.deliver_ok("this is no JSON").await;
    let log = meter.ask("GET /api/deliveries", "/api/deliveries", &none).await;
    let entry = format!("/api/deliveries/{}", log["deliveries"][0]["id"].as_str().unwrap());
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

#[tokio::test]
async fn every_route_of_the_api_has_a_budget_and_keeps_it() {
    let provider = Provider::start().await;
    provider.put(provider::Conversation::new(
        "conv_lost",
        "agent_1",
        "2026-11-20T10:00:00Z",
    ));
    let world = syncing::world_of(&provider).await;
    settle(&world).await;
    deliver_many(&world, 29).await;
    let hold = Duration::from_millis(100);
    world.stack.dynamodb().inject(move |_| Some(Fault::Delayed(hold)));
    let mut meter = Meter {
        world: &world,
        measured: BTreeMap::new(),
    };
    visit_every_route(&mut meter).await;
    eprintln!("| route | requests | after each other | write units | read units |");
    eprintln!("|---|---|---|---|---|");
    for (route, (cost, round_trips)) in &meter.measured {
        eprintln!(
            "| `{route}` | {} | {} | {} | {} |",
            cost.requests,
            round_trips,
            cost.write_units + 0.0,
            cost.read_units + 0.0
        );
    }
    let routes = template().routes.into_iter();
    let routes = routes.filter(|route| route.function != "ConsoleFunction");
    for route in routes {
        let route = format!("{} {}", route.method, route.path);
        let budget = BUDGETS.iter().find(|(name, _)| *name == route);
        let (_, budget) = budget.unwrap_or_else(|| panic!("{route} has no budget"));
        let measured = meter.measured.get(&route);
        let (measured, _) = measured.unwrap_or_else(|| panic!("{route} was not visited"));
        assert!(
            measured.is_within(*budget),
            "{route}: {measured:?}, over {budget:?}"
        );
    }
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
