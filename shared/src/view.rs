//! Calls as the API shows them, wherever it shows them.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::attribution::{Evidence, Method, Status};
use crate::call::{ArrivedBy, CallId, Channel, Direction, Outcome};
use crate::campaign::CampaignId;
use crate::conversion::Conversion;
use crate::decision::{Assigned, CreditMethod};
use crate::phone_number::PhoneNumber;
use crate::store::calls::{CallRecord, Head};

/// The names of campaigns, by id.
pub type CampaignNames = BTreeMap<CampaignId, String>;

/// A call as lists show it.
#[derive(Debug, Serialize)]
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

#[derive(Debug, Serialize)]
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

#[derive(Debug, Serialize)]
struct Why<'a> {
    evidence: Option<&'a Evidence>,
    candidates: Vec<CandidateView<'a>>,
}

#[derive(Debug, Serialize)]
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
