//! Chaos: the store fails in every way and instances die, while a sender that behaves like
//! ElevenLabs delivers all kinds of bodies, repeated and out of order, a stranger knocks, people
//! decide, and customers are erased. What was answered 200 is there afterwards, whole and once,
//! and nothing of those who were erased.
//!
//! What is sent, what is decided, and how the n-th request to the store fails, follow from the
//! seed that is printed, and from `RINGMARK_SEED` where that is given. Which request is the n-th
//! one is up to the scheduler.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use jiff::SignedDuration;
use local::dynamodb::{Fault, StoreRequest};
use local::issuer::{READ, WRITE};
use local::sender::{SIGNATURE_HEADER, WEBHOOK_PATH};
use local::workspace;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::sync::Notify;

use crate::erasing::all_that_is_stored;
use crate::support::{World, client_from, full_size, phone_call};

/// How often the sender tries, and which of our answers have it try again: those and timeouts.
/// <https://elevenlabs.io/docs/agents-platform/workflows/post-call-webhooks>
const ATTEMPTS: usize = 5;
const RETRIED: [u16; 2] = [408, 429];
/// Deliveries at the same time; more than there are instances.
const SENDERS: usize = 12;
const VERSIONS: u64 = 3;
const PEOPLE: u64 = 3;
/// How often each customer who wants to be erased is, before their call comes or while its
/// versions do; and once more after these.
const ERASURES: u64 = 2;
/// Requests to the store between two deaths of all instances of a function.
const LIFETIME: u64 = 700;
/// Requests to the store that share the weather, and one in how many such times is a storm.
const WEATHER: u64 = 60;
const CALM_PER_STORM: u64 = 5;

struct Size {
    calls: u64,
    copies: u64,
    /// How often the stranger is told to wait until they give up.
    told_to_wait: usize,
    decisions: u64,
    /// One call in so many is of a customer who is erased while it is delivered.
    calls_per_erased: u64,
}

impl Size {
    fn of_this_run() -> Self {
        if full_size() {
            Self {
                calls: 2000,
                copies: 60,
                told_to_wait: 300,
                decisions: 2000,
                calls_per_erased: 400,
            }
        } else {
            Self {
                calls: 60,
                copies: 2,
                told_to_wait: 30,
                decisions: 60,
                calls_per_erased: 10,
            }
        }
    }
}

impl Size {
    /// The calls of customers who are erased.
    fn erased(&self) -> impl Iterator<Item = u64> + use<> {
        (0..self.calls).step_by(usize::try_from(self.calls_per_erased).unwrap())
    }
}

/// Of a customer who calls once and is erased.
fn number_of(call: u64) -> String {
    format!("+1651555{call:04}")
}

/// A number that looks random and follows from the seed and a place.
fn dice(seed: u64, place: u64) -> u64 {
    let mut mixed = (seed ^ place.rotate_left(32)).wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

// ---------------------------------------------------------------- what is sent

/// Which part of a body stays with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    WithCall,
    InLog,
    Nowhere,
}

/// One body, and what it says.
#[derive(Debug)]
struct Sent {
    body: Vec<u8>,
    sha256: String,
    kept: Kept,
    /// The call that it tells of.
    call_id: Option<String>,
    /// Its place among the versions of the call.
    version: (u64, String),
    /// What the call is by it, as far as a calm system says so too.
    facts: Value,
    /// Whether its customer is erased.
    erased: bool,
}

impl Sent {
    fn new(body: Vec<u8>, kept: Kept, call_id: Option<String>, told_at: u64, facts: Value) -> Self {
        let sha256 = hex::encode(Sha256::digest(&body));
        Self {
            body,
            kept,
            call_id,
            version: (told_at, sha256.clone()),
            sha256,
            facts,
            erased: false,
        }
    }

    /// A version of a call that has several; two by two they are told at the same time.
    fn version(call: u64, version: u64, erased: bool) -> Self {
        let id = format!("conv_{call}");
        let told_at = 10 + version / 2;
        let mut body = phone_call(
            &id,
            "2026-11-20T10:00:00Z",
            &format!("2026-11-20T{told_at}:30:00Z"),
        );
        let outcome = ["success", "failure"][usize::from((call + version).is_multiple_of(2))];
        let tracking = ["+16125550142", "+16125550100"][usize::from(call.is_multiple_of(2))];
        let data = &mut body["data"];
        data["metadata"]["call_duration_secs"] = json!(version + 1);
        data["metadata"]["phone_call"]["agent_number"] = json!(tracking);
        data["analysis"]["call_successful"] = json!(outcome);
        if erased {
            data["metadata"]["phone_call"]["external_number"] = json!(number_of(call));
        }
        let facts =
            json!({ "duration_seconds": version + 1, "outcome": outcome, "tracking_number": tracking });
        let body = body.to_string().into_bytes();
        Self {
            erased,
            ..Self::new(body, Kept::WithCall, Some(id), told_at, facts)
        }
    }
}

/// The facts of a call: without when it came, and without what rules and people say.
fn facts_of(mut call: Value) -> Value {
    let fields = call.as_object_mut().unwrap();
    for field in [
        "id",
        "received_at",
        "updated_at",
        "attribution",
        "conversion",
        "history",
    ] {
        fields.remove(field);
    }
    call
}

/// A sample of the provider's bodies, and what a calm system makes of it.
struct Sample {
    text: String,
    call_id: Option<String>,
    kept: Kept,
    facts: Value,
}

impl Sample {
    /// Learns from a calm system what becomes of the `number`th sample.
    async fn learn(calm: &World, number: usize, text: &str) -> Self {
        let is_of_id = |character: char| character.is_ascii_alphanumeric() || character == '_';
        let id = text
            .find("conv_")
            .map(|at| text[at..].split(|character| !is_of_id(character)).next());
        let call_id = id.map(|_| format!("conv_calm_{number}"));
        let text = match (id.flatten(), &call_id) {
            (Some(id), Some(own)) => text.replace(id, own),
            _ => text.to_owned(),
        };
        let result = calm.deliver_ok(text.clone()).await;
        let sha256 = hex::encode(Sha256::digest(&text));
        let log = calm.deliveries().await;
        let entry = log.iter().find(|entry| entry["body_sha256"] == sha256).unwrap();
        let (kept, facts) = match &call_id {
            Some(id) if result == "stored" => (Kept::WithCall, facts_of(calm.call(id).await)),
            _ if entry["body_kept"] == true => (Kept::InLog, Value::Null),
            _ => (Kept::Nowhere, Value::Null),
        };
        Self {
            text,
            call_id,
            kept,
            facts,
        }
    }

    /// The same about another conversation.
    fn copy(&self, name: &str, number: u64) -> Sent {
        let (text, call_id) = match &self.call_id {
            Some(id) => (self.text.replace(id, name), Some(name.to_owned())),
            None => (
                format!(
                    "{}{}",
                    self.text,
                    " ".repeat(usize::try_from(number).unwrap_or_default())
                ),
                None,
            ),
        };
        let call_id = call_id.filter(|_| self.kept == Kept::WithCall);
        Sent::new(text.into_bytes(), self.kept, call_id, 0, self.facts.clone())
    }
}

/// All bodies, and in which order they are sent, some more than once.
async fn plan(seed: u64, size: &Size) -> (Vec<Sent>, Vec<usize>) {
    let mut bodies: Vec<Sent> = (0..size.calls)
        .flat_map(|call| {
            let erased = call.is_multiple_of(size.calls_per_erased);
            (0..VERSIONS).map(move |version| Sent::version(call, version, erased))
        })
        .collect();
    let folder = workspace().join("events/webhook");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().collect();
    files.sort_by_key(|file| file.as_ref().unwrap().file_name());
    let calm = World::new().await;
    for (number, file) in files.into_iter().enumerate() {
        let path = file.unwrap().path();
        if path.is_file() {
            let sample = Sample::learn(&calm, number, &std::fs::read_to_string(&path).unwrap()).await;
            bodies.extend(
                (0..size.copies).map(|copy| sample.copy(&format!("conv_{number}_copy_{copy}"), copy)),
            );
        }
    }
    for copy in 0..size.copies {
        let body = format!("this is no JSON {copy}").into_bytes();
        bodies.push(Sent::new(body, Kept::InLog, None, 0, Value::Null));
    }
    let mut order: Vec<(u64, usize)> = Vec::new();
    for index in 0..bodies.len() {
        let roll = dice(seed, index as u64);
        let times = [1, 1, 1, 1, 2, 2, 3, 1][(roll % 8) as usize];
        order.extend((0..times).map(|time| (dice(roll, time), index)));
    }
    order.sort_unstable();
    (bodies, order.into_iter().map(|(_, index)| index).collect())
}

/// How a body fared, over all that were sent of it.
#[derive(Debug, Default, Clone)]
struct Fared {
    attempts: usize,
    accepted: usize,
    /// Attempts that no answer of ours came to: an instance died.
    unanswered: usize,
}

/// One attempt to deliver: the status, where the answer is ours.
async fn attempt(world: &World, client: &Client, body: &[u8], signature: &str) -> Option<u16> {
    let sent = client
        .post(format!("{}{WEBHOOK_PATH}", world.stack.url()))
        .header("content-type", "application/json")
        .header(SIGNATURE_HEADER, signature)
        .timeout(Duration::from_secs(30))
        .body(body.to_vec())
        .send();
    let answer = sent.await.ok()?;
    let status = answer.status().as_u16();
    answer.headers().contains_key("x-request-id").then_some(status)
}

/// Delivers as ElevenLabs does: five times at most, and never again what was refused.
async fn deliver(world: &World, sent: &Sent) -> Fared {
    let signature = world.sign(&sent.body);
    let mut fared = Fared::default();
    while fared.attempts < ATTEMPTS {
        fared.attempts += 1;
        match attempt(world, &world.client, &sent.body, &signature).await {
            Some(200) => {
                fared.accepted += 1;
                return fared;
            }
            Some(status) => assert!(
                status >= 500 || RETRIED.contains(&status),
                "a genuine delivery is never turned away: {status}"
            ),
            None => fared.unanswered += 1,
        }
    }
    fared
}

// ------------------------------------------------------------ what goes wrong

/// What was done to the system.
#[derive(Default)]
struct Harm {
    requests: AtomicU64,
    /// By kind.
    faults: Mutex<BTreeMap<String, u64>>,
    /// Entries of the log, by the hash of the body, whose write was harmed.
    entries: Mutex<BTreeMap<String, usize>>,
    deaths: AtomicU64,
    /// It is time for somebody to die.
    death: Notify,
}

impl Harm {
    fn fault(&self, seed: u64, request: &StoreRequest) -> Option<Fault> {
        let number = self.requests.fetch_add(1, Ordering::SeqCst);
        if number % LIFETIME == LIFETIME - 1 {
            self.death.notify_one();
        }
        let is_storm = dice(!seed, number / WEATHER).is_multiple_of(CALM_PER_STORM);
        let roll = dice(seed, number) % 1000;
        let fault = match roll % 7 {
            _ if roll >= if is_storm { 750 } else { 40 } => return None,
            0 if request.operation == "BatchGetItem" => Fault::LeftOver,
            0 | 1 => Fault::Throttled,
            2 => Fault::InternalError,
            3 => Fault::CutBefore,
            4 | 5 => Fault::CutAfter,
            _ => Fault::Delayed(Duration::from_millis(5 + roll / 7)),
        };
        let name = format!("{fault:?}");
        let name = name.split('(').next().unwrap_or_default().to_owned();
        *self.faults.lock().unwrap().entry(name).or_default() += 1;
        let entry = &request.body["Item"]["body_sha256"]["S"];
        if let (Some(sha256), false) = (entry.as_str(), matches!(fault, Fault::Delayed(_))) {
            *self.entries.lock().unwrap().entry(sha256.to_owned()).or_default() += 1;
        }
        Some(fault)
    }

    fn harmed_entries(&self, sha256: &str) -> usize {
        self.entries
            .lock()
            .unwrap()
            .get(sha256)
            .copied()
            .unwrap_or_default()
    }

    /// Has all instances of a function die whenever it is time.
    async fn kill(&self, world: &World) {
        for name in ["WebhookFunction", "AttributionFunction"].iter().cycle() {
            self.death.notified().await;
            world.stack.function(name).unwrap().kill_instances();
            self.deaths.fetch_add(1, Ordering::SeqCst);
        }
    }
}

// --------------------------------------------------------------- who decides

/// What people decided about a call.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Decided {
    assigned: Option<Option<usize>>,
    converted: Option<bool>,
    /// Decisions that changed anything.
    changes: usize,
}

/// A person with calls of their own, who insists until it is done.
struct Person<'a> {
    world: &'a World,
    bearer: String,
    campaigns: &'a [String],
}

impl Person<'_> {
    /// What came of a request in the end; `None` where there is no such call.
    async fn insist(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        for _ in 0..200 {
            let request = self
                .world
                .client
                .request(method.clone(), format!("{}{path}", self.world.stack.url()))
                .header("authorization", &self.bearer)
                .header("content-type", "application/json")
                .body(body.to_string());
            let Ok(answer) = request.send().await else {
                continue;
            };
            match answer.status() {
                StatusCode::OK => return Some(answer.json().await.unwrap()),
                StatusCode::NOT_FOUND => return None,
                status => assert!(status.is_server_error(), "{path}: {status}"),
            }
        }
        panic!("{path}: nothing can be decided any more")
    }

    /// Erases a customer; the number of calls that they had.
    async fn erase(&self, number: &str) -> usize {
        let mut request = json!({ "customer_number": number, "dry_run": false });
        let mut calls = 0;
        loop {
            let mut done = self
                .insist(Method::POST, "/api/erasures", &request)
                .await
                .unwrap();
            calls += done["call_ids"].as_array().unwrap().len();
            request["cursor"] = done["next_cursor"].take();
            if request["cursor"].is_null() {
                return calls;
            }
        }
    }

    /// Erases all who want to be, so many times; how many calls that were.
    async fn erase_all(&self, size: &Size, times: u64) -> usize {
        let mut calls = 0;
        for _ in 0..times {
            for call in size.erased() {
                calls += self.erase(&number_of(call)).await;
            }
        }
        calls
    }

    fn credit(&self, campaign: Option<usize>) -> Value {
        campaign.map_or(Value::Null, |campaign| json!(self.campaigns[campaign]))
    }

    /// Assigns calls, again those for which it failed; the numbers of those that there are.
    async fn assign_all(&self, mut ids: Vec<String>, credit: &Value) -> Vec<u64> {
        let mut found = Vec::new();
        while !ids.is_empty() {
            let body = json!({ "campaign_id": credit, "call_ids": ids });
            let done = self
                .insist(Method::POST, "/api/assignments", &body)
                .await
                .unwrap();
            ids.clear();
            for outcome in done["outcomes"].as_array().unwrap() {
                let id = outcome["call_id"].as_str().unwrap();
                match outcome["result"].as_str().unwrap() {
                    "failed" => ids.push(id.to_owned()),
                    "not_found" => {}
                    _ => found.push(id["conv_".len()..].parse().unwrap()),
                }
            }
        }
        found
    }

    /// Makes as many decisions as are asked for, about every `PEOPLE`th call.
    async fn decide(&self, seed: u64, person: u64, size: &Size) -> BTreeMap<u64, Decided> {
        let mut decided: BTreeMap<u64, Decided> = BTreeMap::new();
        let mut made = 0;
        for place in 0.. {
            if made >= size.decisions / PEOPLE {
                return decided;
            }
            let roll = dice(seed ^ (person + 1), place);
            let of = |number: u64| (dice(roll, number) % (size.calls / PEOPLE)) * PEOPLE + person;
            let credit = [None, Some(0), Some(1), Some(2)][(roll / 8 % 4) as usize];
            let call = of(0);
            let path = format!("/api/calls/conv_{call}");
            let (calls, assigned, converted) = match roll % 8 {
                0..3 => {
                    let body = json!({ "campaign_id": self.credit(credit) });
                    let path = format!("{path}/attribution");
                    let done = self.insist(Method::PUT, &path, &body).await;
                    (done.map(|_| vec![call]), Some(Some(credit)), None)
                }
                3 => {
                    let path = format!("{path}/attribution");
                    let done = self.insist(Method::DELETE, &path, &json!({})).await;
                    (done.map(|_| vec![call]), Some(None), None)
                }
                4 | 5 => {
                    let value = (roll / 8).is_multiple_of(2);
                    let body = json!({ "converted": value });
                    let path = format!("{path}/conversion");
                    let done = self.insist(Method::PUT, &path, &body).await;
                    (done.map(|_| vec![call]), None, Some(Some(value)))
                }
                6 => {
                    let path = format!("{path}/conversion");
                    let done = self.insist(Method::DELETE, &path, &json!({})).await;
                    (done.map(|_| vec![call]), None, Some(None))
                }
                _ => {
                    let some: BTreeSet<u64> = (0..5).map(of).collect();
                    let ids: Vec<String> = some.iter().map(|call| format!("conv_{call}")).collect();
                    let found = self.assign_all(ids, &self.credit(credit)).await;
                    (Some(found), Some(Some(credit)), None)
                }
            };
            for call in calls.unwrap_or_default() {
                made += 1;
                let state = decided.entry(call).or_default();
                let before = state.clone();
                state.assigned = assigned.unwrap_or(state.assigned);
                state.converted = converted.unwrap_or(state.converted);
                state.changes += usize::from(*state != before);
            }
        }
        decided
    }
}

// ------------------------------------------------------------------- the story

#[tokio::test]
async fn what_was_accepted_is_there_whole_and_once_whatever_fails() {
    let seed = match std::env::var("RINGMARK_SEED") {
        Ok(seed) => seed.parse().unwrap(),
        Err(_) if full_size() => jiff::Timestamp::now().as_millisecond().unsigned_abs(),
        Err(_) => 7,
    };
    eprintln!("RINGMARK_SEED={seed}");
    let size = Size::of_this_run();
    let (bodies, order) = plan(seed, &size).await;
    let world = World::new().await;
    world.stack.clock().set("2026-11-21T12:00:17Z".parse().unwrap());
    let mut campaigns = Vec::new();
    for name in ["Spring mailing", "Radio", "Search ads"] {
        campaigns.push(world.campaign(name).await);
    }
    let ever = json!({ "from": "2020-01-01T00:00:00Z" });
    world
        .assign(&campaigns[0], "+16125550142", &ever)
        .await
        .expect(200);

    let harm = Arc::new(Harm::default());
    let harming = Arc::clone(&harm);
    world
        .stack
        .dynamodb()
        .inject(move |request| harming.fault(seed, request));
    let bearer = format!("Bearer {}", world.token(&[READ, WRITE]));
    world.confide(bearer.trim_start_matches("Bearer "));
    let person = Person {
        world: &world,
        bearer,
        campaigns: &campaigns,
    };
    let sending = stream::iter(&order)
        .map(async |index| (*index, deliver(&world, &bodies[*index]).await))
        .buffer_unordered(SENDERS)
        .collect::<Vec<_>>();
    let people = futures_util::future::join_all((0..PEOPLE).map(|of| person.decide(seed, of, &size)));
    let stranger = knock(&world, size.told_to_wait);
    let happening = async {
        let erasing = person.erase_all(&size, ERASURES);
        let (sent, turned_away, decided, mut erased) = tokio::join!(sending, stranger, people, erasing);
        erased += person.erase_all(&size, 1).await;
        (sent, turned_away, decided, erased)
    };
    let (sent, turned_away, decided, erased) = tokio::select! {
        happened = happening => happened,
        () = harm.kill(&world) => unreachable!("there is always another one"),
    };
    world.stack.dynamodb().heal();

    let mut fared = vec![Fared::default(); bodies.len()];
    for (index, one) in &sent {
        let all = &mut fared[*index];
        all.attempts += one.attempts;
        all.accepted += one.accepted;
        all.unanswered += one.unanswered;
    }
    let count = |of: fn(&Fared) -> usize| fared.iter().map(of).sum::<usize>();
    eprintln!(
        "{} deliveries of {} bodies: {} attempts, {} accepted, {} without an answer of ours; {} store requests, \
         faults {:?}, {} times all instances of a function died; a stranger answered {turned_away:?}; {} decisions; {erased} calls erased meanwhile",
        order.len(),
        bodies.len(),
        count(|fared| fared.attempts),
        count(|fared| fared.accepted),
        count(|fared| fared.unanswered),
        harm.requests.load(Ordering::SeqCst),
        harm.faults.lock().unwrap(),
        harm.deaths.load(Ordering::SeqCst),
        size.decisions,
    );
    let faults = harm.faults.lock().unwrap().len();
    assert_eq!(faults, 6, "every kind of fault");
    assert!(harm.deaths.load(Ordering::SeqCst) > 2);

    let decided: BTreeMap<u64, Decided> = decided.into_iter().flatten().collect();
    expect_calls(&person, &bodies, &fared, &decided).await;
    expect_log(&world, &bodies, &fared, &harm, &turned_away).await;

    // And once more, in the calm: all of it was here, and who is erased stays so.
    for sent in bodies.iter().filter(|sent| sent.erased) {
        let answer = attempt(&world, &world.client, &sent.body, &world.sign(&sent.body)).await;
        assert_eq!(answer, Some(200));
    }
    person.erase_all(&size, 1).await;
    let was_here = |(sent, fared): &(&Sent, &Fared)| fared.accepted > 0 || sent.erased;
    for (sent, _) in bodies.iter().zip(&fared).filter(was_here) {
        let answer = attempt(&world, &world.client, &sent.body, &world.sign(&sent.body)).await;
        assert_eq!(answer, Some(200));
    }
    let log = world.deliveries().await;
    for (sent, fared) in bodies.iter().zip(&fared) {
        let entries: Vec<&Value> = log
            .iter()
            .filter(|entry| entry["body_sha256"] == sent.sha256)
            .collect();
        if fared.accepted > 0 && sent.kept == Kept::WithCall && !sent.erased {
            assert!(
                entries.iter().any(|entry| entry["result"] == "duplicate"),
                "{entries:?}"
            );
        }
        let kept = entries.iter().filter(|entry| entry["body_kept"] == true);
        let looked_at = if sent.kept == Kept::InLog {
            kept.clone().count()
        } else {
            1
        };
        for entry in kept.take(looked_at) {
            let path = format!("/api/deliveries/{}/raw", entry["id"].as_str().unwrap());
            assert_eq!(world.get(&path).await.body, sent.body, "byte for byte");
        }
    }
    expect_calls(&person, &bodies, &fared, &decided).await;
    expect_erased(&world, &bodies, &size).await;

    // While nothing fails, each minute's flood is marked once.
    let marks = async || {
        let log = world.deliveries().await;
        let marks = log.iter().filter(|entry| entry["reason"] == "rate_limited");
        marks.count()
    };
    let before = marks().await;
    world.stack.clock().advance(SignedDuration::from_mins(1));
    knock(&world, size.told_to_wait).await;
    assert_eq!(marks().await, before + 1);
}

/// Nothing of those who were erased is here, but for each of their calls once, without them.
async fn expect_erased(world: &World, bodies: &[Sent], size: &Size) {
    let listed = world.calls("limit=100").await;
    let heads = listed
        .iter()
        .filter(|call| call["id"].as_str().unwrap().starts_with("erased_"));
    assert_eq!(heads.count(), size.erased().count(), "each keeps counting");
    let words: Vec<String> = bodies
        .iter()
        .filter(|sent| sent.erased)
        .filter_map(|sent| sent.call_id.clone())
        .chain(size.erased().map(number_of))
        .collect();
    // Whole, for one id may begin like another.
    let goes_on = |rest: &str| rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_');
    let names = |item: &str, word: &str| item.split(word).skip(1).any(|rest| !goes_on(rest));
    for item in all_that_is_stored(world).await {
        let named = words.iter().find(|word| names(&item, word));
        assert_eq!(named, None, "{item}");
    }
}

/// Requests without a right to be heard, from one address, until it has been told to wait so
/// often; how many were answered how. Some are not counted: the store fails for them, too.
async fn knock(world: &World, told_to_wait: usize) -> BTreeMap<u16, usize> {
    let client = client_from([127, 0, 0, 2].into());
    let mut answers: BTreeMap<u16, usize> = BTreeMap::new();
    for _ in 0..100 * told_to_wait {
        let answer = attempt(world, &client, STRANGE, "t=1795262417,v0=00").await;
        assert!([None, Some(401), Some(429)].contains(&answer), "{answer:?}");
        *answers.entry(answer.unwrap_or(500)).or_default() += 1;
        if answers.get(&429) == Some(&told_to_wait) {
            return answers;
        }
    }
    panic!("a flood goes on: {answers:?}")
}

const STRANGE: &[u8] = b"{\"type\":\"post_call_transcription\"}";

/// Each call is there once, with the facts of its newest version and what people decided.
async fn expect_calls(
    person: &Person<'_>,
    bodies: &[Sent],
    fared: &[Fared],
    decided: &BTreeMap<u64, Decided>,
) {
    let world = person.world;
    let mut sent_of: BTreeMap<&str, Vec<(&Sent, &Fared)>> = BTreeMap::new();
    for (sent, fared) in bodies.iter().zip(fared) {
        if let Some(id) = &sent.call_id {
            sent_of.entry(id).or_default().push((sent, fared));
        }
    }
    let listed = world.calls("limit=100").await;
    let ids: BTreeSet<&str> = listed.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), listed.len(), "each call is there once");
    for (id, versions) in &sent_of {
        if versions.iter().any(|(sent, _)| sent.erased) {
            continue;
        }
        let accepted = versions.iter().filter(|(_, fared)| fared.accepted > 0);
        let newest = accepted.map(|(sent, _)| &sent.version).max();
        assert!(ids.contains(id) || newest.is_none(), "{id} is lost");
        if !ids.contains(id) {
            continue;
        }
        let call = world.call(id).await;
        let raw = world.get(&format!("/api/calls/{id}/raw")).await;
        // One that was never answered 200 may be here, too: its last attempt broke off late.
        let is = |sent: &Sent| raw.status == 200 && raw.body == sent.body;
        let Some((sent, _)) = versions.iter().find(|(sent, _)| is(sent)) else {
            assert!(newest.is_none(), "{id}: none of its bodies is here");
            continue;
        };
        assert!(
            newest.is_none_or(|newest| *newest <= sent.version),
            "{id}: {call}"
        );
        let seen = facts_of(call.clone());
        for (field, value) in sent.facts.as_object().unwrap() {
            assert_eq!(seen[field], *value, "{id}, {field}: {call}");
        }
        expect_decided(person, id, &call, decided);
    }
    assert!(
        ids.iter()
            .all(|id| sent_of.contains_key(id) || id.starts_with("erased_")),
        "no call of nobody's"
    );
}

/// What people decided stands, each decision once in the history; else the rules and the outcome do.
fn expect_decided(person: &Person<'_>, id: &str, call: &Value, decided: &BTreeMap<u64, Decided>) {
    let Some(Ok(number)) = id.strip_prefix("conv_").map(str::parse::<u64>) else {
        return;
    };
    let none = Decided::default();
    let state = decided.get(&number).unwrap_or(&none);
    let by_rule = (call["tracking_number"] == "+16125550142").then_some(0);
    let (campaign, method) = match state.assigned {
        Some(campaign) => (campaign, json!("manual")),
        None => (by_rule, by_rule.map_or(Value::Null, |_| json!("tracking_number"))),
    };
    let attribution = &call["attribution"];
    assert_eq!(attribution["campaign_id"], person.credit(campaign), "{call}");
    assert_eq!(attribution["method"], method, "{call}");
    let (converted, source) = match state.converted {
        Some(converted) => (converted, "manual"),
        None => (call["outcome"] == "success", "automatic"),
    };
    assert_eq!(call["conversion"]["converted"], converted, "{call}");
    assert_eq!(call["conversion"]["source"], source, "{call}");
    let history = call["history"].as_array().unwrap();
    assert_eq!(history.len(), state.changes, "{state:?}: {call}");
}

/// The log and the marks of floods account for every attempt, but for entries whose write was
/// harmed and instances that died.
async fn expect_log(
    world: &World,
    bodies: &[Sent],
    fared: &[Fared],
    harm: &Harm,
    turned_away: &BTreeMap<u16, usize>,
) {
    let mut entries: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for entry in world.deliveries().await {
        let sha256 = entry["body_sha256"].as_str().unwrap().to_owned();
        entries.entry(sha256).or_default().push(entry);
    }
    for (sent, fared) in bodies.iter().zip(fared) {
        let entries = entries.remove(&sent.sha256).unwrap_or_default();
        let excused = harm.harmed_entries(&sent.sha256) + fared.unanswered;
        assert!(
            entries.len() <= fared.attempts,
            "no attempt is there twice: {entries:?}"
        );
        assert!(
            entries.len() + excused >= fared.attempts || sent.erased,
            "{} {fared:?}: {entries:?}",
            String::from_utf8_lossy(&sent.body)
        );
        let accepted = entries.iter().filter(|entry| entry["status"] == 200).count();
        assert!(accepted <= fared.accepted + excused, "{fared:?}: {entries:?}");
        if sent.kept == Kept::InLog {
            assert!(accepted >= fared.accepted, "what only the log keeps is in it");
        }
    }
    let strange = hex::encode(Sha256::digest(STRANGE));
    let entries = entries.remove(&strange).unwrap_or_default();
    let told = |status: u16| turned_away.get(&status).copied().unwrap_or_default();
    let logged = |reason: &str| entries.iter().filter(|entry| entry["reason"] == reason).count();
    let excused = harm.harmed_entries(&strange) + told(500);
    assert!(logged("invalid_signature") <= told(401) + excused);
    assert!(logged("invalid_signature") + excused >= told(401));
}
