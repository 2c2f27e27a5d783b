//! What people decide about a call: the layer that no machine overwrites.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attribution::{Method, RuleResult, Status};
use crate::call::Call;
use crate::campaign::CampaignId;
use crate::conversion::{Conversion, ConversionSource, ConversionState, Money};
use crate::identity::Identity;
use crate::time_id;

/// The id of an assignment: one decision about one call or many, which can be
/// undone as a whole. `asg_` and 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^asg_[0-9a-f]{32}$"))]
pub struct AssignmentId(String);

impl AssignmentId {
    /// A new id of an assignment made at an instant.
    #[must_use]
    pub fn new(at: Timestamp) -> Self {
        Self(time_id::new("asg_", at))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for AssignmentId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if time_id::is("asg_", &text) {
            Ok(Self(text))
        } else {
            Err("an assignment id is asg_ and 32 hexadecimal digits")
        }
    }
}

impl From<AssignmentId> for String {
    fn from(id: AssignmentId) -> Self {
        id.0
    }
}

impl fmt::Display for AssignmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a person credits a call to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assigned {
    /// The campaign; to none where `None`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// The person.
    pub by: Identity,
    /// When.
    pub at: Timestamp,
}

/// Whether a person says that a call reached its goal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Converted {
    /// Whether it did.
    pub converted: bool,
    /// What that is worth.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Money>,
    /// The person.
    pub by: Identity,
    /// When.
    pub at: Timestamp,
}

/// The layer of people: the last decision of each kind, if any.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Decisions {
    /// Whom the call is credited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<Assigned>,
    /// The assignment that decided so; also one that returned it to automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignment_id: Option<AssignmentId>,
    /// Whether it reached its goal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub converted: Option<Converted>,
}

/// Whom a call is credited to, all layers together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Credit {
    /// Where the call stands.
    pub status: Status,
    /// The campaign, of an attributed call.
    pub campaign_id: Option<CampaignId>,
    /// The rule that named it, or `manual`.
    pub method: Option<CreditMethod>,
}

/// How a call came to its credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CreditMethod {
    /// A person decided.
    Manual,
    /// A rule did.
    #[serde(untagged)]
    Rule(Method),
}

impl Decisions {
    /// Whom the call is credited to: a person's word, or else the rules'.
    #[must_use]
    pub fn credit(&self, rules: &RuleResult) -> Credit {
        match &self.assigned {
            Some(Assigned { campaign_id, .. }) => Credit {
                status: match campaign_id {
                    Some(_) => Status::Attributed,
                    None => Status::Unattributed,
                },
                campaign_id: campaign_id.clone(),
                method: Some(CreditMethod::Manual),
            },
            None => Credit {
                status: rules.status,
                campaign_id: rules.campaign_id.clone(),
                method: rules.method.map(CreditMethod::Rule),
            },
        }
    }

    /// Whether the call reached its goal: a person's word, or else the outcome's.
    #[must_use]
    pub fn conversion(&self, call: &Call) -> Conversion {
        match &self.converted {
            Some(Converted {
                converted,
                value,
                by,
                at,
            }) => Conversion {
                converted: *converted,
                source: ConversionSource::Manual,
                by: Some(by.clone()),
                at: Some(*at),
                value: value.clone(),
            },
            None => Conversion::automatic(call),
        }
    }
}

/// A decision as the history of a call tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HistoryEntry {
    /// When.
    pub at: Timestamp,
    /// Who.
    pub by: Identity,
    /// What changed.
    #[serde(flatten)]
    pub change: Change,
    /// Why, in the person's words, or what kind of decision it was.
    pub reason: Option<String>,
    /// The assignment that it was part of.
    pub assignment_id: Option<AssignmentId>,
}

impl Change {
    /// Whether anybody can see a difference; the rules may name the same campaign for
    /// another reason.
    #[must_use]
    pub fn is_visible(&self) -> bool {
        match self {
            Self::Attribution { from, to } => from != to,
            Self::Conversion { .. } => true,
        }
    }
}

/// What a decision changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Change {
    /// Whom the call is credited to.
    Attribution {
        /// Before.
        from: Credit,
        /// After.
        to: Credit,
    },
    /// Whether it reached its goal.
    Conversion {
        /// Before.
        from: ConversionState,
        /// After.
        to: ConversionState,
    },
}
