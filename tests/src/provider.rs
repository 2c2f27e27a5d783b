//! The provider's REST API, made up from its documented schema: what sync asks of it,
//! and how it can fail.
//!
//! <https://elevenlabs.io/docs/api-reference/conversations/list>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Response, Uri};
use futures_util::stream;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

/// The key that it accepts.
pub(crate) const KEY: &str = "sk_of_the_provider";

/// How a request fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It is answered with this status, and perhaps `Retry-After` in seconds.
    Status(u16, Option<u64>),
    /// The answer breaks off.
    Truncated,
    /// The answer is half of the JSON, as if it were whole.
    Malformed,
    /// There is no answer.
    Silence,
    /// The answer takes so long.
    Slow(Duration),
    /// The answer is about another conversation.
    About(&'static str),
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Which one it is, from 0 on.
    pub(crate) number: usize,
    pub(crate) path: String,
    pub(crate) at: Instant,
}

type Rule = Box<dyn Fn(&Asked) -> Option<Fault> + Send + Sync>;

/// A conversation as the provider has it.
#[derive(Debug, Clone)]
pub(crate) struct Conversation {
    pub(crate) id: String,
    pub(crate) agent_id: String,
    pub(crate) started_at: Timestamp,
    pub(crate) status: &'static str,
    pub(crate) outcome: &'static str,
    pub(crate) duration_seconds: u32,
    /// Ours, and the customer's.
    pub(crate) numbers: (String, String),
    /// Listed, but not there any more.
    pub(crate) is_gone: bool,
    /// Its transcript was deleted, and its numbers with it.
    pub(crate) is_deleted: bool,
}

impl Conversation {
    /// One that is over, inbound by phone, and went well.
    pub(crate) fn new(id: &str, agent_id: &str, started_at: &str) -> Self {
        Self {
            id: id.to_owned(),
            agent_id: agent_id.to_owned(),
            started_at: started_at.parse().unwrap(),
            status: "done",
            outcome: "success",
            duration_seconds: 60,
            numbers: ("+16125550142".to_owned(), "+16125550187".to_owned()),
            is_gone: false,
            is_deleted: false,
        }
    }

    pub(crate) fn with_status(self, status: &'static str) -> Self {
        Self { status, ..self }
    }

    fn entry(&self) -> Value {
        let mut entry = json!({
            "agent_id": self.agent_id, "agent_name": "Front desk", "conversation_id": self.id,
            "start_time_unix_secs": self.started_at.as_second(), "status": self.status,
            "call_duration_secs": self.duration_seconds, "message_count": 2,
            "call_successful": self.outcome, "direction": "inbound", "branch_id": null,
            "transcript_summary": null, "call_summary_title": null, "main_language": "en",
            "termination_reason": "Call ended by remote party", "rating": null,
            "something_new": { "nested": [1, 2, 3] },
        });
        if self.status != "done" {
            entry["call_successful"] = json!("unknown");
            entry["call_duration_secs"] = json!(0);
        }
        entry
    }

    /// What `GET …/{id}` answers, and what stands in `data` of its webhook.
    pub(crate) fn whole(&self) -> Value {
        let mut whole = json!({
            "agent_id": self.agent_id, "agent_name": "Front desk", "conversation_id": self.id,
            "status": self.status, "user_id": null, "has_audio": true, "new_to_us": ["x"],
            "transcript": [
                { "role": "agent", "message": "Hello!", "time_in_call_secs": 0, "tool_calls": [], "tool_results": [] },
                { "role": "user", "message": "I saw your letter.", "time_in_call_secs": 2, "tool_calls": null },
            ],
            "metadata": {
                "start_time_unix_secs": self.started_at.as_second(),
                "call_duration_secs": self.duration_seconds, "cost": 12, "main_language": "en",
                "deletion_settings": { "deletion_time_unix_secs": null, "delete_audio": false },
                "termination_reason": "Call ended by remote party", "feedback": { "likes": 0 },
                "phone_call": {
                    "type": "twilio", "direction": "inbound", "phone_number_id": "phnum_1",
                    "agent_number": self.numbers.0, "external_number": self.numbers.1,
                    "stream_sid": "MZ1", "call_sid": "CA1",
                },
            },
            "analysis": {
                "call_successful": self.outcome, "transcript_summary": "Somebody saw a letter.",
                "evaluation_criteria_results": {}, "data_collection_results": {},
            },
            "conversation_initiation_client_data": { "dynamic_variables": { "secret__token": "not for logs" } },
        });
        if self.status != "done" {
            whole["analysis"] = Value::Null;
        }
        if self.is_deleted {
            whole["transcript"] = json!([]);
            whole["metadata"]["phone_call"] = Value::Null;
            whole["metadata"]["deletion_settings"]["deleted_transcript_at_time_unix_secs"] =
                json!(self.started_at.as_second() + 3600);
        }
        whole
    }

    /// The body of its webhook, made at an instant.
    pub(crate) fn delivery(&self, made_at: &str) -> String {
        let made_at: Timestamp = made_at.parse().unwrap();
        json!({
            "type": "post_call_transcription", "event_timestamp": made_at.as_second(), "data": self.whole(),
        })
        .to_string()
    }
}

#[derive(Default)]
struct House {
    conversations: BTreeMap<String, Conversation>,
    zero_retention: BTreeSet<String>,
    /// What `GET /v1/workspace/webhooks` answers; `None`: the key may not ask.
    webhooks: Option<Value>,
    /// How many entries of a page come again on the next one.
    repeated_entries: usize,
    asked: Vec<Asked>,
}

struct Shared {
    house: Mutex<House>,
    rule: Mutex<Option<Rule>>,
}

/// A running provider.
pub(crate) struct Provider {
    shared: Arc<Shared>,
    url: String,
    task: AbortHandle,
}

impl Drop for Provider {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Provider {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            house: Mutex::default(),
            rule: Mutex::default(),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap_or_default() });
        Self {
            shared,
            url,
            task: task.abort_handle(),
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Has a conversation, in the place of one of that id.
    pub(crate) fn put(&self, conversation: Conversation) {
        let mut house = lock(&self.shared.house);
        house.conversations.insert(conversation.id.clone(), conversation);
    }

    /// Changes a conversation.
    pub(crate) fn change(&self, id: &str, change: impl FnOnce(&mut Conversation)) {
        change(lock(&self.shared.house).conversations.get_mut(id).unwrap());
    }

    pub(crate) fn set_zero_retention(&self, agent_id: &str) {
        lock(&self.shared.house)
            .zero_retention
            .insert(agent_id.to_owned());
    }

    pub(crate) fn set_webhooks(&self, webhooks: Value) {
        lock(&self.shared.house).webhooks = Some(webhooks);
    }

    pub(crate) fn repeat_entries(&self, count: usize) {
        lock(&self.shared.house).repeated_entries = count;
    }

    /// Asks `rule` about every request from now on.
    pub(crate) fn inject(&self, rule: impl Fn(&Asked) -> Option<Fault> + Send + Sync + 'static) {
        *lock(&self.shared.rule) = Some(Box::new(rule));
    }

    pub(crate) fn heal(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// What was asked since this was asked last.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut lock(&self.shared.house).asked)
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response<Body> {
    let asked = {
        let mut house = lock(&shared.house);
        let asked = Asked {
            number: house.asked.len(),
            path: uri.path().to_owned(),
            at: Instant::now(),
        };
        house.asked.push(asked.clone());
        asked
    };
    let fault = lock(&shared.rule).as_ref().and_then(|rule| rule(&asked));
    if headers.get("xi-api-key").is_none_or(|key| key != KEY) {
        return json_answer(
            401,
            &json!({ "detail": { "status": "invalid_api_key", "message": "Invalid API key" } }),
        );
    }
    let (status, body) = {
        let house = lock(&shared.house);
        house.answer(uri.path(), query.as_deref().unwrap_or_default())
    };
    let text = body.to_string();
    match fault {
        None => json_answer(status, &body),
        Some(Fault::Status(status, retry_after)) => {
            let mut answer = json_answer(status, &json!({ "detail": { "status": "system_busy" } }));
            if let Some(seconds) = retry_after {
                answer.headers_mut().insert("retry-after", seconds.into());
            }
            answer
        }
        Some(Fault::Truncated) => {
            let half = text[..text.len() / 2].to_owned();
            let broken = std::io::Error::other("cut");
            Response::new(Body::from_stream(stream::iter([Ok(half), Err(broken)])))
        }
        Some(Fault::Malformed) => Response::new(Body::from(text[..text.len() / 2].to_owned())),
        Some(Fault::Silence) => std::future::pending().await,
        Some(Fault::Slow(pause)) => {
            tokio::time::sleep(pause).await;
            json_answer(status, &body)
        }
        Some(Fault::About(other)) => {
            let body = lock(&shared.house).conversations[other].whole();
            json_answer(200, &body)
        }
    }
}

fn json_answer(status: u16, body: &Value) -> Response<Body> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Body::from(body.to_string()))
        .unwrap()
}

fn not_found() -> (u16, Value) {
    (404, json!({ "detail": { "status": "not_found" } }))
}

impl House {
    fn answer(&self, path: &str, query: &str) -> (u16, Value) {
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        match segments.as_slice() {
            ["v1", "convai", "conversations"] => self.list(query),
            ["v1", "convai", "conversations", id] => match self.conversations.get(*id) {
                Some(conversation) if !conversation.is_gone => (200, conversation.whole()),
                _ => not_found(),
            },
            ["v1", "convai", "agents", id] => {
                let privacy = json!({ "record_voice": true, "retention_days": -1, "zero_retention_mode": self.zero_retention.contains(*id) });
                (
                    200,
                    json!({ "agent_id": id, "name": "Front desk", "platform_settings": { "privacy": privacy } }),
                )
            }
            ["v1", "workspace", "webhooks"] => match &self.webhooks {
                Some(webhooks) => (200, json!({ "webhooks": webhooks })),
                None => (403, json!({ "detail": { "status": "missing_permissions" } })),
            },
            _ => not_found(),
        }
    }

    /// Both bounds are left out, the strictest reading of what is documented.
    fn list(&self, query: &str) -> (u16, Value) {
        let parameters: BTreeMap<&str, &str> =
            query.split('&').filter_map(|pair| pair.split_once('=')).collect();
        let number = |name: &str| parameters.get(name).map(|text| text.parse::<i64>().unwrap());
        let size = number("page_size").unwrap_or(30);
        if !(1..=100).contains(&size) {
            return (422, json!({ "detail": [{ "loc": ["query", "page_size"] }] }));
        }
        let size = usize::try_from(size).unwrap();
        let is_in = |conversation: &&Conversation| {
            let start = conversation.started_at.as_second();
            number("call_start_after_unix").is_none_or(|after| start > after)
                && number("call_start_before_unix").is_none_or(|before| start < before)
        };
        let mut found: Vec<&Conversation> = self.conversations.values().filter(is_in).collect();
        found.sort_by_key(|conversation| (std::cmp::Reverse(conversation.started_at), &conversation.id));
        let begin: usize = parameters
            .get("cursor")
            .map_or(0, |cursor| cursor.parse().unwrap());
        let page = found.iter().skip(begin).take(size);
        let entries: Vec<Value> = page.map(|conversation| conversation.entry()).collect();
        let end = begin + entries.len();
        let has_more = end < found.len();
        let next = has_more.then(|| (end - self.repeated_entries.min(size - 1)).to_string());
        (
            200,
            json!({ "conversations": entries, "next_cursor": next, "has_more": has_more }),
        )
    }
}
