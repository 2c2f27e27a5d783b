//! Demo data: two months of a window fitter's calls, made up, the same every time.
//!
//! It goes through the front door: deliveries are signed and posted, campaigns
//! and decisions are requests to the API. Done again on the same day, it changes
//! nothing (but makes a mistake and undoes it once more); on another day the calls
//! keep their ids and move on with the calendar.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use fastrand::Rng;
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use reqwest::{Client, Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{issuer, sender};

const CALLS: usize = 1500;
const DAYS: i64 = 60;
/// Deliveries and decisions at the same time.
const CONCURRENCY: usize = 8;
const CUSTOMERS: u64 = 900;

/// Name and code of each campaign.
const CAMPAIGNS: [(&str, &str); 4] = [
    ("Spring mailing", "spring-mailing"),
    ("Search ads", "search-ads"),
    ("Radio spots", "radio-spots"),
    ("Customers recruit customers", "referral"),
];
const MAILING: usize = 0;
const SEARCH: usize = 1;
const RADIO: usize = 2;
const REFERRAL: usize = 3;

/// The tracking numbers, with the campaign that each belongs to: the seventh goes
/// from the radio to search on the way, the last one is printed on old vans.
const NUMBERS: [(&str, Option<usize>); 8] = [
    ("+16125550101", Some(MAILING)),
    ("+16125550102", Some(MAILING)),
    ("+16125550103", Some(SEARCH)),
    ("+16125550104", Some(SEARCH)),
    ("+16125550105", Some(RADIO)),
    ("+16125550106", Some(REFERRAL)),
    ("+16125550107", Some(RADIO)),
    ("+16125550108", None),
];
/// Which of them moves, and how many days ago.
const MOVED: (usize, i64) = (6, 25);

const AGENTS: [(&str, &str); 2] = [
    ("agent_front_desk", "Front desk"),
    ("agent_follow_up", "Follow-up"),
];

/// What people say, as `demo.json` has it.
#[derive(Deserialize)]
struct Script {
    names: Vec<String>,
    towns: Vec<String>,
    days: Vec<String>,
    times: Vec<String>,
    works: Vec<String>,
    inbound: Vec<Scene>,
    outbound: Vec<Scene>,
}

#[derive(Deserialize)]
struct Scene {
    outcome: String,
    weight: usize,
    ending: String,
    summary: String,
    /// Who says what; the tool that is called, where the speaker is `tool`.
    turns: Vec<(String, String)>,
}

/// Fills a running stack with demo data.
///
/// # Errors
/// When nothing answers at the URL, or answers otherwise than expected.
pub async fn fill(base_url: &str, secret: &str) -> Result<()> {
    let client = Client::new();
    let token = issuer::fetch_token(&client, base_url, &[issuer::READ, issuer::WRITE]).await?;
    let demo = Demo {
        client,
        base_url,
        secret,
        token,
        today: Timestamp::now()
            .to_zoned(TimeZone::UTC)
            .start_of_day()?
            .timestamp(),
    };
    let campaigns = demo.campaigns().await?;
    let calls = demo.calls()?;
    demo.deliver(&calls).await?;
    demo.deliver_what_is_no_call(&calls).await?;
    demo.decide(&campaigns).await?;
    eprintln!(
        "done: {} calls of the last {DAYS} days in {} campaigns",
        calls.len(),
        campaigns.len()
    );
    Ok(())
}

struct Demo<'a> {
    client: Client,
    base_url: &'a str,
    secret: &'a str,
    token: String,
    /// Midnight in UTC: calls end with yesterday, so that a day's data is always the same.
    today: Timestamp,
}

impl Demo<'_> {
    async fn ask(&self, method: Method, path: &str, body: &Value) -> Result<(StatusCode, String)> {
        let url = format!("{}{path}", self.base_url);
        let request = self.client.request(method, url).bearer_auth(&self.token);
        let answer = request.json(body).send().await?;
        Ok((answer.status(), answer.text().await?))
    }

    async fn api(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let (status, answer) = self.ask(method.clone(), path, body).await?;
        ensure!(status.is_success(), "{method} {path}: {status} {answer}");
        serde_json::from_str(&answer).with_context(|| format!("{method} {path}: {answer}"))
    }

    fn days_ago(&self, days: i64) -> Timestamp {
        self.today - SignedDuration::from_hours(24 * days)
    }

    /// The ids of the campaigns, which are made where they are not there yet.
    async fn campaigns(&self) -> Result<Vec<String>> {
        let listed = self
            .api(Method::GET, "/api/campaigns?limit=100", &Value::Null)
            .await?;
        let listed = listed["campaigns"].as_array().context("a list of campaigns")?;
        let known: BTreeMap<&str, &str> = listed
            .iter()
            .filter_map(|campaign| Some((campaign["code"].as_str()?, campaign["id"].as_str()?)))
            .collect();
        let mut ids = Vec::new();
        for (name, code) in CAMPAIGNS {
            if let Some(id) = known.get(code) {
                ids.push((*id).to_owned());
                continue;
            }
            let body = json!({ "name": name, "code": code });
            let campaign = self.api(Method::POST, "/api/campaigns", &body).await?;
            ids.push(campaign["id"].as_str().context("a campaign's id")?.to_owned());
        }
        let since = self.days_ago(DAYS + 1).to_string();
        for (number, campaign) in NUMBERS {
            if let Some(campaign) = campaign {
                self.assign(&ids[campaign], number, json!({ "from": since }))
                    .await?;
            }
        }
        let (number, days) = (NUMBERS[MOVED.0].0, MOVED.1);
        let moved = json!({ "from": self.days_ago(days).to_string(), "move": true });
        self.assign(&ids[SEARCH], number, moved).await?;
        // Some customers had a letter and were recruited, too.
        for (campaign, customers) in [(MAILING, 0..160), (REFERRAL, 140..260)] {
            let contacts: Vec<Value> = customers
                .map(|index| json!({ "number": customer(index) }))
                .collect();
            let path = format!("/api/campaigns/{}/contacts", ids[campaign]);
            self.api(Method::POST, &path, &json!({ "contacts": contacts }))
                .await?;
        }
        eprintln!(
            "made {} campaigns with {} numbers",
            CAMPAIGNS.len(),
            NUMBERS.len()
        );
        Ok(ids)
    }

    /// Gives a number to a campaign, unless another one has it by now.
    async fn assign(&self, campaign: &str, number: &str, body: Value) -> Result<()> {
        let path = format!("/api/campaigns/{campaign}/numbers/{}", number.replace('+', "%2B"));
        let (status, answer) = self.ask(Method::PUT, &path, &body).await?;
        ensure!(
            status.is_success() || status == StatusCode::CONFLICT,
            "{path}: {status} {answer}"
        );
        Ok(())
    }

    /// The bodies of the calls, in the order in which they ended.
    fn calls(&self) -> Result<Vec<Value>> {
        let script: Script = serde_json::from_str(include_str!("demo.json"))?;
        let mut rng = Rng::with_seed(1);
        let mut calls: Vec<Value> = (0..CALLS)
            .map(|index| self.call(index, &script, &mut rng))
            .collect();
        calls.sort_by_key(|call| call["event_timestamp"].as_i64());
        Ok(calls)
    }

    fn call(&self, index: usize, script: &Script, rng: &mut Rng) -> Value {
        let start = self.start(rng);
        let kind = rng.u32(0..100);
        let scenes = if kind < 88 {
            &script.inbound
        } else {
            &script.outbound
        };
        let scene = weighted(scenes, rng);
        let words = [
            ("{name}", &script.names),
            ("{town}", &script.towns),
            ("{day}", &script.days),
            ("{time}", &script.times),
            ("{work}", &script.works),
        ]
        .map(|(placeholder, words)| (placeholder, words[rng.usize(0..words.len())].as_str()));
        let told = |text: &str| {
            words.iter().fold(text.to_owned(), |text, (placeholder, word)| {
                text.replace(placeholder, word)
            })
        };
        let (transcript, duration) = transcript(scene, told, rng);
        let agent = AGENTS[usize::from(kind >= 88)];
        let ended = start + SignedDuration::from_secs(i64::from(duration));
        let mut metadata = json!({
            "start_time_unix_secs": start.as_second(),
            "call_duration_secs": duration,
            "termination_reason": scene.ending,
            "main_language": "en",
            "cost": duration * 7,
        });
        let mut variables = json!({});
        let customer = customer(rng.u64(0..CUSTOMERS));
        match kind {
            0..80 => {
                let number = NUMBERS[numbers_weighted(rng)].0;
                let customer = if rng.u32(0..30) == 0 {
                    "anonymous"
                } else {
                    &customer
                };
                metadata["phone_call"] = phone(number, customer, "inbound");
            }
            80..84 => {
                metadata["sms"] = json!({
                    "direction": "inbound", "agent_phone_number": NUMBERS[SEARCH + 1].0,
                    "sms_user_phone_number": customer,
                });
                metadata["text_only"] = json!(true);
            }
            84..88 => {
                metadata["conversation_initiation_source"] = json!("widget");
                if rng.bool() {
                    variables["utm_campaign"] = json!(CAMPAIGNS[SEARCH].1);
                }
            }
            _ => metadata["phone_call"] = phone(NUMBERS[7].0, &customer, "outbound"),
        }
        json!({
            "type": "post_call_transcription",
            "event_timestamp": ended.as_second() + 3,
            "data": {
                "agent_id": agent.0,
                "agent_name": agent.1,
                "conversation_id": format!("conv_demo_{index:04}"),
                "status": "done",
                "transcript": transcript,
                "metadata": metadata,
                "analysis": {
                    "call_successful": scene.outcome,
                    "transcript_summary": told(&scene.summary),
                },
                "conversation_initiation_client_data": { "dynamic_variables": variables },
            },
        })
    }

    /// On a working day between eight and six in Minnesota, more often lately;
    /// now and then at another time.
    fn start(&self, rng: &mut Rng) -> Timestamp {
        loop {
            let days = 1 + (DAYS - 1) * i64::from(rng.u32(0..1000).min(rng.u32(0..1500))) / 1000;
            let minutes = if rng.u32(0..20) == 0 {
                rng.i64(0..24 * 60)
            } else {
                rng.i64(14 * 60..24 * 60)
            };
            let start = self.days_ago(days) + SignedDuration::from_secs(minutes * 60 + rng.i64(0..60));
            let weekday = start.to_zoned(TimeZone::UTC).weekday().to_monday_zero_offset();
            if weekday < 5 || rng.u32(0..6) == 0 {
                return start;
            }
        }
    }

    async fn deliver(&self, calls: &[Value]) -> Result<()> {
        let mut delivered = 0;
        let mut answers = stream::iter(
            calls
                .iter()
                .map(|call| self.post(call, self.secret, Timestamp::now())),
        )
        .buffer_unordered(CONCURRENCY);
        while let Some(status) = answers.try_next().await? {
            ensure!(
                status == 200,
                "a delivery was answered {status}: is another secret configured?"
            );
            delivered += 1;
            if delivered % 100 == 0 {
                eprintln!("delivered {delivered} of {} calls", calls.len());
            }
        }
        Ok(())
    }

    /// Calls that never began, repeats, what is not understood, and what is refused.
    async fn deliver_what_is_no_call(&self, calls: &[Value]) -> Result<()> {
        for index in 0..12 {
            let at = self.days_ago(1 + 4 * index) + SignedDuration::from_mins(15 * 60 + 7 * index);
            let reason = ["busy", "no-answer", "unknown"][usize::try_from(index)? % 3];
            let body = json!({
                "type": "call_initiation_failure",
                "event_timestamp": at.as_second(),
                "data": {
                    "agent_id": AGENTS[1].0,
                    "conversation_id": format!("conv_demo_failed_{index:02}"),
                    "failure_reason": reason,
                    "metadata": { "type": "twilio", "body": {
                        "From": NUMBERS[7].0, "To": customer(u64::try_from(index)?), "CallStatus": reason,
                    } },
                },
            });
            let status = self.post(&body, self.secret, Timestamp::now()).await?;
            ensure!(status == 200, "a failed call was answered {status}");
        }
        let now = Timestamp::now();
        for call in calls.iter().take(20) {
            self.post(call, self.secret, now).await?;
        }
        for body in [
            json!({ "type": "voice_removed", "data": {} }),
            json!({ "type": "post_call_transcription" }),
        ] {
            self.post(&body, self.secret, now).await?;
        }
        for call in calls.iter().take(9) {
            let status = self.post(call, "another secret", now).await?;
            ensure!(status == 401, "a wrong signature was answered {status}");
        }
        for call in calls.iter().take(3) {
            self.post(call, self.secret, now - 2.hours()).await?;
        }
        eprintln!("delivered repeats, failed calls, and some that are refused");
        Ok(())
    }

    async fn post(&self, body: &Value, secret: &str, signed_at: Timestamp) -> Result<u16> {
        let body = serde_json::to_vec(body)?;
        let (status, _) = sender::post(&self.client, self.base_url, secret, signed_at, body).await?;
        Ok(status)
    }

    /// What people made of it.
    async fn decide(&self, campaigns: &[String]) -> Result<()> {
        let mut rng = Rng::with_seed(2);
        let mut indexes: Vec<usize> = (0..CALLS).collect();
        rng.shuffle(&mut indexes);
        // No call twice, so that doing it again changes nothing.
        let mut ids = indexes.into_iter().map(|index| format!("conv_demo_{index:04}"));
        for (campaign, count, reason) in [
            (Some(MAILING), 25, "had the letter in their hands"),
            (Some(REFERRAL), 15, "named the customer who recruited them"),
            (None, 8, "a supplier, not a customer"),
        ] {
            let body = json!({
                "campaign_id": campaign.map(|campaign| &campaigns[campaign]),
                "call_ids": ids.by_ref().take(count).collect::<Vec<_>>(), "reason": reason,
            });
            self.api(Method::POST, "/api/assignments", &body).await?;
        }
        let mistaken: Vec<String> = ids.by_ref().take(10).collect();
        let mistaken = json!({ "campaign_id": campaigns[RADIO], "call_ids": mistaken });
        let made = self.api(Method::POST, "/api/assignments", &mistaken).await?;
        if let Some(id) = made["assignment_id"].as_str() {
            let path = format!("/api/assignments/{id}/undo");
            self.api(Method::POST, &path, &json!({})).await?;
        }
        let conversions: Vec<(String, Value)> = ids
            .take(80)
            .map(|id| {
                let sold = rng.u32(0..5) > 0;
                let amount = format!("{}.00", 450 + 50 * rng.u32(0..120));
                let value = sold.then(|| json!({ "amount": amount, "currency": "USD" }));
                let path = format!("/api/calls/{id}/conversion");
                (path, json!({ "converted": sold, "value": value }))
            })
            .collect();
        for (path, body) in &conversions {
            self.api(Method::PUT, path, body).await?;
        }
        eprintln!(
            "made 58 assignments and {} conversions by hand",
            conversions.len()
        );
        Ok(())
    }
}

/// A number of the range that is kept free for fiction.
fn customer(index: u64) -> String {
    format!("+1{}55501{:02}", 201 + index / 100 * 7, index % 100)
}

fn phone(ours: &str, customer: &str, direction: &str) -> Value {
    json!({ "type": "twilio", "direction": direction, "agent_number": ours, "external_number": customer })
}

/// Some numbers are called more often than others.
fn numbers_weighted(rng: &mut Rng) -> usize {
    let drawn = rng.usize(0..100);
    let upper_edges = [18, 30, 52, 62, 74, 80, 91, 100];
    upper_edges
        .iter()
        .position(|edge| drawn < *edge)
        .unwrap_or_default()
}

fn weighted<'a>(scenes: &'a [Scene], rng: &mut Rng) -> &'a Scene {
    let mut drawn = rng.usize(0..scenes.iter().map(|scene| scene.weight).sum());
    for scene in scenes {
        if drawn < scene.weight {
            return scene;
        }
        drawn -= scene.weight;
    }
    &scenes[0]
}

/// The turns with their times, and the length of the call.
fn transcript(scene: &Scene, told: impl Fn(&str) -> String, rng: &mut Rng) -> (Vec<Value>, u32) {
    let mut at = 0;
    let mut turns = Vec::new();
    for (speaker, text) in &scene.turns {
        let turn = if speaker == "tool" {
            let id = format!("call_{}", turns.len());
            json!({
                "role": "agent", "message": null, "time_in_call_secs": at,
                "tool_calls": [{ "tool_name": text, "request_id": id, "params_as_json": "{}" }],
                "tool_results": [{ "tool_name": text, "request_id": id, "result_value": "ok", "is_error": false }],
            })
        } else {
            json!({ "role": speaker, "message": told(text), "time_in_call_secs": at })
        };
        turns.push(turn);
        at += 2 + u32::try_from(text.len() / 14).unwrap_or_default() + rng.u32(0..4);
    }
    (turns, at)
}
