//! Whatever happens in whatever order: the facts are the newest version's, the
//! decision is the last person's, the rules' result is that of their last asking.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use reqwest::Method;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{World, full_size, phone_call};

const CALLS: usize = 3;
const CAMPAIGNS: usize = 3;
const CUSTOMERS: usize = 2;
const NUMBERS: usize = 2;
const VERSIONS: usize = 4;

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// The provider tells one version of a call, maybe again.
    Deliver { call: usize, version: usize },
    /// A campaign reaches out to a customer, or takes that back.
    Contact {
        campaign: usize,
        customer: usize,
        is: bool,
    },
    /// A campaign gets a tracking number, from whoever has it.
    Number { campaign: usize, number: usize },
    /// A campaign rests, or goes on.
    Archive { campaign: usize, is: bool },
    /// A person credits a call; to nobody where `None`.
    Assign { call: usize, campaign: Option<usize> },
    /// A person returns a call to the rules.
    Release { call: usize },
    /// A person credits calls, of which some may be unknown or repeated.
    AssignMany {
        calls: Vec<usize>,
        campaign: Option<usize>,
    },
    /// A person says whether a call converted, or leaves it to the outcome.
    Convert { call: usize, converted: Option<bool> },
    /// The rules are asked about all calls again.
    Reattribute,
    /// An assignment or a re-attribution before is taken back.
    Undo { which: usize },
}

fn event() -> impl Strategy<Value = Event> {
    let call = 0..CALLS;
    let campaign = 0..CAMPAIGNS;
    let credit = proptest::option::of(0..CAMPAIGNS);
    prop_oneof![
        4 => (call.clone(), 0..VERSIONS).prop_map(|(call, version)| Event::Deliver { call, version }),
        3 => (campaign.clone(), 0..CUSTOMERS, any::<bool>())
            .prop_map(|(campaign, customer, is)| Event::Contact { campaign, customer, is }),
        2 => (campaign.clone(), 0..NUMBERS)
            .prop_map(|(campaign, number)| Event::Number { campaign, number }),
        1 => (campaign, any::<bool>()).prop_map(|(campaign, is)| Event::Archive { campaign, is }),
        2 => (call.clone(), credit.clone()).prop_map(|(call, campaign)| Event::Assign { call, campaign }),
        1 => call.clone().prop_map(|call| Event::Release { call }),
        2 => (proptest::collection::vec(0..CALLS + 1, 1..5), credit)
            .prop_map(|(calls, campaign)| Event::AssignMany { calls, campaign }),
        1 => (call, proptest::option::of(any::<bool>()))
            .prop_map(|(call, converted)| Event::Convert { call, converted }),
        2 => Just(Event::Reattribute),
        3 => (0usize..8).prop_map(|which| Event::Undo { which }),
    ]
}

/// When the provider told a version: two by two at the same time, so that only
/// their bytes give them an order.
fn told_after_hours(version: usize) -> i64 {
    24 + i64::try_from(version / 2).unwrap()
}

/// The facts of one version of a call: its customer and its outcome.
fn facts(call: usize, version: usize) -> (usize, &'static str) {
    let outcome = if (call + version).is_multiple_of(2) {
        "success"
    } else {
        "failure"
    };
    ((call * 2 + version) % CUSTOMERS, outcome)
}

/// The tracking number of one version of a call.
fn number_of(call: usize, version: usize) -> usize {
    (call + version / 2) % NUMBERS
}

/// What is expected of one call.
#[derive(Debug, Clone, Default)]
struct Call {
    version: usize,
    rules: Rules,
    /// The re-attribution that asked them last.
    reattributed_by: Option<usize>,
    assigned: Option<Option<usize>>,
    /// The assignment that decided last.
    assignment: Option<usize>,
    converted: Option<bool>,
}

/// What an assignment or a re-attribution changed of a call, as it was.
#[derive(Debug, Clone)]
enum Before {
    Assigned(Option<Option<usize>>, Option<usize>),
    Rules(Rules, Option<usize>),
}

/// What the rules said when they were asked last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Rules {
    method: Option<&'static str>,
    /// Whom the first rule named that named any.
    named: BTreeSet<usize>,
    /// Whom a later one would have named.
    losers: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct Model {
    /// The order of the versions of each call, by time and then by the bytes.
    ranks: Vec<[usize; VERSIONS]>,
    calls: BTreeMap<usize, Call>,
    contacts: BTreeSet<(usize, usize)>,
    /// Who has which tracking number.
    numbers: BTreeMap<usize, usize>,
    archived: BTreeSet<usize>,
    /// What each assignment or re-attribution has left to undo, by call.
    members: Vec<BTreeMap<usize, Before>>,
}

impl Model {
    fn ask(&self, call: usize, version: usize) -> Rules {
        let (customer, _) = facts(call, version);
        let active = |campaign: &usize| !self.archived.contains(campaign);
        let owner = self.numbers.get(&number_of(call, version)).copied();
        let owner = owner.filter(active);
        let contacts = self.contacts.iter().filter(|contact| contact.1 == customer);
        let contacts: BTreeSet<usize> = contacts.map(|contact| contact.0).filter(active).collect();
        match owner {
            Some(owner) => Rules {
                method: Some("tracking_number"),
                named: BTreeSet::from([owner]),
                losers: contacts.into_iter().filter(|loser| *loser != owner).collect(),
            },
            // Where several claim it, all of them are candidates.
            None => Rules {
                method: (contacts.len() == 1).then_some("contact"),
                named: contacts,
                losers: BTreeSet::new(),
            },
        }
    }

    fn assign(&mut self, id: usize, call: usize, target: Option<Option<usize>>) {
        let Some(state) = self.calls.get_mut(&call) else {
            return;
        };
        if state.assigned != target {
            let before = Before::Assigned(state.assigned, state.assignment);
            (state.assigned, state.assignment) = (target, Some(id));
            self.members[id].insert(call, before);
        }
    }

    /// Follows an event; `id` is that of the assignment that it would make.
    fn follow(&mut self, event: &Event, id: usize) {
        match event {
            Event::Deliver { call, version } => {
                let rules = self.ask(*call, *version);
                let rank = |version: usize| self.ranks[*call][version];
                let known = self.calls.get(call);
                let known = known.is_some_and(|state| rank(state.version) >= rank(*version));
                if !known {
                    let state = self.calls.entry(*call).or_default();
                    (state.version, state.rules, state.reattributed_by) = (*version, rules, None);
                }
            }
            Event::Contact {
                campaign,
                customer,
                is: true,
            } => {
                self.contacts.insert((*campaign, *customer));
            }
            Event::Contact {
                campaign,
                customer,
                is: false,
            } => {
                self.contacts.remove(&(*campaign, *customer));
            }
            Event::Number { campaign, number } => {
                self.numbers.insert(*number, *campaign);
            }
            Event::Archive { campaign, is: true } => {
                self.archived.insert(*campaign);
            }
            Event::Archive { campaign, is: false } => {
                self.archived.remove(campaign);
            }
            Event::Assign { call, campaign } => self.assign(id, *call, Some(*campaign)),
            Event::Release { call } => self.assign(id, *call, None),
            Event::AssignMany { calls, campaign } => {
                for call in calls {
                    self.assign(id, *call, Some(*campaign));
                }
            }
            Event::Convert { call, converted } => {
                if let Some(state) = self.calls.get_mut(call) {
                    state.converted = *converted;
                }
            }
            Event::Reattribute => {
                for call in self.calls.keys().copied().collect::<Vec<_>>() {
                    let rules = self.ask(call, self.calls[&call].version);
                    let Some(state) = self.calls.get_mut(&call) else {
                        continue;
                    };
                    if state.assigned.is_none() && state.rules != rules {
                        let before = Before::Rules(state.rules.clone(), state.reattributed_by);
                        (state.rules, state.reattributed_by) = (rules, Some(id));
                        self.members[id].insert(call, before);
                    }
                }
            }
            Event::Undo { which } => {
                let Some(members) = self.members.get_mut(*which) else {
                    return;
                };
                members.retain(|call, before| {
                    let Some(state) = self.calls.get_mut(call) else {
                        return true;
                    };
                    match before {
                        Before::Assigned(assigned, assignment) if state.assignment == Some(*which) => {
                            (state.assigned, state.assignment) = (*assigned, *assignment);
                            false
                        }
                        Before::Rules(rules, by)
                            if state.reattributed_by == Some(*which) && state.assigned.is_none() =>
                        {
                            (state.rules, state.reattributed_by) = (rules.clone(), *by);
                            false
                        }
                        _ => true,
                    }
                });
            }
        }
    }
}

/// One case in the real system: with campaigns, customers and a time of its own.
struct Case<'a> {
    world: &'a World,
    number: usize,
    campaigns: Vec<String>,
    /// The ids of assignments and re-attributions, where they changed anything.
    assignments: Vec<Option<String>>,
}

impl<'a> Case<'a> {
    async fn new(world: &'a World, number: usize) -> Self {
        let mut campaigns = Vec::new();
        for index in 0..CAMPAIGNS {
            campaigns.push(world.campaign(&format!("{number}-{index}")).await);
        }
        Self {
            world,
            number,
            campaigns,
            assignments: Vec::new(),
        }
    }

    /// Each case has ten days of its own.
    fn day(&self) -> Timestamp {
        let start = "2000-01-01T00:00:00Z".parse::<Timestamp>().unwrap();
        start + SignedDuration::from_hours(240 * i64::try_from(self.number).unwrap())
    }

    fn call_id(&self, call: usize) -> String {
        format!("conv_{}_{call}", self.number)
    }

    fn number(&self, number: usize) -> String {
        format!("+1713{:06}{number}", self.number)
    }

    fn customer(&self, customer: usize) -> String {
        format!("+1612{:06}{customer}", self.number)
    }

    fn body(&self, call: usize, version: usize) -> String {
        let (customer, outcome) = facts(call, version);
        let told_at = self.day() + SignedDuration::from_hours(told_after_hours(version));
        let mut body = phone_call(&self.call_id(call), &self.day().to_string(), &told_at.to_string());
        body["data"]["metadata"]["phone_call"]["external_number"] = json!(self.customer(customer));
        body["data"]["metadata"]["phone_call"]["agent_number"] = json!(self.number(number_of(call, version)));
        body["data"]["analysis"]["call_successful"] = json!(outcome);
        body["data"]["analysis"]["transcript_summary"] = json!(format!("Version {version} of it."));
        body.to_string()
    }

    /// As [`Model::ranks`].
    fn ranks(&self) -> Vec<[usize; VERSIONS]> {
        let of_call = |call| {
            let key = |version| {
                let sha256: [u8; 32] = Sha256::digest(self.body(call, version)).into();
                (told_after_hours(version), sha256)
            };
            std::array::from_fn(|version| (0..VERSIONS).filter(|other| key(*other) < key(version)).count())
        };
        (0..CALLS).map(of_call).collect()
    }

    fn credit(&self, campaign: Option<usize>) -> Value {
        campaign.map_or(Value::Null, |campaign| json!(self.campaigns[campaign]))
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        let answer = self.world.send(method.clone(), path, body).await;
        assert!([200, 404].contains(&answer.status), "{method} {path}: {answer:?}");
        (answer.status == 200).then(|| answer.json())
    }

    async fn happen(&mut self, event: &Event) {
        // Decisions of one millisecond would have no order in the history.
        self.world.stack.clock().advance(SignedDuration::from_millis(1));
        let id_of = |answer: Option<Value>, field: &str| Some(answer?[field].as_str()?.to_owned());
        let mut made = None;
        match event {
            Event::Deliver { call, version } => {
                self.world.deliver_ok(self.body(*call, *version)).await;
            }
            Event::Contact {
                campaign,
                customer,
                is,
            } => {
                let path = format!("/api/campaigns/{}/contacts", self.campaigns[*campaign]);
                let number = self.customer(*customer);
                if *is {
                    let body = json!({ "contacts": [{ "number": number }] });
                    self.send(Method::POST, &path, &body).await;
                } else {
                    let path = format!("{path}/{}", number.replace('+', "%2B"));
                    self.send(Method::DELETE, &path, &json!({})).await;
                }
            }
            Event::Number { campaign, number } => {
                let number = self.number(*number);
                let from = json!({ "from": self.day().to_string(), "move": true });
                let answer = self
                    .world
                    .assign(&self.campaigns[*campaign], &number, &from)
                    .await;
                answer.expect(200);
            }
            Event::Archive { campaign, is } => {
                let path = format!("/api/campaigns/{}", self.campaigns[*campaign]);
                let status = if *is { "archived" } else { "active" };
                self.send(Method::PATCH, &path, &json!({ "status": status }))
                    .await;
            }
            Event::Assign { call, campaign } => {
                let path = format!("/api/calls/{}/attribution", self.call_id(*call));
                let body = json!({ "campaign_id": self.credit(*campaign) });
                made = id_of(self.send(Method::PUT, &path, &body).await, "assignment_id");
            }
            Event::Release { call } => {
                let path = format!("/api/calls/{}/attribution", self.call_id(*call));
                made = id_of(
                    self.send(Method::DELETE, &path, &json!({})).await,
                    "assignment_id",
                );
            }
            Event::AssignMany { calls, campaign } => {
                let ids: Vec<String> = calls.iter().map(|call| self.call_id(*call)).collect();
                let body = json!({ "campaign_id": self.credit(*campaign), "call_ids": ids });
                made = id_of(
                    self.send(Method::POST, "/api/assignments", &body).await,
                    "assignment_id",
                );
            }
            Event::Convert { call, converted } => {
                let path = format!("/api/calls/{}/conversion", self.call_id(*call));
                match converted {
                    Some(converted) => {
                        let body = json!({ "converted": converted });
                        self.send(Method::PUT, &path, &body).await;
                    }
                    None => {
                        self.send(Method::DELETE, &path, &json!({})).await;
                    }
                }
            }
            Event::Reattribute => {
                let end = self.day() + SignedDuration::from_hours(240);
                let body = json!({ "from": self.day().to_string(), "to": end.to_string(), "dry_run": false });
                made = id_of(
                    self.send(Method::POST, "/api/reattributions", &body).await,
                    "reattribution_id",
                );
            }
            Event::Undo { which } => {
                if let Some(Some(id)) = self.assignments.get(*which) {
                    let path = format!("/api/assignments/{id}/undo");
                    self.send(Method::POST, &path, &json!({})).await;
                }
            }
        }
        self.assignments.push(made);
    }

    /// What the system says of a call, in the words of the model.
    async fn expect(&self, call: usize, state: &Call) {
        let seen = self.world.call(&self.call_id(call)).await;
        let (customer, outcome) = facts(call, state.version);
        assert_eq!(seen["outcome"], outcome, "{seen}");
        assert_eq!(seen["customer_number"], self.customer(customer), "{seen}");
        let rules = &state.rules;
        let (status, campaign, method) = match (state.assigned, rules.named.len()) {
            (Some(Some(campaign)), _) => ("attributed", Some(campaign), Some("manual")),
            (Some(None), _) => ("unattributed", None, Some("manual")),
            (None, 0) => ("unattributed", None, None),
            (None, 1) => ("attributed", rules.named.first().copied(), rules.method),
            (None, _) => ("ambiguous", None, None),
        };
        let attribution = &seen["attribution"];
        assert_eq!(attribution["status"], status, "{seen}");
        assert_eq!(attribution["campaign_id"], self.credit(campaign), "{seen}");
        assert_eq!(attribution["method"], json!(method), "{seen}");
        let claims = rules
            .named
            .union(&rules.losers)
            .filter(|other| Some(**other) != campaign);
        let mut claims: Vec<Value> = claims.map(|other| json!(self.campaigns[*other])).collect();
        let candidates = attribution["candidates"].as_array().unwrap().iter();
        let mut candidates: Vec<Value> = candidates.map(|other| other["campaign_id"].clone()).collect();
        for list in [&mut claims, &mut candidates] {
            list.sort_by_key(ToString::to_string);
        }
        assert_eq!(candidates, claims, "{seen}");
        let (converted, source) = match state.converted {
            Some(converted) => (converted, "manual"),
            None => (outcome == "success", "automatic"),
        };
        assert_eq!(seen["conversion"]["converted"], converted, "{seen}");
        assert_eq!(seen["conversion"]["source"], source, "{seen}");
        if let Some(campaign) = campaign {
            let list = self
                .world
                .calls(&format!("campaign_id={}", self.campaigns[campaign]))
                .await;
            assert!(
                list.iter().any(|other| other["id"] == seen["id"]),
                "in its campaign's list"
            );
        }
    }
}

async fn run(world: &World, number: usize, events: &[Event]) {
    let mut case = Case::new(world, number).await;
    let mut model = Model {
        ranks: case.ranks(),
        ..Model::default()
    };
    for (id, event) in events.iter().enumerate() {
        model.members.push(BTreeMap::new());
        case.happen(event).await;
        model.follow(event, id);
    }
    for (call, state) in &model.calls {
        case.expect(*call, state).await;
    }
    // And the lists of campaigns hold these calls and no others.
    for (index, campaign) in case.campaigns.iter().enumerate() {
        let listed = world.calls(&format!("campaign_id={campaign}")).await.len();
        let expected = model.calls.values().filter(|state| match state.assigned {
            Some(credit) => credit == Some(index),
            None => state.rules.named.len() == 1 && state.rules.named.contains(&index),
        });
        assert_eq!(listed, expected.count());
    }
}

#[test]
fn the_three_layers_never_overwrite_each_other() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let config = Config {
        cases: if full_size() { 150 } else { 24 },
        failure_persistence: None,
        max_shrink_iters: 200,
        ..Config::default()
    };
    // The same cases every time, but for the long run, which looks for new ones.
    let mut runner = if full_size() {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    let number = std::cell::Cell::new(0);
    let result = runner.run(&proptest::collection::vec(event(), 1..30), |events| {
        number.set(number.get() + 1);
        runtime.block_on(run(&world, number.get(), &events));
        Ok(())
    });
    let _inside = runtime.enter();
    if let Err(error) = result {
        panic!("{error}");
    }
}
