//! One call: everything that is known of it, and what can be decided about it.

use askama::Template;
use lambda_http::Body;
use lambda_http::Request;
use lambda_http::http::{HeaderValue, Response, header};
use serde::Deserialize;
use serde_json::Value;
use shared::api::calls::{CampaignNames, all_campaigns_of};
use shared::api::decisions::{ConvertCall, MoneyRequest};
use shared::attribution::{Candidate, Evidence};
use shared::call::{ArrivedBy, CallId};
use shared::campaign::Campaign;
use shared::conversion::{Conversion, ConversionSource, ConversionState, Money};
use shared::decide::Target;
use shared::decision::{AssignmentId, Change, CreditMethod, HistoryEntry};
use shared::details::{Details, Turn};
use shared::error::Error;
use shared::http::{NO_BODY, path_id, raw_answer};
use shared::store::calls::{CallFilter, CallList, CallRecord, Head, NO_CALL, NumberFilter, Order};

use crate::address::path_of;
use crate::form::Form;
use crate::handler::State;
use crate::pages::call_table::{CreditShown, active, method_name};
use crate::show::{When, bytes, clock, money, words};
use crate::visit::{Notice, Undo, Visit};

/// Turns of a transcript that one page shows.
const MAX_TURNS: usize = 200;

/// A call on its page.
#[derive(Template)]
#[template(path = "call.html")]
struct CallPage<'a> {
    visit: &'a Visit,
    head: &'a Head,
    names: &'a CampaignNames,
    campaigns: &'a [Campaign],
    history: Vec<Event>,
    details: &'a Details<'a>,
    turns: Vec<TurnShown>,
    /// The first turn of the next part, where there is one.
    more_turns: Option<usize>,
    first_turn: usize,
    criteria: Vec<Judged>,
    collected: Vec<Judged>,
    body_bytes: Option<u64>,
    /// Whether the body was kept as long as bodies are.
    is_body_over: bool,
    previous: Option<String>,
    next: Option<String>,
}

/// A turn of the conversation.
struct TurnShown {
    role: String,
    is_user: bool,
    at: String,
    message: Option<String>,
    tools: Vec<Tool>,
}

/// What a tool was asked, or answered.
struct Tool {
    title: String,
    json: String,
    is_error: bool,
}

/// A criterion that the provider judged, or a value that it collected.
struct Judged {
    name: String,
    value: String,
    why: String,
}

/// A decision of the history.
struct Event {
    at: When,
    by: String,
    what: String,
    reason: Option<String>,
}

#[derive(Deserialize)]
struct ConversionForm {
    /// `true`, `false` or `automatic`.
    converted: String,
    amount: Option<String>,
    currency: Option<String>,
    /// The revision that is to be undone, of an undo.
    revision: Option<u64>,
}

#[derive(Deserialize)]
struct AttributionForm {
    /// A campaign, `none` or `automatic`.
    campaign_id: String,
}

impl CallPage<'_> {
    fn record(&self) -> &CallRecord {
        &self.head.record
    }

    fn path(&self) -> String {
        path_of("calls", self.record().call.id.as_str())
    }

    fn customer(&self) -> String {
        let call = &self.record().call;
        match &call.customer_number {
            Some(number) => number.readable(),
            None if call.id.is_erased() => "Erased customer".to_owned(),
            None => "Unknown customer".to_owned(),
        }
    }

    fn tracking(&self) -> Option<String> {
        let number = self.record().call.tracking_number.as_ref();
        number.map(|number| number.readable())
    }

    fn started(&self) -> When {
        self.when(&self.record().call.started_at)
    }

    fn when(&self, at: &jiff::Timestamp) -> When {
        When::new(*at, &self.visit.zone, self.visit.now)
    }

    fn duration(&self) -> String {
        clock(u64::from(self.record().call.duration_seconds))
    }

    fn conversion(&self) -> Conversion {
        self.record().decisions.conversion(&self.record().call)
    }

    fn is_converted_by_hand(&self) -> bool {
        self.conversion().source == ConversionSource::Manual
    }

    fn credit(&self) -> CreditShown {
        CreditShown::new(&self.head.credit(), self.names)
    }

    fn is_assigned_by_hand(&self) -> bool {
        self.record().decisions.assigned.is_some()
    }

    /// Why the call is credited as it is, in a sentence.
    fn why(&self) -> String {
        if let Some(assigned) = &self.record().decisions.assigned {
            return format!("{} decided so.", assigned.by.as_str());
        }
        match (&self.head.evidence, self.head.candidates.is_empty()) {
            (Some(evidence), _) => self.evidence(evidence),
            (None, false) => "Several campaigns claim it by the same rule, so a person has to choose.".to_owned(),
            (None, true) => {
                "No rule names a campaign: neither a variable, nor the tracking number, nor a contact, nor the agent."
                    .to_owned()
            }
        }
    }

    fn evidence(&self, evidence: &Evidence) -> String {
        let until = |to: &Option<jiff::Timestamp>| match to {
            Some(to) => format!(" until {}", self.day(*to)),
            None => String::new(),
        };
        match evidence {
            Evidence::Variable { variable, value } => format!("The variable {variable} is “{value}”."),
            Evidence::Number { number, from, to } => {
                let whose = if Some(number) == self.record().call.tracking_number.as_ref() {
                    "The tracking number"
                } else {
                    "The contact"
                };
                let since = match from {
                    Some(from) => format!("since {}", self.day(*from)),
                    None => "from the start".to_owned(),
                };
                format!(
                    "{whose} {} belongs to it {since}{}.",
                    number.readable(),
                    until(to)
                )
            }
            Evidence::Agent { agent_id, from, to } => {
                format!(
                    "The agent {agent_id} works for it since {}{}.",
                    self.day(*from),
                    until(to)
                )
            }
        }
    }

    fn day(&self, at: jiff::Timestamp) -> String {
        self.visit.zone.local(at).strftime("%-d %b %Y").to_string()
    }

    fn name<'a>(&'a self, candidate: &'a Candidate) -> &'a str {
        let id = &candidate.campaign_id;
        self.names.get(id).map_or(id.as_str(), String::as_str)
    }

    fn method(&self, candidate: &Candidate) -> &'static str {
        method_name(CreditMethod::Rule(candidate.method))
    }

    fn arrived_by(&self) -> &'static str {
        match self.record().arrived_by {
            ArrivedBy::Webhook => "webhook",
            ArrivedBy::Sync => "sync",
        }
    }

    fn active(&self) -> impl Iterator<Item = &Campaign> {
        active(self.campaigns)
    }

    fn words(&self, word: &str) -> String {
        words(word)
    }

    fn size(&self) -> String {
        self.body_bytes.map(bytes).unwrap_or_default()
    }
}

impl TurnShown {
    fn new(turn: &Turn<'_>) -> Self {
        let role = turn.role.clone().unwrap_or_else(|| "unknown".to_owned());
        let calls = turn.tool_calls.iter().map(|raw| Tool::asked(raw.get()));
        let results = turn.tool_results.iter().map(|raw| Tool::answered(raw.get()));
        Self {
            is_user: role == "user",
            role: words(&role),
            at: clock(u64::from(turn.at_seconds)),
            message: turn.message.clone().filter(|message| !message.trim().is_empty()),
            tools: calls.chain(results).collect(),
        }
    }
}

impl Tool {
    /// What a tool was asked. Its headers are left out: they may hold credentials.
    fn asked(json: &str) -> Self {
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        Self {
            title: format!("Asked {}", name_of_tool(&value)),
            json: readable(value.get("params_as_json")),
            is_error: false,
        }
    }

    /// What a tool answered.
    fn answered(json: &str) -> Self {
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        let kind = value.pointer("/result/result_type").and_then(Value::as_str);
        let title = match kind {
            Some(kind) => format!("{}: {}", name_of_tool(&value), words(kind)),
            None => format!("Answer of {}", name_of_tool(&value)),
        };
        Self {
            title,
            json: readable(value.get("result_value").or(value.get("result"))),
            is_error: value.get("is_error") == Some(&Value::Bool(true)),
        }
    }
}

fn name_of_tool(value: &Value) -> &str {
    let name = value.get("tool_name").and_then(Value::as_str);
    name.unwrap_or("a tool")
}

/// JSON line by line, also where it comes as text.
fn readable(value: Option<&Value>) -> String {
    let pretty = |value: &Value| serde_json::to_string_pretty(value).unwrap_or_default();
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => match serde_json::from_str(text) {
            Ok(inner) => pretty(&inner),
            Err(_) => text.clone(),
        },
        Some(other) => pretty(other),
    }
}

/// The results of the provider's analysis, one of its objects by name.
fn judged(analysis: &Value, group: &str, value: &str) -> Vec<Judged> {
    let group = analysis.get(group).and_then(Value::as_object);
    let judged = group.into_iter().flatten().map(|(name, result)| Judged {
        name: name.clone(),
        value: match result.get(value) {
            None | Some(Value::Null) => "–".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        },
        why: result
            .get("rationale")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    });
    judged.collect()
}

impl State {
    pub async fn call(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CallId = path_id(request, NO_CALL)?;
        let head = self.calls.head(&id).await?.ok_or(NO_CALL)?;
        let (body, history, campaigns, previous, next) = tokio::try_join!(
            self.calls.body(&id, &head.version.sha256, visit.now),
            self.calls.history(&id),
            self.campaigns.choices(),
            self.neighbour(&head, Order::Desc),
            self.neighbour(&head, Order::Asc),
        )?;
        let named = history
            .iter()
            .flat_map(campaigns_of_entry)
            .chain(all_campaigns_of(&head));
        let names = self.names_of(named, &campaigns).await?;
        let body_bytes = body.as_ref().map(|body| body.len() as u64);
        // Where the body is still on its way, the facts are here without details.
        let body = body.unwrap_or_default();
        let details = Details::read(&body);
        let analysis = details
            .analysis
            .map(|raw| serde_json::from_str(raw.get()).unwrap_or_default());
        let analysis: Value = analysis.unwrap_or_default();
        let first_turn = visit.address.value("turn").parse().unwrap_or(0);
        let turns = details.transcript.iter().skip(first_turn).take(MAX_TURNS);
        let page = CallPage {
            visit,
            head: &head,
            history: history.iter().map(|entry| event(entry, visit, &names)).collect(),
            names: &names,
            campaigns: &campaigns,
            turns: turns.map(TurnShown::new).collect(),
            more_turns: Some(first_turn + MAX_TURNS).filter(|end| *end < details.transcript.len()),
            first_turn,
            criteria: judged(&analysis, "evaluation_criteria_results", "result"),
            collected: judged(&analysis, "data_collection_results", "value"),
            details: &details,
            body_bytes,
            is_body_over: id.is_erased() || !self.calls.keeps_body(&head, visit.now),
            previous: previous.map(|id| path_of("calls", id.as_str())),
            next: next.map(|id| path_of("calls", id.as_str())),
        };
        visit.page(&page)
    }

    /// The call of the same customer that comes next in this order.
    async fn neighbour(&self, head: &Head, order: Order) -> Result<Option<CallId>, Error> {
        let call = &head.record.call;
        let Some(number) = &call.customer_number else {
            return Ok(None);
        };
        let millisecond = jiff::SignedDuration::from_millis(1);
        let (from, to) = match order {
            Order::Desc => (None, call.started_at.checked_add(millisecond).ok()),
            Order::Asc => (Some(call.started_at), None),
        };
        let filter = CallFilter {
            customer_number: Some(NumberFilter::Is(number.clone())),
            from,
            to,
            ..CallFilter::default()
        };
        let list = CallList {
            filter,
            order,
            ..CallList::default()
        };
        // Calls of the same instant are in the order of their positions.
        let own = head.record.position();
        let page = self.calls.list(&list, SAME_INSTANT, None).await?;
        let beyond = page.entries.into_iter().find(|record| match order {
            Order::Desc => record.position() < own,
            Order::Asc => record.position() > own,
        });
        Ok(beyond.map(|record| record.call.id))
    }

    /// The provider's own words, as a file or to look at.
    pub async fn raw_call(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CallId = path_id(request, NO_CALL)?;
        let head = self.calls.head(&id).await?.ok_or(NO_CALL)?;
        let body = self.calls.body(&id, &head.version.sha256, visit.now).await?;
        let mut answer = raw_answer(visit.headers(), body.ok_or(NO_BODY)?)?;
        if visit.address.has("download", "yes") {
            let name = HeaderValue::from_static("attachment; filename=\"call.json\"");
            answer.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        }
        Ok(answer)
    }

    pub async fn convert_call(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CallId = path_id(request, NO_CALL)?;
        let ConversionForm {
            converted,
            amount,
            currency,
            revision,
        } = Form::of(request).read()?;
        let wanted = match converted.as_str() {
            "automatic" => None,
            "true" | "false" => {
                let value = amount.map(|amount| MoneyRequest {
                    amount,
                    currency: currency.unwrap_or_default().trim().to_uppercase(),
                });
                let wanted = ConvertCall {
                    converted: converted == "true",
                    value,
                    reason: None,
                };
                Some(wanted.into_converted()?)
            }
            _ => {
                let must = "converted must be true, false or automatic";
                return Err(Error::invalid("converted", must));
            }
        };
        let decision = visit.decision(None, false)?;
        let (before, after) = self.decider.convert(&id, wanted, revision, &decision).await?;
        let path = path_of("calls", id.as_str());
        let text = match after.record.decisions.conversion(&after.record.call) {
            _ if revision.is_some_and(|seen| seen != before.revision) => {
                "The call has changed since, so nothing was undone: look at it first."
            }
            _ if before.revision == after.revision => "It was so before: nothing changed.",
            Conversion {
                source: ConversionSource::Automatic,
                ..
            } => "The outcome decides again whether this call converted.",
            Conversion { converted: true, .. } => "The call is marked as converted.",
            Conversion { .. } => "The call is marked as not converted.",
        };
        let undo = (before.revision != after.revision).then(|| Undo {
            action: format!("{path}/conversion"),
            fields: conversion_fields(&before.record, after.revision),
        });
        let notice = Notice::new(text.to_owned(), undo, visit.now);
        self.done(visit, &visit.back_or(&path), notice).await
    }

    pub async fn assign_call(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CallId = path_id(request, NO_CALL)?;
        let AttributionForm { campaign_id } = Form::of(request).read()?;
        let target = match campaign_id.as_str() {
            "automatic" => Target::Automatic,
            _ => self.target(campaign_id).await?,
        };
        let decision = visit.decision(None, false)?;
        let assignment_id = AssignmentId::new(visit.now);
        let (before, after) = self
            .decider
            .assign(&id, &target, &assignment_id, &decision)
            .await?;
        let names = self.campaigns.names(all_campaigns_of(&after)).await?;
        let path = path_of("calls", id.as_str());
        let text = match (&target, CreditShown::new(&after.credit(), &names).campaign) {
            _ if before.revision == after.revision => "It was so before: nothing changed.".to_owned(),
            (Target::Automatic, Some((name, _))) => format!("The rules decide again: {name}."),
            (Target::Automatic, None) => "The rules decide again: they name no campaign.".to_owned(),
            (Target::Campaign(_), Some((name, _))) => format!("The call is credited to {name}."),
            (Target::Campaign(_), None) => "The call is credited to no campaign.".to_owned(),
        };
        let undo = (before.revision != after.revision).then(|| Undo {
            action: format!("/assignments/{assignment_id}/undo"),
            fields: Vec::new(),
        });
        let notice = Notice::new(text, undo, visit.now);
        self.done(visit, &visit.back_or(&path), notice).await
    }

    /// Whom a form credits: a campaign, or `none`.
    pub async fn target(&self, campaign_id: String) -> Result<Target, Error> {
        let campaign_id = Some(campaign_id).filter(|id| id != "none");
        self.decider.target(Some(campaign_id)).await
    }
}

/// Calls that may begin in the same instant.
const SAME_INSTANT: usize = 10;

/// The form that says again what a person had said, unless the call has changed since.
fn conversion_fields(record: &CallRecord, revision: u64) -> Vec<(String, String)> {
    let field = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut fields = match &record.decisions.converted {
        None => vec![field("converted", "automatic")],
        Some(decided) => {
            let mut fields = vec![field(
                "converted",
                if decided.converted { "true" } else { "false" },
            )];
            if let Some(value) = &decided.value {
                fields.push(field("amount", value.amount()));
                fields.push(field("currency", value.currency()));
            }
            fields
        }
    };
    fields.push(field("revision", &revision.to_string()));
    fields
}

fn campaigns_of_entry(entry: &HistoryEntry) -> Vec<shared::campaign::CampaignId> {
    match &entry.change {
        Change::Attribution { from, to } => [from, to]
            .into_iter()
            .filter_map(|credit| credit.campaign_id.clone())
            .collect(),
        Change::Conversion { .. } => Vec::new(),
    }
}

fn event(entry: &HistoryEntry, visit: &Visit, names: &CampaignNames) -> Event {
    let credit = |credit| {
        let shown = CreditShown::new(credit, names);
        let title = shown.title().to_lowercase();
        shown.campaign.map_or(title, |(name, _)| name)
    };
    let conversion = |state: &ConversionState| {
        let value = state
            .value
            .as_ref()
            .map(|value: &Money| format!(" ({})", money(value)));
        let is = if state.converted {
            "converted"
        } else {
            "not converted"
        };
        is.to_owned() + &value.unwrap_or_default()
    };
    let what = match &entry.change {
        Change::Attribution { from, to } => format!("Credit: {} → {}", credit(from), credit(to)),
        Change::Conversion { from, to } => format!("Conversion: {} → {}", conversion(from), conversion(to)),
    };
    Event {
        at: When::new(entry.at, &visit.zone, visit.now),
        by: entry.by.as_str().to_owned(),
        what,
        reason: entry.reason.clone(),
    }
}
