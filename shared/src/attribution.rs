//! The credit of a call to a campaign: a pure decision with its evidence.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::campaign::{CampaignId, NumberAssignment, NumberHistory};
use crate::phone_number::PhoneNumber;

/// The rule that named the campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// An assignment of our number covers the start of the call.
    TrackingNumber,
}

/// Why a rule named a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Evidence {
    /// The assignment that covers the start of the call.
    TrackingNumber {
        /// Our number.
        number: PhoneNumber,
        /// Start of the assignment.
        from: Timestamp,
        /// Its end; open where `None`.
        to: Option<Timestamp>,
    },
}

/// A campaign that a rule named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The rule.
    pub method: Method,
    /// Why.
    pub evidence: Evidence,
}

/// What the rules say about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribution {
    /// No rule names a campaign.
    Unattributed,
    /// The first rule that names any names this one.
    Attributed(Candidate),
    /// The first rule that names any names several: a person has to choose.
    Ambiguous(Vec<Candidate>),
}

/// The campaign data that can bear on one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidates {
    /// Who had the call's tracking number when.
    pub tracking_number: NumberHistory,
}

/// Credits a call: the first rule that names any campaign decides.
#[must_use]
pub fn attribute(call: &Call, candidates: &Candidates) -> Attribution {
    let rules = [by_tracking_number(call, candidates)];
    let mut named = rules
        .into_iter()
        .find(|named| !named.is_empty())
        .unwrap_or_default();
    match named.len() {
        0 => Attribution::Unattributed,
        1 => Attribution::Attributed(named.remove(0)),
        _ => Attribution::Ambiguous(named),
    }
}

fn by_tracking_number(call: &Call, candidates: &Candidates) -> Vec<Candidate> {
    let Some(number) = &call.tracking_number else {
        return Vec::new();
    };
    candidates
        .tracking_number
        .at(call.started_at)
        .map(|NumberAssignment { campaign_id, from, to }| Candidate {
            campaign_id: campaign_id.clone(),
            method: Method::TrackingNumber,
            evidence: Evidence::TrackingNumber {
                number: number.clone(),
                from: *from,
                to: *to,
            },
        })
        .into_iter()
        .collect()
}
