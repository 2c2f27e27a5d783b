//! Examines a stack from outside, wherever it runs: posts deliveries at it as the
//! provider, a careless proxy and a forger would, and says what works, what does not,
//! and what is open that should not be.
//!
//! It leaves one call behind, always the same, and some entries in the delivery log.
//! With a key of the provider it also looks whether the webhook there is in order.
//!
//! <https://elevenlabs.io/docs/eleven-api/resources/webhooks>

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, Method, Url, redirect};
use serde_json::{Value, json};

mod provider;

pub use provider::Provider;

use crate::sender::{SIGNATURE_HEADER, WEBHOOK_PATH, signature};

/// The age of a signature on the last attempt of the sender, and somewhat more.
const LAST_ATTEMPT: SignedDuration = SignedDuration::from_mins(50);
/// The age of a signature that must not count any more.
const TOO_OLD: SignedDuration = SignedDuration::from_hours(3);
/// The time from now of a signature that must not count yet.
const TOO_EARLY: SignedDuration = SignedDuration::from_hours(1);
/// What the sender may be kept waiting; there is an alarm at this figure.
const PROMPT: Duration = Duration::from_millis(500);
/// About as large as a delivery can be: Lambda takes 6 MB with all quotes escaped.
const LARGE_BYTES: usize = 4_500_000;
/// An address of nobody, which a forger claims to have (RFC 5737).
const FORGED_ADDRESS: &str = "203.0.113.99";
/// The sender gives up on a webhook that had no success for so long.
const DAYS_UNTIL_SWITCHED_OFF: i64 = 7;

/// What is examined.
#[derive(Debug, Clone)]
pub struct Patient {
    /// The base URL of the stack.
    pub url: String,
    /// The webhook's signing secret.
    pub secret: String,
    /// A bearer token of the API, to look into the delivery log.
    pub token: Option<String>,
    /// The provider, to look how the webhook is set up there.
    pub provider: Option<Provider>,
}

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Could not be found out.
    Unknown,
    /// To be mended.
    Bad,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it came out.
    pub verdict: Verdict,
    /// What was seen, and how to mend it.
    pub says: String,
}

impl Finding {
    fn good(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Good, says)
    }

    fn unknown(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Unknown, says)
    }

    fn bad(check: &'static str, says: impl Into<String>) -> Self {
        Self::new(check, Verdict::Bad, says)
    }

    fn new(check: &'static str, verdict: Verdict, says: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            says: says.into(),
        }
    }
}

/// Examines it, check by check.
///
/// # Errors
/// When nothing answers at the URL.
pub async fn examine(patient: &Patient) -> Result<Vec<Finding>> {
    let client = Client::builder()
        .timeout(Duration::from_secs(40))
        .redirect(redirect::Policy::none())
        .build()?;
    let visit = Visit { patient, client };
    let mut findings = vec![visit.encryption(), visit.address().await?];
    if findings
        .iter()
        .any(|finding| finding.check == ADDRESS && finding.verdict == Verdict::Bad)
    {
        return Ok(findings);
    }
    let mut parts = vec![
        visit.deliveries().await,
        visit.refusals().await,
        visit.closed_routes().await,
        visit.console().await,
    ];
    if let Some(token) = &patient.token {
        parts.push(visit.log(token).await);
        parts.push(visit.sync(token).await);
    }
    for part in parts {
        // What breaks off says so, and spoils nothing of the rest.
        let broken = |error| vec![Finding::bad("every request is answered", format!("{error:#}"))];
        findings.extend(part.unwrap_or_else(broken));
    }
    if let Some(provider) = &patient.provider {
        let address = format!("{}{WEBHOOK_PATH}", patient.url);
        findings.extend(provider::examine(&visit.client, provider, &address).await);
    }
    Ok(findings)
}

const ADDRESS: &str = "the webhook is at this address";

struct Visit<'a> {
    patient: &'a Patient,
    client: Client,
}

/// What came back.
struct Answer {
    status: u16,
    /// The code of an error of ours, or what the gateway says.
    code: String,
    body: Value,
    took: Duration,
}

impl Visit<'_> {
    async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<Answer> {
        let url = format!("{}{path}", self.patient.url);
        let mut request = self.client.request(method, &url).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let began = Instant::now();
        let response = request.send().await.with_context(|| format!("asking {url}"))?;
        let status = response.status().as_u16();
        let location = response
            .headers()
            .get("location")
            .and_then(|value| value.to_str().ok());
        let location = location.map(str::to_owned);
        let body: Value = serde_json::from_slice(&response.bytes().await?).unwrap_or_default();
        let code = [&body["error"]["code"], &body["message"]]
            .into_iter()
            .find_map(Value::as_str);
        let code = code.map(str::to_owned).or(location).unwrap_or_default();
        Ok(Answer {
            status,
            code,
            body,
            took: began.elapsed(),
        })
    }

    async fn post(&self, headers: &[(&str, &str)], body: Vec<u8>) -> Result<Answer> {
        let mut all = vec![("content-type", "application/json")];
        all.extend(headers);
        self.send(Method::POST, WEBHOOK_PATH, &all, body).await
    }

    async fn post_signed(&self, signed_at: Timestamp, body: Vec<u8>) -> Result<Answer> {
        let signature = signature(&self.patient.secret, signed_at, &body);
        self.post(&[(SIGNATURE_HEADER, &signature)], body).await
    }

    // ------------------------------------------------------------- the way in

    fn encryption(&self) -> Finding {
        const CHECK: &str = "the way there is encrypted";
        let url = &self.patient.url;
        let is_local = Url::parse(url).is_ok_and(|url| {
            let host = url.host_str().unwrap_or_default();
            let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
            host == "localhost" || address.is_ok_and(|address| address.is_loopback())
        });
        if url.starts_with("https://") {
            Finding::good(CHECK, "https")
        } else if is_local {
            Finding::good(CHECK, "it does not leave this machine")
        } else {
            Finding::bad(
                CHECK,
                "use https: ElevenLabs delivers to nothing else, and tokens would travel in the open",
            )
        }
    }

    async fn address(&self) -> Result<Finding> {
        let answer = self.send(Method::GET, WEBHOOK_PATH, &[], Vec::new()).await?;
        Ok(if answer.status == 200 && answer.body["success"] == true {
            Finding::good(ADDRESS, format!("{}{WEBHOOK_PATH}", self.patient.url))
        } else {
            let says = "give the API's base URL, the WebhookUrl of the stack's outputs without its path";
            Finding::bad(
                ADDRESS,
                format!("{} answered {}: {says}", self.patient.url, answer.status),
            )
        })
    }

    // ------------------------------------------------- what must be taken in

    async fn deliveries(&self) -> Result<Vec<Finding>> {
        let now = Timestamp::now();
        let stored = self.post_signed(now, call()).await?;
        let mut findings = vec![taken(
            "a signed call is stored",
            &stored,
            &["stored", "duplicate"],
        )];
        if findings[0].verdict == Verdict::Bad {
            // Whatever is wrong here is wrong with all that follows.
            return Ok(findings);
        }
        let again = self.post_signed(now, call()).await?;
        findings.push(taken(
            "the same call again is a duplicate",
            &again,
            &["duplicate"],
        ));
        findings.push(if again.took <= PROMPT {
            Finding::good(IN_TIME, format!("{} ms", again.took.as_millis()))
        } else {
            let says =
                "over half a second: look at the function's memory, its cold starts and your distance to it";
            Finding::unknown(IN_TIME, format!("{} ms, {says}", again.took.as_millis()))
        });
        let late = self.post_signed(now - LAST_ATTEMPT, audio(0)).await?;
        findings.push(taken(
            "the sender's last attempt, 50 minutes later, still counts",
            &late,
            &["ignored"],
        ));
        let large = self.post_signed(now, audio(LARGE_BYTES)).await?;
        findings.push(taken("a delivery of 4.5 MB is taken", &large, &["ignored"]));
        let malformed = self.post_signed(now, b"{\"type\":".to_vec()).await?;
        let check = "a signed body that is not understood is kept, and raises the alarm for that";
        findings.push(taken(check, &malformed, &["unparsed"]));
        Ok(findings)
    }

    // ------------------------------------------------- what must be refused

    async fn refusals(&self) -> Result<Vec<Finding>> {
        let now = Timestamp::now();
        let secret = &self.patient.secret;
        let signed = |secret: &str, at: Timestamp, body: &[u8]| signature(secret, at, body);
        let mut findings = Vec::new();
        for (check, signature, reason, mend) in [
            (
                "an unsigned delivery is refused",
                None,
                "missing_signature",
                "set AllowUnsignedDeliveries to false: anyone can write calls",
            ),
            (
                "a changed body is refused",
                Some(signed(secret, now, &call())),
                "invalid_signature",
                "nothing but a proxy that signs anew explains that: deliver to the stack itself",
            ),
            (
                "a signature with another secret is refused",
                Some(signed(&format!("not {secret}"), now, &audio(0))),
                "invalid_signature",
                "look for a proxy that signs anew: deliver to the stack itself",
            ),
            (
                "an old signature is refused",
                Some(signed(secret, now - TOO_OLD, &audio(0))),
                "stale_signature",
                "set SignatureMaxAgeSeconds to 3600: a recorded delivery can be repeated for hours",
            ),
            (
                "a signature from the future is refused",
                Some(signed(secret, now + TOO_EARLY, &audio(0))),
                "stale_signature",
                "look at the clock of whatever stands before the stack",
            ),
        ] {
            let headers: Vec<_> = signature
                .iter()
                .map(|value| (SIGNATURE_HEADER, value.as_str()))
                .collect();
            let answer = self.post(&headers, audio(0)).await?;
            findings.push(refused(check, &answer, reason, mend));
        }
        let signature = signed(secret, now, &audio(0));
        for (check, method, content_type, reason) in [
            (
                "another method is refused",
                Method::PUT,
                "application/json",
                "method_not_allowed",
            ),
            (
                "another content type is refused",
                Method::POST,
                "text/plain",
                "unsupported_media_type",
            ),
        ] {
            let headers = [
                ("content-type", content_type),
                (SIGNATURE_HEADER, signature.as_str()),
            ];
            let answer = self.send(method, WEBHOOK_PATH, &headers, audio(0)).await?;
            let mend = "deliver to the stack itself, not through a proxy that changes requests";
            findings.push(refused(check, &answer, reason, mend));
        }
        Ok(findings)
    }

    // ----------------------------------------------- what must not be open

    /// Every route of the served document that is to be closed, without a token.
    async fn closed_routes(&self) -> Result<Vec<Finding>> {
        const CHECK: &str = "the API is closed to those without a token";
        let document = self
            .send(Method::GET, "/api/openapi.json", &[], Vec::new())
            .await?;
        let paths = document.body["paths"].as_object();
        let Some(paths) = paths.filter(|_| document.status == 200) else {
            let says = "GET /api/openapi.json does not answer: deploy the whole of template.yaml";
            return Ok(vec![Finding::bad(CHECK, says)]);
        };
        let (mut open, mut absent, mut asked) = (Vec::new(), Vec::new(), 0);
        for (path, operations) in paths {
            for (method, operation) in operations.as_object().into_iter().flatten() {
                let Ok(method) = method.to_uppercase().parse::<Method>() else {
                    continue;
                };
                let is_open = operation["security"].as_array().is_some_and(Vec::is_empty);
                if is_open || path == WEBHOOK_PATH || !operation.is_object() {
                    continue;
                }
                asked += 1;
                let target = path.replace(['{', '}'], "~");
                let headers = [("content-type", "application/json")];
                let answer = self
                    .send(method.clone(), &target, &headers, b"{}".to_vec())
                    .await?;
                match (answer.status, answer.body["error"].is_object()) {
                    (401, false) => {}
                    (404, false) => absent.push(format!("{method} {path}")),
                    _ => open.push(format!("{method} {path}")),
                }
            }
        }
        let mut findings = Vec::new();
        findings.push(if open.is_empty() {
            Finding::good(CHECK, format!("{asked} routes"))
        } else {
            let says = "the gateway lets requests through: mend Auth of these routes, and deploy";
            Finding::bad(CHECK, format!("{says}: {}", open.join(", ")))
        });
        if !absent.is_empty() {
            let says = "not deployed, though the document names them";
            findings.push(Finding::bad(
                "every route is there",
                format!("{says}: {}", absent.join(", ")),
            ));
        }
        Ok(findings)
    }

    async fn console(&self) -> Result<Vec<Finding>> {
        const CHECK: &str = "the console asks to sign in";
        let headers = [("accept", "text/html")];
        let answer = self.send(Method::GET, "/", &headers, Vec::new()).await?;
        let finding = match answer.status {
            303 if answer.code == "/sign-in" => Finding::good(CHECK, "it does"),
            200 => Finding::bad(
                CHECK,
                "it shows its pages to anyone: look for a proxy that adds a session",
            ),
            status => Finding::unknown(CHECK, format!("it answered {status} {}", answer.code)),
        };
        Ok(vec![finding])
    }

    // --------------------------------------------------------- with a token

    async fn log(&self, token: &str) -> Result<Vec<Finding>> {
        const CHECK: &str = "the delivery log tells what came";
        let bearer = format!("Bearer {token}");
        // A body of its own, to be known by its size.
        let marked = audio(usize::try_from(Timestamp::now().as_millisecond() % 50_000)?);
        let bytes = marked.len();
        let claims: Vec<_> = [
            "x-forwarded-for",
            "x-real-ip",
            "x-vercel-forwarded-for",
            "cf-connecting-ip",
        ]
        .map(|name| (name, FORGED_ADDRESS))
        .to_vec();
        let refused = self.post(&claims, marked).await?;
        if refused.status == 429 {
            let says =
                "too many refusals within a minute are no longer written: wait a minute and look again";
            return Ok(vec![Finding::unknown(CHECK, says)]);
        }
        let answer = self
            .send(
                Method::GET,
                "/api/deliveries?limit=50",
                &[("authorization", &bearer)],
                Vec::new(),
            )
            .await?;
        if answer.status != 200 {
            let says = "get a fresh access token with the scope ringmark/read";
            return Ok(vec![Finding::bad(
                CHECK,
                format!("{} {}: {says}", answer.status, answer.code),
            )]);
        }
        let entries = answer.body["deliveries"].as_array().into_iter().flatten();
        let mut own = entries.filter(|entry| entry["bytes"] == bytes);
        let Some(entry) = own.next() else {
            let says = "a delivery of a moment ago is not in it: look for errors in the webhook's logs";
            return Ok(vec![Finding::bad(CHECK, says)]);
        };
        let forged = entry["client_ip"] == FORGED_ADDRESS;
        Ok(vec![
            Finding::good(CHECK, "a refused delivery is there"),
            if forged {
                let says = "whoever asks can claim any: TrustedProxies must name your own proxies only";
                Finding::bad(CLAIMS, says)
            } else {
                Finding::good(
                    CLAIMS,
                    format!("you are {}", entry["client_ip"].as_str().unwrap_or_default()),
                )
            },
            self.last_success(&bearer).await?,
        ])
    }

    /// What sync itself says.
    async fn sync(&self, token: &str) -> Result<Vec<Finding>> {
        const CHECK: &str = "sync finds what never arrived";
        let bearer = format!("Bearer {token}");
        let headers = [("authorization", bearer.as_str())];
        let answer = self.send(Method::GET, "/api/sync", &headers, Vec::new()).await?;
        if answer.status != 200 {
            let says = format!("{} {}", answer.status, answer.code);
            return Ok(vec![Finding::unknown(CHECK, says)]);
        }
        let rows = answer.body["ledger"].as_array().into_iter().flatten();
        let missing: u64 = rows.filter_map(|row| row["missing"].as_u64()).sum();
        let run = &answer.body["last_run"];
        let until = answer.body["compared_until"].as_str();
        let mut findings = vec![match (&run["errors"][0]["message"], until) {
            _ if answer.body["configured"] != true => {
                let says = "there is no API key: store one in the secret ElevenLabsApiKey";
                Finding::unknown(CHECK, says)
            }
            (Value::String(error), _) => Finding::bad(CHECK, error.clone()),
            _ if missing > 0 => {
                let says = "of the calls that ElevenLabs lists are not here: GET /api/sync tells which days";
                Finding::bad(CHECK, format!("{missing} {says}"))
            }
            (_, Some(until)) if is_long_ago(until) => {
                let says =
                    "since then nothing was compared whole: look at the function's logs and at its schedule";
                Finding::bad(CHECK, format!("the last time was {until}, {says}"))
            }
            (_, Some(until)) => Finding::good(CHECK, format!("nothing was missing at {until}")),
            (_, None) => Finding::unknown(CHECK, "no run has come to its end yet"),
        }];
        if let Some(since) = answer.body["sync_only_since"].as_str() {
            let says = "see that the webhook is enabled, leads here, and has the event transcript";
            findings.push(Finding::bad(
                "calls come by webhook",
                format!("since {since} they come by sync only: {says}"),
            ));
        }
        Ok(findings)
    }

    /// How far the sender is from giving up: it switches a webhook off after ten
    /// failures in a row, once the last success is more than seven days ago. Of the
    /// last success only our log tells.
    async fn last_success(&self, bearer: &str) -> Result<Finding> {
        const CHECK: &str = "the sender will not switch the webhook off";
        let path = "/api/deliveries?status=200&limit=100";
        let answer = self
            .send(Method::GET, path, &[("authorization", bearer)], Vec::new())
            .await?;
        let entries = answer.body["deliveries"].as_array().into_iter().flatten();
        // What we or a replay brought proves nothing about the sender.
        let foreign = entries.filter(|entry| {
            let id = entry["conversation_id"].as_str().unwrap_or_default();
            let is_replay = entry["reason"]
                .as_str()
                .is_some_and(|reason| reason.starts_with("replay of "));
            entry["result"] != "unparsed" && !id.starts_with(OWN) && !is_replay
        });
        let times = foreign.filter_map(|entry| entry["received_at"].as_str()?.parse::<Timestamp>().ok());
        let Some(last) = times.max() else {
            let says = "no delivery of the sender is among the last hundred accepted ones: make a call and look again";
            return Ok(Finding::unknown(CHECK, says));
        };
        let off = last + SignedDuration::from_hours(24 * DAYS_UNTIL_SWITCHED_OFF);
        let says = format!("last success {last}; ten failures in a row could switch it off from {off} on");
        Ok(if off > Timestamp::now() {
            Finding::good(CHECK, says)
        } else {
            Finding::unknown(
                CHECK,
                format!("{says}: see that every one of the next deliveries succeeds"),
            )
        })
    }
}

/// Whether it is over six hours ago, as in the alarm.
fn is_long_ago(until: &str) -> bool {
    let until: Option<Timestamp> = until.parse().ok();
    until.is_none_or(|until| Timestamp::now().duration_since(until) > SignedDuration::from_hours(6))
}

const IN_TIME: &str = "it answers in time";
const CLAIMS: &str = "nobody is believed about his own address";

/// What is to be said of a delivery that must be taken, with one of these results.
fn taken(check: &'static str, answer: &Answer, results: &[&str]) -> Finding {
    let result = answer.body["result"].as_str().unwrap_or_default();
    if answer.status == 200 && results.contains(&result) {
        return Finding::good(check, result);
    }
    let mend = match (answer.status, answer.code.as_str()) {
        (401, "invalid_signature") => "the secret that you gave is not the one that is stored",
        (401, "stale_signature") => "set SignatureMaxAgeSeconds to 3600, and look at your clock",
        (403, _) => {
            "your address is not in ElevenLabsWebhookIpWhitelist: come from one that is, and see that all of the \
             sender's are there"
        }
        (413, _) => "something before the stack takes no large bodies",
        (503, "not_configured") => "store the webhook's signing secret",
        (500.., _) => "look at the webhook's logs for why",
        _ => "look at the delivery log for why",
    };
    Finding::bad(
        check,
        format!("{} {}{result}: {mend}", answer.status, answer.code),
    )
}

/// What is to be said of a request that must be refused for this reason.
fn refused(check: &'static str, answer: &Answer, reason: &str, mend: &str) -> Finding {
    let seen = format!("{} {}", answer.status, answer.code);
    match answer.status {
        200..300 => Finding::bad(check, format!("it is accepted: {mend}")),
        _ if answer.code == reason => Finding::good(check, seen),
        400..500 | 503 => Finding::unknown(check, format!("{seen}: it is refused, but not as {reason}")),
        _ => Finding::bad(check, format!("{seen}: {mend}")),
    }
}

// ------------------------------------------------------------ what is posted

/// What ids of conversations begin with that checks make up.
const OWN: &str = "conv_ringmark_";
const CONVERSATION: &str = "conv_ringmark_doctor";

/// The one call that stays: web, without a number, at the beginning of 2026.
fn call() -> Vec<u8> {
    let body = json!({
        "type": "post_call_transcription",
        "event_timestamp": 1_767_225_600,
        "data": {
            "agent_id": "ringmark_doctor",
            "agent_name": "Ringmark doctor",
            "conversation_id": CONVERSATION,
            "status": "done",
            "transcript": [{ "role": "agent", "message": "This is a check of the webhook.", "time_in_call_secs": 0 }],
            "metadata": { "start_time_unix_secs": 1_767_225_600, "call_duration_secs": 0 },
        },
    });
    body.to_string().into_bytes()
}

/// An event of which nothing is kept but that it came.
fn audio(bytes: usize) -> Vec<u8> {
    let body = json!({
        "type": "post_call_audio",
        "event_timestamp": 1_767_225_600,
        "data": { "agent_id": "ringmark_doctor", "conversation_id": CONVERSATION, "full_audio": "A".repeat(bytes) },
    });
    body.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stays_on_this_machine_may_go_in_the_open() {
        for (url, verdict) in [
            ("https://x.execute-api.eu-west-1.amazonaws.com", Verdict::Good),
            ("http://127.0.0.1:3000", Verdict::Good),
            ("http://localhost:3000", Verdict::Good),
            ("http://[::1]:3000", Verdict::Good),
            ("http://127.0.0.1.example", Verdict::Bad),
            ("http://localhost.example", Verdict::Bad),
            ("http://10.0.0.1", Verdict::Bad),
        ] {
            let patient = Patient {
                url: url.to_owned(),
                secret: String::new(),
                token: None,
                provider: None,
            };
            let visit = Visit {
                patient: &patient,
                client: Client::new(),
            };
            assert_eq!(visit.encryption().verdict, verdict, "{url}");
        }
    }
}
