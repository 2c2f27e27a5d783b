//! How fast functions start and answer: real binaries behind the local Runtime API, on the
//! embedded store.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use axum::body::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::conversation::Conversation;
use crate::lambda::{Function, Instance};
use crate::load::Latencies;
use crate::sender::{SIGNATURE_HEADER, signature};
use crate::{DEFAULT_WEBHOOK_SECRET, Options, Stack, workspace};

/// What is measured: a name, a function, and the event that it gets.
const SUBJECTS: [(&str, &str, What); 7] = [
    ("webhook, 8.5 KB", "WebhookFunction", What::Delivery(8_552)),
    ("webhook, 426 KB", "WebhookFunction", What::Delivery(426_000)),
    ("webhook, 1.5 MB", "WebhookFunction", What::Delivery(1_500_000)),
    (
        "calls, a page of 25",
        "CallsFunction",
        What::Event("calls/list.json"),
    ),
    (
        "attribution, campaigns",
        "AttributionFunction",
        What::Event("attribution/list_campaigns.json"),
    ),
    ("sync, its state", "SyncFunction", What::Event("sync/read.json")),
    (
        "console, sign-in",
        "ConsoleFunction",
        What::Event("console/sign_in.json"),
    ),
];

enum What {
    /// A new call, of a body of so many bytes.
    Delivery(usize),
    /// An event of the folder `events`.
    Event(&'static str),
}

/// What was measured of one function with one kind of event.
#[derive(Debug)]
pub struct Measured {
    /// In words.
    pub name: &'static str,
    /// From the start of the process to its first question for an invocation.
    pub start_up: Latencies,
    /// The first invocation of an instance, from the event to the answer.
    pub first: Latencies,
    /// Every further one.
    pub warm: Latencies,
    /// How long a further one had a processor, on average: what of it does not wait.
    pub warm_processor: Duration,
    /// The most memory that an instance had, in bytes.
    pub peak_memory_bytes: u64,
}

/// Starts each function so many times, and invokes an instance so many times after its first; only
/// what has `named` in its name.
///
/// # Errors
/// When the stack does not start, nothing has that name, or a function does not answer.
pub async fn measure(named: &str, starts: NonZeroU32, invocations: NonZeroU32) -> Result<Vec<Measured>> {
    let subjects = || SUBJECTS.iter().filter(|(name, ..)| name.contains(named));
    ensure!(subjects().next().is_some(), "nothing is named {named:?}");
    let stack = Stack::start_with(Options::default()).await?;
    let mut measured = Vec::new();
    for (name, function, what) in subjects() {
        eprintln!("{name} ...");
        let function = stack
            .function(function)
            .with_context(|| format!("no {function}"))?;
        let events = Events::new(what)?;
        let subject = Subject { function, events };
        measured.push(subject.measure(name, starts, invocations).await?);
    }
    Ok(measured)
}

struct Subject<'a> {
    function: &'a Function,
    events: Events,
}

impl Subject<'_> {
    async fn measure(
        mut self,
        name: &'static str,
        starts: NonZeroU32,
        invocations: NonZeroU32,
    ) -> Result<Measured> {
        let (mut start_up, mut first, mut warm) = (Vec::new(), Vec::new(), Vec::new());
        let (mut peak_memory_bytes, mut processor) = (0, Duration::ZERO);
        for start in 1..=starts.get() {
            let mut instance = self.function.start().await?;
            start_up.push(instance.start_up().await?);
            first.push(self.invoke(&mut instance).await?);
            if start == starts.get() {
                let before = instance.processor_time()?;
                for _ in 0..invocations.get() {
                    warm.push(self.invoke(&mut instance).await?);
                }
                processor = instance.processor_time()?.saturating_sub(before);
            }
            peak_memory_bytes = peak_memory_bytes.max(instance.peak_memory_bytes()?);
        }
        Ok(Measured {
            name,
            start_up: start_up.into_iter().collect(),
            first: first.into_iter().collect(),
            warm: warm.into_iter().collect(),
            warm_processor: processor / invocations.get(),
            peak_memory_bytes,
        })
    }

    async fn invoke(&mut self, instance: &mut Instance) -> Result<Duration> {
        let event = self.events.next();
        let began = Instant::now();
        let answer = instance.invoke(event).await?;
        let took = began.elapsed();
        let answer: Value = serde_json::from_slice(&answer)?;
        let status = answer["statusCode"].as_u64().unwrap_or_default();
        ensure!((200..400).contains(&status), "answered {answer}");
        Ok(took)
    }
}

/// Events of one kind, each about another call.
struct Events {
    event: Value,
    conversation: Option<Conversation>,
    made: usize,
}

impl Events {
    fn new(what: &What) -> Result<Self> {
        let (file, conversation) = match what {
            What::Delivery(bytes) => ("webhook/gateway/signed.json", Some(Conversation::new(*bytes))),
            What::Event(file) => (*file, None),
        };
        let path = workspace().join("events").join(file);
        let event = std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self {
            event: serde_json::from_slice(&event)?,
            conversation,
            made: 0,
        })
    }

    fn next(&mut self) -> Bytes {
        if let Some(conversation) = &self.conversation {
            let now = Timestamp::now();
            let id = format!("conv_{}_{}", conversation.bytes(), self.made);
            let body = conversation.body(&id, now);
            self.made += 1;
            self.event["headers"][SIGNATURE_HEADER] =
                json!(signature(DEFAULT_WEBHOOK_SECRET, now, body.as_bytes()));
            self.event["requestContext"]["timeEpoch"] = json!(now.as_millisecond());
            self.event["body"] = json!(body);
        }
        Bytes::from(self.event.to_string())
    }
}
