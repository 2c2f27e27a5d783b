//! Calls and deliveries as the API shows them.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::call::CallId;
use shared::decision::HistoryEntry;
use shared::details::{Details, Turn};
use shared::store::calls::Head;
use shared::store::deliveries::{self, DeliveryId, DeliveryResult, KeptBody};
use shared::view::{CallView, CampaignNames};

/// A call with everything.
#[derive(Serialize)]
pub struct DetailedCall<'a> {
    #[serde(flatten)]
    call: CallView<'a>,
    summary: Option<&'a str>,
    analysis: Option<&'a RawValue>,
    history: &'a [HistoryEntry],
    #[serde(skip_serializing_if = "Option::is_none")]
    transcript: Option<&'a [Turn<'a>]>,
    transcript_omitted: bool,
}

impl<'a> DetailedCall<'a> {
    /// With or without the transcript, which may be too large for one answer.
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
