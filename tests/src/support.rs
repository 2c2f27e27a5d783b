//! A running system and the few moves that stories are made of.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};
use local::dynamodb::DynamoDb;
use local::sender::{SIGNATURE_HEADER, WEBHOOK_PATH, signature};
use local::template::{Route, Template};
use local::{DEFAULT_WEBHOOK_SECRET, Options, Stack, issuer, workspace};
use reqwest::header::HeaderMap;
use reqwest::{Client, Method, redirect};
use serde_json::{Value, json};

use crate::documenting;

/// A stack of its own for one test, and a client.
pub(crate) struct World {
    pub(crate) stack: Stack,
    pub(crate) client: Client,
    /// Whatever was said in this story that no log may repeat.
    confided: Mutex<BTreeSet<String>>,
}

/// A test that fails shows what the functions had to say; one that does not
/// looks whether they said too much.
impl Drop for World {
    fn drop(&mut self) {
        let lines = self.stack.logs().lines();
        if std::thread::panicking() {
            for line in lines {
                eprintln!("{line}");
            }
            return;
        }
        let mut confided = self.confided.lock().unwrap_or_else(PoisonError::into_inner);
        confided.extend(self.stack.secrets().values());
        confided.extend(self.stack.issuer().confided());
        for word in confided.iter().filter(|word| word.len() >= 8) {
            // As it is, and as a log line in JSON would have it.
            let quoted = json!(word).to_string();
            for line in &lines {
                let told = line.contains(word) || line.contains(quoted.trim_matches('"'));
                assert!(!told, "{word:?} is in a log: {line}");
            }
        }
    }
}

/// What a body says in confidence: phone numbers, what was spoken and what was
/// summed up of it, secret variables.
fn confidences(key: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| confidences(key, item, found)),
        // The account and the times of a token are no secrets and no phone numbers.
        Value::Object(fields) => fields
            .iter()
            .filter(|(key, _)| !["account", "accountId", "iat", "exp"].contains(&key.as_str()))
            .for_each(|(key, value)| confidences(key, value, found)),
        Value::String(text) => {
            let digits = text.trim_start_matches('+');
            let is_number = digits.len() >= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let is_spoken = key == "message" || key.contains("summary") || key.starts_with("secret__");
            if is_number {
                found.insert(digits.to_owned());
            } else if is_spoken {
                found.insert(text.clone());
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// The JSON of an answer that must have this status.
    pub(crate) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and code of an error of ours, whose form is checked.
    pub(crate) fn error(&self) -> (u16, String) {
        let json = self.json();
        let error = &json["error"];
        assert!(!error["message"].as_str().unwrap().is_empty());
        assert_eq!(error["request_id"], self.header("x-request-id"));
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(Options::default()).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let stack = Stack::start_with(options).await.unwrap();
        let client = client_from([127, 0, 0, 1].into());
        Self {
            stack,
            client,
            confided: Mutex::default(),
        }
    }

    /// Ends the story, once all that was written is in the logs.
    pub(crate) async fn end(self) {
        self.stack.read_out_logs().await;
    }

    /// Has the end of the story look for this in the logs, too.
    pub(crate) fn confide(&self, text: &str) {
        let mut confided = self.confided.lock().unwrap_or_else(PoisonError::into_inner);
        confided.insert(text.to_owned());
    }

    /// An access token of a script, as of now.
    pub(crate) fn token(&self, scopes: &[&str]) -> String {
        let issuer = self.stack.issuer();
        issuer.sign(&issuer.access_claims(scopes)).unwrap()
    }

    /// Posts a body to the webhook with these headers.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        self.request(Method::POST, WEBHOOK_PATH, headers, body).await
    }

    /// Posts a body as the provider does: signed now, with the right secret.
    pub(crate) async fn deliver(&self, body: impl Into<Vec<u8>>) -> Answer {
        let body = body.into();
        let signature = self.sign(&body);
        self.post(
            &[
                ("content-type", "application/json"),
                (SIGNATURE_HEADER, &signature),
            ],
            body,
        )
        .await
    }

    /// Delivers a body that must be answered 200, and gives the result.
    pub(crate) async fn deliver_ok(&self, body: impl Into<Vec<u8>>) -> String {
        let answer = self.deliver(body).await.expect(200);
        assert_eq!(answer["success"], true);
        answer["result"].as_str().unwrap().to_owned()
    }

    pub(crate) fn sign(&self, body: &[u8]) -> String {
        signature(DEFAULT_WEBHOOK_SECRET, self.stack.clock().now(), body)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], "").await
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.request(method, path, &headers, body.to_string()).await
    }

    /// A request to a path; to the API with the token of a script that may do
    /// everything.
    pub(crate) async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let bearer = format!("Bearer {}", self.token(&[issuer::READ, issuer::WRITE]));
        let mut headers = headers.to_vec();
        if path.starts_with("/api/") && path != WEBHOOK_PATH {
            headers.push(("authorization", &bearer));
        }
        self.bare_request(method, path, &headers, body).await
    }

    /// A request with these headers and no others.
    pub(crate) async fn bare_request(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let body = body.into();
        for (name, value) in headers {
            if ["authorization", "cookie", SIGNATURE_HEADER].contains(name) {
                self.confide(value.trim_start_matches("Bearer "));
            }
        }
        {
            let mut confided = self.confided.lock().unwrap_or_else(PoisonError::into_inner);
            match serde_json::from_slice(&body) {
                Ok(json) => confidences("", &json, &mut confided),
                // Lists of contacts, and what is not understood: any phone number in it.
                Err(_) => confided.extend(
                    String::from_utf8_lossy(&body)
                        .split(|character: char| !character.is_ascii_digit())
                        .filter(|digits| (10..=15).contains(&digits.len()))
                        .map(str::to_owned),
                ),
            }
        }
        let url = format!("{}{path}", self.stack.url());
        let answer = request(&self.client, method.clone(), &url, headers, body).await;
        if path.starts_with("/api/") && !path.starts_with(documenting::PATH) {
            let document = documenting::document(self).await;
            documenting::expect_documented(document, &method, path, &answer);
        }
        answer
    }

    /// Every call, over all pages.
    pub(crate) async fn calls(&self, query: &str) -> Vec<Value> {
        self.walk("/api/calls", "calls", query).await
    }

    /// Every entry of the delivery log, the newest first.
    pub(crate) async fn deliveries(&self) -> Vec<Value> {
        self.walk_deliveries(100).await
    }

    /// As [`deliveries`](Self::deliveries), in pages of this size.
    pub(crate) async fn walk_deliveries(&self, limit: usize) -> Vec<Value> {
        self.walk("/api/deliveries", "deliveries", &format!("limit={limit}"))
            .await
    }

    /// Every entry of a list, over all pages.
    pub(crate) async fn walk(&self, path: &str, things: &str, query: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("{path}?{query}{cursor}")).await.expect(200);
            all.extend(page[things].as_array().unwrap().iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return all,
            }
        }
    }

    pub(crate) async fn call(&self, id: &str) -> Value {
        self.get(&format!("/api/calls/{id}")).await.expect(200)
    }

    /// Makes a campaign and gives its id.
    pub(crate) async fn campaign(&self, name: &str) -> String {
        let campaign = self
            .send(Method::POST, "/api/campaigns", &json!({ "name": name }))
            .await;
        campaign.expect(201)["id"].as_str().unwrap().to_owned()
    }

    /// Gives a number to a campaign.
    pub(crate) async fn assign(&self, campaign: &str, number: &str, assignment: &Value) -> Answer {
        self.confide(number.trim_start_matches('+'));
        let number = number.replace('+', "%2B");
        let path = format!("/api/campaigns/{campaign}/numbers/{number}");
        self.send(Method::PUT, &path, assignment).await
    }

    /// A request straight to the store, past every function.
    pub(crate) async fn ask_store(&self, operation: &str, body: &Value) -> Value {
        ask_store(self.stack.dynamodb(), operation, body).await
    }

    /// A raw event into one function, and its answer as the function gave it.
    pub(crate) async fn invoke(&self, function: &str, event: &Value) -> Value {
        let path = format!("/2015-03-31/functions/{function}/invocations");
        self.request(Method::POST, &path, &[], event.to_string())
            .await
            .json()
    }
}

/// A request of the account's owner to a store.
pub(crate) async fn ask_store(store: &DynamoDb, operation: &str, body: &Value) -> Value {
    let target = format!("DynamoDB_20120810.{operation}");
    let credential = "test/20261122/eu-west-1/dynamodb/aws4_request";
    let authorization = format!("AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature=0");
    let headers = [
        ("x-amz-target", target.as_str()),
        ("content-type", "application/x-amz-json-1.0"),
        ("authorization", authorization.as_str()),
        ("x-amz-date", "20261122T100000Z"),
    ];
    let client = client_from([127, 0, 0, 1].into());
    request(&client, Method::POST, store.url(), &headers, body.to_string())
        .await
        .expect(200)
}

pub(crate) async fn request(
    client: &Client,
    method: Method,
    url: &str,
    headers: &[(&str, &str)],
    body: impl Into<Vec<u8>>,
) -> Answer {
    let mut request = client.request(method, url).body(body.into());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    Answer {
        status: response.status().as_u16(),
        headers: response.headers().clone(),
        body: response.bytes().await.unwrap().to_vec(),
    }
}

/// A client that connects from an address of this machine, and goes nowhere by itself.
pub(crate) fn client_from(address: IpAddr) -> Client {
    Client::builder()
        .no_proxy()
        .local_address(address)
        .redirect(redirect::Policy::none())
        .build()
        .unwrap()
}

/// The template as the local stack reads it, with an issuer that is nowhere.
pub(crate) fn template() -> Template {
    let parameters = [("OidcIssuer", "https://id.example"), ("OidcAudience", "script")];
    let parameters = parameters.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Template::read(&workspace().join("template.yaml"), &parameters.into()).unwrap()
}

/// Options for a stack of the template with a text of it replaced.
pub(crate) fn with_template(name: &str, text: &str, other: &str) -> Options {
    let template = std::fs::read_to_string(workspace().join("template.yaml")).unwrap();
    assert!(template.contains(text), "{text}");
    let folder = workspace().join("target/templates");
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!("{name}.yaml"));
    std::fs::write(&path, template.replace(text, other)).unwrap();
    Options {
        template: path,
        ..Options::default()
    }
}

/// Some path of a route.
pub(crate) fn path_of(route: &Route) -> String {
    let path = route.path.replace("{id}", "x").replace("{number}", "1001");
    let path = path.replace("{agent_id}", "agent_1");
    path.replace("{name}", "console.css")
}

/// A file of `events/`.
pub(crate) fn event(path: &str) -> Vec<u8> {
    let path = workspace().join("events").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A file of `events/`, as JSON.
pub(crate) fn event_json(path: &str) -> Value {
    serde_json::from_slice(&event(path)).unwrap()
}

/// A short inbound phone call, to be changed as the story needs it.
pub(crate) fn phone_call(id: &str, started_at: &str, event_at: &str) -> Value {
    let seconds = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    json!({
        "type": "post_call_transcription",
        "event_timestamp": seconds(event_at),
        "data": {
            "agent_id": "agent_1",
            "conversation_id": id,
            "status": "done",
            "transcript": [{ "role": "user", "message": "Hello", "time_in_call_secs": 0 }],
            "metadata": {
                "start_time_unix_secs": seconds(started_at),
                "call_duration_secs": 60,
                "phone_call": {
                    "type": "twilio",
                    "direction": "inbound",
                    "agent_number": "+16125550142",
                    "external_number": "+16125550187",
                },
            },
            "analysis": { "call_successful": "success", "transcript_summary": "Said hello." },
        },
    })
}

/// Whether the long sizes are to be run: `RINGMARK_TEST_SIZE=full`.
pub(crate) fn full_size() -> bool {
    std::env::var("RINGMARK_TEST_SIZE").is_ok_and(|size| size == "full")
}

/// Delivers calls `conv_0000` and so on, a minute apart, several at a time.
pub(crate) async fn deliver_many(world: &World, count: usize) {
    let start = "2026-11-01T00:00:00Z".parse::<Timestamp>().unwrap();
    for chunk in (0..count).collect::<Vec<_>>().chunks(8) {
        let deliveries = chunk.iter().map(|index| {
            let at = start + SignedDuration::from_mins(i64::try_from(*index).unwrap());
            let body = phone_call(&format!("conv_{index:04}"), &at.to_string(), &at.to_string());
            world.deliver_ok(body.to_string())
        });
        for result in futures_util::future::join_all(deliveries).await {
            assert_eq!(result, "stored");
        }
    }
}
