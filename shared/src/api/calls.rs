//! Calls as requests name them and answers show them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::open_window;
use crate::attribution::{Evidence, Method, Status};
use crate::calendar::{Moment, Zone};
use crate::call::{ArrivedBy, CallId, Channel, Direction, Outcome};
use crate::campaign::CampaignId;
use crate::conversion::Conversion;
use crate::decision::{Assigned, CreditMethod, HistoryEntry};
use crate::details::{Details, Turn};
use crate::error::Error;
use crate::phone_number::{Country, PhoneNumber};
use crate::query::Limit;
use crate::store::calls::{CallFilter, CallRecord, Head, NumberFilter, Order, Sort};

// ----------------------------------------------------------------- requests

/// Which calls; those for which everything that is given holds.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(deny_unknown_fields, default)]
pub struct CallFilterRequest {
    /// Credited to this campaign.
    pub campaign_id: Option<CampaignId>,
    /// Of this standing.
    pub attribution: Option<Status>,
    /// That began then or later.
    pub from: Option<Moment>,
    /// That began before.
    pub to: Option<Moment>,
    /// The time zone in which dates are read; UTC by default.
    pub tz: Option<Zone>,
    /// That went like this.
    pub outcome: Option<Outcome>,
    /// In this direction.
    pub direction: Option<Direction>,
    /// That came this way.
    pub channel: Option<Channel>,
    /// Of this agent.
    #[schemars(length(min = 1))]
    pub agent_id: Option<String>,
    /// With this customer: the number in any way of writing it, or its last digits, at least four.
    pub customer_number: Option<String>,
    /// By this number of ours, likewise.
    pub tracking_number: Option<String>,
    /// That reached their goal, or did not.
    pub converted: Option<bool>,
    /// At least this long, in seconds.
    pub min_duration: Option<u32>,
    /// At most this long, in seconds.
    pub max_duration: Option<u32>,
}

impl CallFilterRequest {
    /// What is asked for.
    ///
    /// # Errors
    /// Names the field that can't be what it should.
    pub fn into_filter(self, country: Option<Country>) -> Result<CallFilter, Error> {
        let zone = self.tz.unwrap_or_default();
        let number = |field: &str, text: Option<String>| {
            let read = |text: String| NumberFilter::parse(&text, country);
            let number = text.map(read).transpose();
            number.map_err(|expected| Error::invalid(field, format!("{field}: {expected}")))
        };
        let (from, to) = open_window(self.from, self.to, &zone)?;
        if self.agent_id.as_deref() == Some("") {
            return Err(Error::invalid("agent_id", "agent_id must be the id of an agent"));
        }
        if let (Some(least), Some(most)) = (self.min_duration, self.max_duration)
            && most < least
        {
            let must = "max_duration must not be less than min_duration";
            return Err(Error::invalid("max_duration", must));
        }
        Ok(CallFilter {
            campaign_id: self.campaign_id,
            attribution: self.attribution,
            from,
            to,
            outcome: self.outcome,
            direction: self.direction,
            channel: self.channel,
            agent_id: self.agent_id,
            customer_number: number("customer_number", self.customer_number)?,
            tracking_number: number("tracking_number", self.tracking_number)?,
            converted: self.converted,
            min_duration_seconds: self.min_duration,
            max_duration_seconds: self.max_duration,
        })
    }
}

/// In which order.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(default)]
pub struct SortRequest {
    /// By what; `started_at` by default. Anything else needs a window of `from` and `to` that holds at most 10,000 calls.
    pub sort: Sort,
    /// In which direction; `desc` by default.
    pub order: Order,
}

/// Which part of an export, and as what.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ExportRequest {
    /// As what.
    pub format: ExportFormat,
    /// How many calls a part has at most.
    #[serde(default)]
    #[schemars(with = "Option<usize>", range(min = 1, max = 1000), extend("default" = 1000))]
    pub limit: PartLimit,
    /// Of the part before; its `Link` header has it.
    pub cursor: Option<String>,
}

/// As what calls are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExportFormat {
    /// RFC 4180, safe to open in a spreadsheet.
    Csv,
    /// A JSON object on each line, as lists show calls.
    Ndjson,
}

/// How many calls a part of an export has at most: 1 to 1,000, and by default as many.
///
/// So many take about 1 MB; the gateway takes six.
pub type PartLimit = Limit<1000, 1000>;

// ------------------------------------------------------------------ answers

/// The names of campaigns, by id.
pub type CampaignNames = BTreeMap<CampaignId, String>;

/// A page of calls.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CallPage<'a> {
    /// The calls.
    pub calls: Vec<CallView<'a>>,
    /// Where the next page goes on; null at the end.
    pub next_cursor: Option<String>,
}

/// A call with everything.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "CallDetail")]
pub struct DetailedCall<'a> {
    #[serde(flatten)]
    call: CallView<'a>,
    /// The provider's summary of the conversation.
    summary: Option<&'a str>,
    /// The provider's analysis, as it came.
    analysis: Option<&'a RawValue>,
    /// What people decided about it, the latest first.
    history: &'a [HistoryEntry],
    /// Turn by turn; left out where the answer would not pass the gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript: Option<&'a [Turn<'a>]>,
    /// Whether the transcript was left out: page it.
    transcript_omitted: bool,
}

impl<'a> DetailedCall<'a> {
    /// With or without the transcript, which may be too large for one answer.
    #[must_use]
    pub fn new(
        head: &'a Head,
        names: &'a CampaignNames,
        history: &'a [HistoryEntry],
        details: &'a Details<'a>,
        with_transcript: bool,
    ) -> Self {
        Self {
            call: CallView::with_evidence(head, names),
            summary: details.summary.as_deref(),
            analysis: details.analysis,
            history,
            transcript: with_transcript.then_some(&details.transcript),
            transcript_omitted: !with_transcript,
        }
    }
}

/// A page of a transcript.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TranscriptPage<'a> {
    /// The turns, in the order of the conversation.
    pub turns: Vec<&'a Turn<'a>>,
    /// Where the next page goes on; null at the end.
    pub next_cursor: Option<String>,
}

/// A call as lists show it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Call")]
pub struct CallView<'a> {
    id: &'a CallId,
    agent_id: Option<&'a str>,
    agent_name: Option<&'a str>,
    channel: Channel,
    direction: Option<Direction>,
    customer_number: Option<&'a PhoneNumber>,
    tracking_number: Option<&'a PhoneNumber>,
    started_at: Timestamp,
    duration_seconds: u32,
    outcome: Outcome,
    termination_reason: Option<&'a str>,
    language: Option<&'a str>,
    conversion: Conversion,
    attribution: AttributionView<'a>,
    has_transcript: bool,
    arrived_by: ArrivedBy,
    received_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Attribution")]
struct AttributionView<'a> {
    status: Status,
    campaign_id: Option<CampaignId>,
    campaign_name: Option<&'a str>,
    method: Option<CreditMethod>,
    by: &'a str,
    at: Timestamp,
    /// Of one call only, not of lists.
    #[serde(flatten)]
    why: Option<Why<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Why<'a> {
    evidence: Option<&'a Evidence>,
    candidates: Vec<CandidateView<'a>>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Candidate")]
struct CandidateView<'a> {
    campaign_id: &'a CampaignId,
    campaign_name: Option<&'a str>,
    method: Method,
}

impl<'a> CallView<'a> {
    /// A call of a list.
    #[must_use]
    pub fn new(record: &'a CallRecord, names: &'a CampaignNames) -> Self {
        let CallRecord {
            call,
            rule_result,
            decisions,
            ..
        } = record;
        let credit = decisions.credit(rule_result);
        let (by, at) = match &decisions.assigned {
            Some(Assigned { by, at, .. }) => (by.as_str(), *at),
            None => ("automatic", rule_result.at),
        };
        Self {
            id: &call.id,
            agent_id: call.agent_id.as_deref(),
            agent_name: call.agent_name.as_deref(),
            channel: call.channel,
            direction: call.direction,
            customer_number: call.customer_number.as_ref(),
            tracking_number: call.tracking_number.as_ref(),
            started_at: call.started_at,
            duration_seconds: call.duration_seconds,
            outcome: call.outcome,
            termination_reason: call.termination_reason.as_deref(),
            language: call.language.as_deref(),
            conversion: decisions.conversion(call),
            attribution: AttributionView {
                status: credit.status,
                campaign_name: credit.campaign_id.as_ref().and_then(|id| name(names, id)),
                campaign_id: credit.campaign_id,
                method: credit.method,
                by,
                at,
                why: None,
            },
            has_transcript: call.has_transcript,
            arrived_by: record.arrived_by,
            received_at: record.received_at,
            updated_at: record.updated_at,
        }
    }

    /// One call, with what speaks for its credit and for others.
    #[must_use]
    pub fn with_evidence(head: &'a Head, names: &'a CampaignNames) -> Self {
        let mut view = Self::new(&head.record, names);
        let rules = &head.record.rule_result;
        let by_rules = rules.campaign_id.as_ref().zip(rules.method);
        let others = head
            .candidates
            .iter()
            .map(|candidate| (&candidate.campaign_id, candidate.method));
        let credited = view.attribution.campaign_id.as_ref();
        let candidates = by_rules
            .into_iter()
            .chain(others)
            .filter(|(campaign_id, _)| Some(*campaign_id) != credited)
            .map(|(campaign_id, method)| CandidateView {
                campaign_id,
                campaign_name: name(names, campaign_id),
                method,
            })
            .collect();
        let is_by_rules = head.record.decisions.assigned.is_none();
        view.attribution.why = Some(Why {
            evidence: head.evidence.as_ref().filter(|_| is_by_rules),
            candidates,
        });
        view
    }
}

/// The campaigns whose names a list shows.
pub fn campaigns_of(record: &CallRecord) -> Option<CampaignId> {
    record.decisions.credit(&record.rule_result).campaign_id
}

/// The campaigns whose names one call shows.
pub fn all_campaigns_of(head: &Head) -> Vec<CampaignId> {
    let others = head
        .candidates
        .iter()
        .map(|candidate| candidate.campaign_id.clone());
    campaigns_of(&head.record)
        .into_iter()
        .chain(head.record.rule_result.campaign_id.clone())
        .chain(others)
        .collect()
}

fn name<'a>(names: &'a CampaignNames, id: &CampaignId) -> Option<&'a str> {
    names.get(id).map(String::as_str)
}
