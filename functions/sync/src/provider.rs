//! The provider's REST API: asked patiently, but not for longer than there is time.
//!
//! <https://elevenlabs.io/docs/api-reference/conversations/list>; shapes after the
//! models of its own SDK. It publishes no limit for these routes, but answers 429 when
//! there is too much at once, and the SDK repeats 408, 409, 429 and 5xx.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;
use jiff::fmt::rfc2822;
use reqwest::header::{HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use shared::call::CallId;
use shared::completeness::WebhookHealth;
use shared::listing::ListingPage;
use tokio::time::Instant;
use url::Url;

/// The most that the listing gives at once.
const PAGE_SIZE: &str = "100";
/// How long one attempt may take.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a request is repeated that may well succeed another time.
const RETRIES: usize = 4;
/// How often one for a conversation is, which has a second chance.
const RETRIES_OF_A_CONVERSATION: usize = 2;
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a request may take with all that repeats it.
const PATIENCE: Duration = Duration::from_secs(20);
/// After so many requests in a row that failed for good, none is repeated any more.
const LAST_STRAW: usize = 10;
/// The longest that a `Retry-After` is believed.
const LONGEST_HOLD: Duration = Duration::from_secs(300);
/// What its own SDK repeats, beside 5xx.
const PASSING: [StatusCode; 3] = [
    StatusCode::REQUEST_TIMEOUT,
    StatusCode::CONFLICT,
    StatusCode::TOO_MANY_REQUESTS,
];
/// The largest answer that is read: a conversation of many hours.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// The path of our webhook, by which its health is found among others'.
const WEBHOOK_PATH: &str = "/api/webhooks/elevenlabs";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// The key is not accepted, with this status.
    KeyRefused(u16),
    /// There is no such thing any more.
    Gone,
    /// It was refused with this status; asking again does not help.
    Refused(u16),
    /// The time of the run is over.
    OutOfTime,
    /// It asks to be left alone for longer than the run lasts.
    Held,
    /// It can't be reached or has too much to do; asking another time may help.
    Unavailable(String),
    /// It answers something else, each time.
    Unreadable(&'static str),
}

impl Trouble {
    fn may_pass(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Unreadable(_))
    }
}

/// The API at its address.
pub struct Provider {
    http: Client,
    base: Url,
}

impl Provider {
    /// The API at this address.
    ///
    /// # Errors
    /// When this machine has no certificates to trust.
    pub fn new(base: Url) -> Result<Self, reqwest::Error> {
        let http = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            // The key goes to this address and to no other.
            .redirect(Policy::none())
            .build()?;
        Ok(Self { http, base })
    }

    /// Asks with this key until a deadline; `None` where it can't be one.
    pub fn session(&self, key: &str, deadline: Instant) -> Option<Session<'_>> {
        let mut key = HeaderValue::from_str(key).ok()?;
        key.set_sensitive(true);
        Some(Session {
            provider: self,
            key,
            deadline,
            not_before: Mutex::new(Instant::now()),
            requests: AtomicU64::new(0),
            failed_in_a_row: AtomicUsize::new(0),
        })
    }
}

/// The API for the time of one run.
pub struct Session<'a> {
    provider: &'a Provider,
    key: HeaderValue,
    deadline: Instant,
    /// Where one request is told to wait, all do.
    not_before: Mutex<Instant>,
    requests: AtomicU64,
    failed_in_a_row: AtomicUsize,
}

impl Session<'_> {
    /// How often it asked, repeated requests included.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Whether requests may still be repeated.
    pub fn is_patient(&self) -> bool {
        self.failed_in_a_row.load(Ordering::Relaxed) < LAST_STRAW
    }

    /// A page of the listing of all agents, the newest first. Whether the bounds belong
    /// to a window is not documented, so it is asked for a second more on both sides.
    pub async fn list(
        &self,
        from: Timestamp,
        to: Timestamp,
        cursor: Option<&str>,
    ) -> Result<ListingPage, Trouble> {
        let mut url = self.url(["v1", "convai", "conversations"]);
        url.query_pairs_mut()
            .append_pair("page_size", PAGE_SIZE)
            .append_pair("call_start_after_unix", &(from.as_second() - 1).to_string())
            .append_pair("call_start_before_unix", &(to.as_second() + 2).to_string());
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        self.ask(url, RETRIES, |body| ListingPage::read(&body)).await
    }

    /// A conversation, as it is; `read` says whether it is one.
    pub async fn conversation<T>(
        &self,
        id: &CallId,
        read: impl Fn(Vec<u8>) -> Result<T, &'static str>,
    ) -> Result<T, Trouble> {
        let url = self.url(["v1", "convai", "conversations", id.as_str()]);
        self.ask(url, RETRIES_OF_A_CONVERSATION, read).await
    }

    /// Whether the provider keeps nothing of the conversations of an agent.
    pub async fn has_zero_retention(&self, agent_id: &str) -> Result<bool, Trouble> {
        let url = self.url(["v1", "convai", "agents", agent_id]);
        let agent: Agent = self.ask(url, RETRIES, read_json).await?;
        let privacy = agent.platform_settings.and_then(|settings| settings.privacy);
        Ok(privacy
            .and_then(|privacy| privacy.zero_retention_mode)
            .unwrap_or(false))
    }

    /// How the webhooks are that deliver to our path. One of another form than
    /// documented is passed over.
    pub async fn webhooks(&self) -> Result<Vec<WebhookHealth>, Trouble> {
        let url = self.url(["v1", "workspace", "webhooks"]);
        let webhooks: Webhooks = self.ask(url, RETRIES, read_json).await?;
        let webhooks = webhooks.webhooks.into_iter();
        let ours = webhooks
            .filter_map(|webhook| serde_json::from_value::<Webhook>(webhook).ok())
            .filter(|webhook| webhook.webhook_url.ends_with(WEBHOOK_PATH));
        Ok(ours.map(Webhook::health).collect())
    }

    fn url<'s>(&self, segments: impl IntoIterator<Item = &'s str>) -> Url {
        let mut url = self.provider.base.clone();
        // An http or https URL always has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    async fn ask<T>(
        &self,
        url: Url,
        retries: usize,
        read: impl Fn(Vec<u8>) -> Result<T, &'static str>,
    ) -> Result<T, Trouble> {
        let retries = ExponentialBuilder::default()
            .with_min_delay(FIRST_PAUSE)
            .with_max_delay(LONGEST_PAUSE)
            .with_max_times(if self.is_patient() { retries } else { 0 })
            .with_jitter();
        let asking = (|| self.attempt(&url, &read))
            .retry(retries)
            .when(Trouble::may_pass);
        let patience = Instant::now() + PATIENCE;
        let answer = match tokio::time::timeout_at(patience.min(self.deadline), asking).await {
            Ok(answer) => answer,
            Err(_) if patience < self.deadline => Err(unanswered()),
            Err(_) => Err(Trouble::OutOfTime),
        };
        match &answer {
            Err(Trouble::Unavailable(_)) => {
                self.failed_in_a_row.fetch_add(1, Ordering::Relaxed);
            }
            Ok(_) => self.failed_in_a_row.store(0, Ordering::Relaxed),
            Err(_) => {}
        }
        answer
    }

    async fn attempt<T>(
        &self,
        url: &Url,
        read: &impl Fn(Vec<u8>) -> Result<T, &'static str>,
    ) -> Result<T, Trouble> {
        let not_before = *self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        if not_before >= self.deadline {
            return Err(Trouble::Held);
        }
        tokio::time::sleep_until(not_before).await;
        self.requests.fetch_add(1, Ordering::Relaxed);
        let request = self.provider.http.get(url.clone());
        let answer = request.header("xi-api-key", self.key.clone()).send().await;
        let mut answer = answer.map_err(unavailable)?;
        let status = answer.status();
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(Trouble::KeyRefused(status.as_u16()));
            }
            StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Trouble::Gone),
            status if status.is_server_error() || PASSING.contains(&status) => {
                self.hold(answer.headers());
                return Err(Trouble::Unavailable(format!("it answered {status}")));
            }
            status => return Err(Trouble::Refused(status.as_u16())),
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(unavailable)? {
            if body.len() + chunk.len() > MAX_BYTES {
                return Err(Trouble::Unreadable("too_large"));
            }
            body.extend_from_slice(&chunk);
        }
        read(body).map_err(Trouble::Unreadable)
    }

    /// Has all requests wait as long as an answer asks for.
    fn hold(&self, headers: &HeaderMap) {
        let wait = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let Some(wait) = wait.and_then(|wait| retry_after(wait, Timestamp::now())) else {
            return;
        };
        let until = Instant::now() + wait.min(LONGEST_HOLD);
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        *not_before = until.max(*not_before);
    }
}

/// `Retry-After`: seconds, or a date.
fn retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    if let Ok(seconds) = text.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = rfc2822::parse(text).ok()?.timestamp();
    Some(Duration::try_from(at.duration_since(now)).unwrap_or_default())
}

fn unanswered() -> Trouble {
    Trouble::Unavailable("it did not answer in time".to_owned())
}

/// Without the address: ids of conversations are in it.
fn unavailable(error: reqwest::Error) -> Trouble {
    let error = error.without_url();
    if error.is_timeout() {
        return unanswered();
    }
    let what = if error.is_connect() {
        "it can't be reached"
    } else {
        "the connection was lost"
    };
    tracing::debug!(%error, "a request to the provider failed");
    Trouble::Unavailable(what.to_owned())
}

fn read_json<T: for<'de> Deserialize<'de>>(body: Vec<u8>) -> Result<T, &'static str> {
    serde_json::from_slice(&body).map_err(|_| "not_what_is_documented")
}

/// <https://elevenlabs.io/docs/api-reference/agents/get>
#[derive(Deserialize)]
struct Agent {
    platform_settings: Option<PlatformSettings>,
}

#[derive(Deserialize)]
struct PlatformSettings {
    privacy: Option<Privacy>,
}

#[derive(Deserialize)]
struct Privacy {
    zero_retention_mode: Option<bool>,
}

/// <https://elevenlabs.io/docs/api-reference/webhooks/list>
#[derive(Deserialize)]
struct Webhooks {
    webhooks: Vec<Value>,
}

#[derive(Deserialize)]
struct Webhook {
    webhook_id: String,
    name: String,
    webhook_url: String,
    is_disabled: bool,
    is_auto_disabled: bool,
    most_recent_failure_error_code: Option<i64>,
    most_recent_failure_timestamp: Option<i64>,
}

impl Webhook {
    fn health(self) -> WebhookHealth {
        WebhookHealth {
            webhook_id: self.webhook_id,
            name: self.name,
            url: self.webhook_url,
            is_disabled: self.is_disabled || self.is_auto_disabled,
            failed_at: (self.most_recent_failure_timestamp)
                .and_then(|seconds| Timestamp::from_second(seconds).ok()),
            failed_with: self.most_recent_failure_error_code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_given_in_seconds_or_as_a_date() {
        let now: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        for (text, expected) in [
            ("0", Some(0)),
            (" 30 ", Some(30)),
            ("Sat, 21 Nov 2026 10:00:05 GMT", Some(5)),
            ("Sat, 21 Nov 2026 09:00:00 GMT", Some(0)),
            ("-1", None),
            ("soon", None),
            ("", None),
        ] {
            assert_eq!(
                retry_after(text, now),
                expected.map(Duration::from_secs),
                "{text:?}"
            );
        }
    }

    #[test]
    fn an_id_can_not_lead_to_another_address() {
        let provider = Provider::new("https://api.example/base/".parse().unwrap()).unwrap();
        let session = provider.session("key", Instant::now()).unwrap();
        for (id, expected) in [
            (
                "conv_1",
                "https://api.example/base/v1/convai/conversations/conv_1",
            ),
            (
                "a/b?c#d",
                "https://api.example/base/v1/convai/conversations/a%2Fb%3Fc%23d",
            ),
            ("..", "https://api.example/base/v1/convai/conversations"),
        ] {
            let url = session.url(["v1", "convai", "conversations", id]);
            assert_eq!(url.as_str().trim_end_matches('/'), expected);
        }
        assert!(provider.session("no\nheader", Instant::now()).is_none());
    }
}
