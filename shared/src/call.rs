//! A call: our record of one conversation with a customer.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::phone_number::PhoneNumber;

/// The id of a call: the provider's conversation id, whatever it looks like.
///
/// 1 to 256 bytes without control characters, since it is a key in the store
/// and a segment of addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct CallId(String);

/// How the ids of erased calls begin; no conversation's does.
const ERASED: &str = "erased_";

impl CallId {
    /// The id of the call of an erased customer, by a hash of the id that it had.
    #[must_use]
    pub fn of_erased(hash: [u8; 16]) -> Self {
        Self(format!("{ERASED}{}", hex::encode(hash)))
    }

    /// Whether it is the id of the call of an erased customer.
    #[must_use]
    pub fn is_erased(&self) -> bool {
        self.0.starts_with(ERASED)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CallId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || text.len() > 256 || text.chars().any(char::is_control) {
            return Err("a conversation id is 1 to 256 bytes without control characters");
        }
        Ok(Self(text))
    }
}

impl From<CallId> for String {
    fn from(id: CallId) -> Self {
        id.0
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How the customer was connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Channel {
    /// A telephone line: Twilio, SIP or Exotel.
    Phone,
    /// The widget or an SDK.
    Web,
    /// WhatsApp, call or text.
    Whatsapp,
    /// Text messages.
    Sms,
    /// Anything else.
    Unknown,
}

/// Who called whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The customer called.
    Inbound,
    /// The agent called.
    Outbound,
}

/// How the call went, as judged by the provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It reached its goal.
    Success,
    /// It did not.
    Failure,
    /// Not judged, or judged in words that we do not know.
    Unknown,
}

impl Outcome {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure => "failure",
            Self::Unknown => "unknown",
        }
    }
}

impl Channel {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Phone => "phone",
            Self::Web => "web",
            Self::Whatsapp => "whatsapp",
            Self::Sms => "sms",
            Self::Unknown => "unknown",
        }
    }
}

/// Which way a conversation came in first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArrivedBy {
    /// A delivery.
    Webhook,
    /// Found by asking the provider.
    Sync,
}

/// The facts of a call, as the provider tells them in one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The provider's conversation id.
    pub id: CallId,
    /// The agent that took the call first.
    pub agent_id: Option<String>,
    /// Its name; at most 128 bytes.
    pub agent_name: Option<String>,
    /// How the customer was connected.
    pub channel: Channel,
    /// Who called whom; `None` where there is no such thing, as on the web.
    pub direction: Option<Direction>,
    /// The other party, whichever the direction.
    pub customer_number: Option<PhoneNumber>,
    /// Our number, whichever the direction.
    pub tracking_number: Option<PhoneNumber>,
    /// When it began; campaigns are judged by this instant.
    pub started_at: Timestamp,
    /// How long it took.
    pub duration_seconds: u32,
    /// How it went.
    pub outcome: Outcome,
    /// Why it ended, in the provider's words; at most 128 bytes.
    pub termination_reason: Option<String>,
    /// Its main language.
    pub language: Option<String>,
    /// Whether any turn of a transcript came with it.
    pub has_transcript: bool,
    /// What its dynamic variables say about the campaign.
    pub campaign_variables: CampaignVariables,
}

/// The dynamic variables of a conversation that can name a campaign; at most
/// 128 bytes each.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct CampaignVariables {
    /// `campaign_id`: the id of a campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<String>,
    /// `utm_campaign`: the code of a campaign.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utm_campaign: Option<String>,
}
