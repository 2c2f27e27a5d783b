//! Calls and deliveries as the API shows them.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shared::campaign::CampaignId;
use shared::conversation::Details;
use shared::store::calls::{CallRecord, Head};
use shared::store::deliveries::{Delivery, KeptBody};

/// The names of campaigns, by id.
pub type CampaignNames = BTreeMap<CampaignId, String>;

/// A call as lists show it.
pub fn call(record: &CallRecord, names: &CampaignNames) -> Value {
    let CallRecord { call, credit, .. } = record;
    json!({
        "id": call.id,
        "agent_id": call.agent_id,
        "agent_name": call.agent_name,
        "channel": call.channel,
        "direction": call.direction,
        "customer_number": call.customer_number,
        "tracking_number": call.tracking_number,
        "started_at": call.started_at,
        "duration_seconds": call.duration_seconds,
        "outcome": call.outcome,
        "termination_reason": call.termination_reason,
        "language": call.language,
        "conversion": call.automatic_conversion(),
        "attribution": {
            "status": credit.status,
            "campaign_id": credit.campaign_id,
            "campaign_name": credit.campaign_id.as_ref().and_then(|id| names.get(id)),
            "method": credit.method,
            "by": "automatic",
            "at": credit.at,
        },
        "has_transcript": call.has_transcript,
        "arrived_by": record.arrived_by,
        "received_at": record.received_at,
        "updated_at": record.updated_at,
    })
}

/// A call with everything; `transcript` is left out where it is omitted.
pub fn detailed_call(head: &Head, names: &CampaignNames, details: &Details<'_>, transcript: bool) -> Value {
    let mut call = call(&head.record, names);
    let candidates: Vec<Value> = head
        .candidates
        .iter()
        .map(|candidate| {
            json!({
                "campaign_id": candidate.campaign_id,
                "campaign_name": names.get(&candidate.campaign_id),
                "method": candidate.method,
            })
        })
        .collect();
    call["attribution"]["evidence"] = json!(head.evidence);
    call["attribution"]["candidates"] = json!(candidates);
    call["summary"] = json!(details.summary);
    call["analysis"] = json!(details.analysis);
    call["history"] = json!([]);
    if transcript {
        call["transcript"] = json!(details.transcript);
    }
    call["transcript_omitted"] = json!(!transcript);
    call
}

/// An entry of the delivery log.
pub fn delivery(delivery: &Delivery) -> Value {
    json!({
        "id": delivery.id,
        "received_at": delivery.received_at,
        "client_ip": delivery.client_ip,
        "status": delivery.status,
        "result": delivery.result,
        "reason": delivery.reason,
        "kind": delivery.kind,
        "conversation_id": delivery.conversation_id,
        "bytes": delivery.bytes,
        "body_sha256": hex::encode(delivery.body_sha256),
        "latency_ms": delivery.latency_ms,
        "body_kept": delivery.kept_body != KeptBody::No,
    })
}
