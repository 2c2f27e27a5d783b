//! Calls and deliveries as the API shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::attribution::{Evidence, Method, Status};
use shared::call::{ArrivedBy, CallId, Channel, Conversion, Direction, Outcome};
use shared::campaign::CampaignId;
use shared::details::{Details, Turn};
use shared::phone_number::PhoneNumber;
use shared::store::calls::{CallRecord, Head};
use shared::store::deliveries::{self, DeliveryId, DeliveryResult, KeptBody};

/// The names of campaigns, by id.
pub type CampaignNames = BTreeMap<CampaignId, String>;

/// A call as lists show it.
#[derive(Serialize)]
pub struct Call<'a> {
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
    attribution: Attribution<'a>,
    has_transcript: bool,
    arrived_by: ArrivedBy,
    received_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize)]
struct Attribution<'a> {
    status: Status,
    campaign_id: Option<&'a CampaignId>,
    campaign_name: Option<&'a str>,
    method: Option<Method>,
    by: &'static str,
    at: Timestamp,
    /// Of one call only, not of lists.
    #[serde(flatten)]
    why: Option<Why<'a>>,
}

#[derive(Serialize)]
struct Why<'a> {
    evidence: Option<&'a Evidence>,
    candidates: Vec<Candidate<'a>>,
}

#[derive(Serialize)]
struct Candidate<'a> {
    campaign_id: &'a CampaignId,
    campaign_name: Option<&'a str>,
    method: Method,
}

/// A call with everything.
#[derive(Serialize)]
pub struct DetailedCall<'a> {
    #[serde(flatten)]
    call: Call<'a>,
    summary: Option<&'a str>,
    analysis: Option<&'a RawValue>,
    history: [(); 0],
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript: Option<&'a [Turn<'a>]>,
    transcript_omitted: bool,
}

impl<'a> Call<'a> {
    pub fn new(record: &'a CallRecord, names: &'a CampaignNames) -> Self {
        let CallRecord {
            call, rule_result, ..
        } = record;
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
            conversion: call.automatic_conversion(),
            attribution: Attribution {
                status: rule_result.status,
                campaign_id: rule_result.campaign_id.as_ref(),
                campaign_name: rule_result.campaign_id.as_ref().and_then(|id| name(names, id)),
                method: rule_result.method,
                by: "automatic",
                at: rule_result.at,
                why: None,
            },
            has_transcript: call.has_transcript,
            arrived_by: record.arrived_by,
            received_at: record.received_at,
            updated_at: record.updated_at,
        }
    }
}

impl<'a> DetailedCall<'a> {
    /// With or without the transcript, which may be too large for one answer.
    pub fn new(
        head: &'a Head,
        names: &'a CampaignNames,
        details: &'a Details<'a>,
        with_transcript: bool,
    ) -> Self {
        let mut call = Call::new(&head.record, names);
        let candidates = head.candidates.iter().map(|candidate| Candidate {
            campaign_id: &candidate.campaign_id,
            campaign_name: name(names, &candidate.campaign_id),
            method: candidate.method,
        });
        call.attribution.why = Some(Why {
            evidence: head.evidence.as_ref(),
            candidates: candidates.collect(),
        });
        Self {
            call,
            summary: details.summary.as_deref(),
            analysis: details.analysis,
            history: [],
            transcript: with_transcript.then_some(&details.transcript),
            transcript_omitted: !with_transcript,
        }
    }
}

fn name<'a>(names: &'a CampaignNames, id: &CampaignId) -> Option<&'a str> {
    names.get(id).map(String::as_str)
}

/// A page of a transcript.
#[derive(Serialize)]
pub struct TranscriptPage<'a> {
    pub turns: Vec<&'a Turn<'a>>,
    pub next_cursor: Option<String>,
}

/// An entry of the delivery log.
#[derive(Serialize)]
pub struct Delivery<'a> {
    id: &'a DeliveryId,
    received_at: Timestamp,
    client_ip: std::net::IpAddr,
    status: u16,
    result: DeliveryResult,
    reason: Option<&'a str>,
    kind: Option<&'a str>,
    conversation_id: Option<&'a CallId>,
    bytes: u64,
    body_sha256: String,
    latency_ms: u64,
    body_kept: bool,
}

impl<'a> Delivery<'a> {
    pub fn new(delivery: &'a deliveries::Delivery) -> Self {
        Self {
            id: &delivery.id,
            received_at: delivery.received_at,
            client_ip: delivery.client_ip,
            status: delivery.status,
            result: delivery.result,
            reason: delivery.reason.as_deref(),
            kind: delivery.kind.as_deref(),
            conversation_id: delivery.conversation_id.as_ref(),
            bytes: delivery.bytes,
            body_sha256: hex::encode(delivery.body_sha256),
            latency_ms: delivery.latency_ms,
            body_kept: delivery.kept_body != KeptBody::No,
        }
    }
}
