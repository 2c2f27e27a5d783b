//! Load: so many signed deliveries at a time to a running stack, and how long each took.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use reqwest::Client;
use serde_json::Value;
use uuid::Uuid;

use crate::conversation::Conversation;
use crate::sender;

/// How long an answer is waited for, which is longer than the gateway waits for a function.
const PATIENCE: Duration = Duration::from_secs(35);
/// How often progress is told.
const PROGRESS: Duration = Duration::from_secs(1);

/// What is delivered, and where.
#[derive(Debug)]
pub struct Load {
    /// Where the stack is.
    pub url: String,
    /// The secret to sign with.
    pub secret: String,
    /// How many new calls.
    pub calls: usize,
    /// How many at a time.
    pub concurrency: usize,
    /// The length of each body in bytes, at least.
    pub bytes: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Loaded {
    /// The length of each body in bytes.
    pub bytes: usize,
    /// From the first delivery to the last answer.
    pub took: Duration,
    /// How long each answer took.
    pub latencies: Latencies,
    /// How many deliveries were answered otherwise than 200, by what they were told instead.
    pub failures: BTreeMap<String, usize>,
}

/// How long each of several things took.
#[derive(Debug, Clone, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// The latency that so many of a hundred do not exceed; zero where there are none.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied().unwrap_or_default()
    }
}

impl FromIterator<Duration> for Latencies {
    fn from_iter<T: IntoIterator<Item = Duration>>(latencies: T) -> Self {
        let mut latencies: Vec<Duration> = latencies.into_iter().collect();
        latencies.sort_unstable();
        Self(latencies)
    }
}

impl Load {
    /// Delivers all calls, each under an id of its own, and tells progress on standard error.
    ///
    /// Nothing is tried again, so that what fails is seen.
    ///
    /// # Errors
    /// When nothing answers at the URL.
    pub async fn run(&self) -> Result<Loaded> {
        let client = Client::builder().timeout(PATIENCE).build()?;
        let conversation = Conversation::new(self.bytes);
        let of_this_run = Uuid::new_v4().simple().to_string();
        self.warm_up(&client).await?;

        let began = Instant::now();
        let mut answers = stream::iter(0..self.calls)
            .map(|call| {
                let body = conversation.body(&format!("conv_{of_this_run}_{call}"), Timestamp::now());
                self.deliver(&client, body.into_bytes())
            })
            .buffer_unordered(self.concurrency);
        let mut latencies = Vec::new();
        let mut failures = BTreeMap::new();
        let mut told = began;
        while let Some((latency, failure)) = answers.next().await {
            latencies.push(latency);
            if let Some(failure) = failure {
                *failures.entry(failure).or_default() += 1;
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                let so_far = latencies.len();
                let a_second = per_second(so_far, began.elapsed());
                eprintln!("{so_far} of {}, {a_second:.0} a second", self.calls);
            }
        }
        Ok(Loaded {
            bytes: conversation.bytes(),
            took: began.elapsed(),
            latencies: latencies.into_iter().collect(),
            failures,
        })
    }

    /// Has connections made and instances started, about as many as there will be at a time.
    async fn warm_up(&self, client: &Client) -> Result<()> {
        let url = format!("{}{}", self.url, sender::WEBHOOK_PATH);
        let asked = (0..self.concurrency).map(|_| client.get(&url).send());
        let answers = try_join_all(asked).await;
        for answer in answers.with_context(|| sender::unanswered(&url))? {
            let status = answer.status();
            ensure!(status.is_success(), "the webhook answered {status}");
        }
        Ok(())
    }

    async fn deliver(&self, client: &Client, body: Vec<u8>) -> (Duration, Option<String>) {
        let began = Instant::now();
        let answer = sender::post(client, &self.url, &self.secret, Timestamp::now(), body).await;
        let failure = match answer {
            Ok((200, _)) => None,
            Ok((status, answer)) => Some(format!("{status} {}", reason(&answer))),
            Err(error) => Some(format!("{error:#}")),
        };
        (began.elapsed(), failure)
    }
}

/// The message of a refusal, which is the same for all that are refused alike; the answer as it is
/// where it has none.
fn reason(answer: &str) -> String {
    let refusal: Value = serde_json::from_str(answer).unwrap_or_default();
    let message = refusal["error"]["message"].as_str();
    message.unwrap_or(answer).to_owned()
}

impl Loaded {
    /// Answers in a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        per_second(self.latencies.0.len(), self.took)
    }
}

#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52 of them")]
fn per_second(count: usize, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_latencies_that_were_measured() {
        let milliseconds = |numbers: &[u64]| numbers.iter().copied().map(Duration::from_millis).collect();
        let hundred: Latencies = (1..=100).rev().map(Duration::from_millis).collect();
        for (percent, expected) in [(0, 1), (50, 50), (99, 99), (100, 100)] {
            assert_eq!(hundred.percentile(percent), Duration::from_millis(expected));
        }
        let two: Latencies = milliseconds(&[20, 10]);
        assert_eq!(two.percentile(50), Duration::from_millis(10));
        assert_eq!(two.percentile(99), Duration::from_millis(20));
        assert_eq!(Latencies::default().percentile(50), Duration::ZERO);
    }
}
