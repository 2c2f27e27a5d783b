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

/// Where a call stands with regard to campaigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Credited to one campaign.
    Attributed,
    /// Credited to none.
    Unattributed,
    /// Several campaigns claim it.
    Ambiguous,
}

/// What lists show of an attribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleResult {
    /// Where the call stands.
    pub status: Status,
    /// The campaign, of an attributed call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// The rule that named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// When the rules were asked.
    pub at: Timestamp,
}

impl Attribution {
    /// What lists show of it, as decided at an instant.
    #[must_use]
    pub fn rule_result(&self, at: Timestamp) -> RuleResult {
        let (status, named) = match self {
            Self::Unattributed => (Status::Unattributed, None),
            Self::Attributed(candidate) => (Status::Attributed, Some(candidate)),
            Self::Ambiguous(_) => (Status::Ambiguous, None),
        };
        RuleResult {
            status,
            campaign_id: named.map(|candidate| candidate.campaign_id.clone()),
            method: named.map(|candidate| candidate.method),
            at,
        }
    }

    /// Why the campaign was named, of an attributed call.
    #[must_use]
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::Attributed(candidate) => Some(&candidate.evidence),
            Self::Unattributed | Self::Ambiguous(_) => None,
        }
    }

    /// The campaigns that claim an ambiguous call.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        match self {
            Self::Ambiguous(candidates) => candidates,
            Self::Unattributed | Self::Attributed(_) => &[],
        }
    }
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
        .map(
            |NumberAssignment {
                 campaign_id,
                 from,
                 to,
                 ..
             }| Candidate {
                campaign_id: campaign_id.clone(),
                method: Method::TrackingNumber,
                evidence: Evidence::TrackingNumber {
                    number: number.clone(),
                    from: *from,
                    to: *to,
                },
            },
        )
        .into_iter()
        .collect()
}
