//! Campaigns, their numbers, agents and contacts, as requests bring them and
//! answers show them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::campaign::{Asset, Campaign, CampaignId, CampaignStatus, Contact, Wanted};
use crate::error::Error;
use crate::http::{Instant, given};
use crate::identity::Identity;
use crate::phone_number::{Country, PhoneNumber};
use crate::store::campaigns::{CampaignChange, CampaignRecord};

const MAX_NAME_CHARACTERS: usize = 200;
const MAX_CODE_BYTES: usize = 128;
const MAX_AGENT_ID_BYTES: usize = 128;

// ----------------------------------------------------------------- requests

/// A campaign to make.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewCampaign {
    /// What people call it: 1 to 200 characters, on one line.
    #[serde(default)]
    #[schemars(with = "String", required, length(min = 1, max = 200))]
    pub name: Option<String>,
    /// What machines call it, for example in `utm_campaign`; unique, without blanks.
    #[serde(default)]
    #[schemars(length(min = 1, max = 128))]
    pub code: Option<String>,
}

impl NewCampaign {
    /// The campaign, made now.
    ///
    /// # Errors
    /// Names the field that can't be what it should.
    pub fn into_campaign(self, by: &Identity, now: Timestamp) -> Result<Campaign, Error> {
        Ok(Campaign {
            id: CampaignId::new(now),
            name: read_name(self.name.as_deref().unwrap_or_default())?,
            code: self.code.as_deref().map(read_code).transpose()?,
            status: CampaignStatus::Active,
            created_at: now,
            created_by: by.clone(),
            updated_at: now,
            updated_by: by.clone(),
        })
    }
}

/// What is to change; what is not given stays.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangedCampaign {
    /// What people call it.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "String", length(min = 1, max = 200))]
    pub name: Option<String>,
    /// What machines call it; null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>", length(min = 1, max = 128))]
    pub code: Option<Option<String>>,
    /// Whether it still takes credit.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "CampaignStatus")]
    pub status: Option<CampaignStatus>,
}

impl ChangedCampaign {
    /// The change.
    ///
    /// # Errors
    /// Names the field that can't be what it should.
    pub fn into_change(self) -> Result<CampaignChange, Error> {
        let code = |code: Option<String>| code.as_deref().map(read_code).transpose();
        Ok(CampaignChange {
            name: self.name.as_deref().map(read_name).transpose()?,
            code: self.code.map(code).transpose()?,
            status: self.status,
        })
    }
}

fn read_name(text: &str) -> Result<String, Error> {
    let name = text.trim();
    let fits = (1..=MAX_NAME_CHARACTERS).contains(&name.chars().count());
    if !fits || name.chars().any(char::is_control) {
        let must = format!("name must be 1 to {MAX_NAME_CHARACTERS} characters, on one line");
        return Err(Error::invalid("name", must));
    }
    Ok(name.to_owned())
}

fn read_code(text: &str) -> Result<String, Error> {
    // What a dynamic variable can say: see CampaignVariables.
    let fits = (1..=MAX_CODE_BYTES).contains(&text.len());
    if !fits || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let must = format!("code must be 1 to {MAX_CODE_BYTES} bytes without blanks, or null");
        return Err(Error::invalid("code", must));
    }
    Ok(text.to_owned())
}

/// A number that a request names.
///
/// # Errors
/// Where it can't be any.
pub fn read_number(text: &str, country: Option<Country>) -> Result<PhoneNumber, Error> {
    let must = "number must be a phone number, or 1 to 256 bytes of other text on one line";
    PhoneNumber::parse(text, country).ok_or_else(|| Error::invalid("number", must))
}

/// An agent that a request names.
///
/// # Errors
/// Where it can't be any.
pub fn read_agent(agent_id: String) -> Result<Asset, Error> {
    let fits = (1..=MAX_AGENT_ID_BYTES).contains(&agent_id.len());
    if !fits || agent_id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let must = format!("agent_id must be 1 to {MAX_AGENT_ID_BYTES} bytes without blanks");
        return Err(Error::invalid("agent_id", must));
    }
    Ok(Asset::Agent(agent_id))
}

/// A number or an agent that is to belong to a campaign.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignmentRequest {
    /// The first instant; now by default.
    #[serde(default)]
    pub from: Option<Instant>,
    /// The first instant after it; open by default.
    #[serde(default)]
    pub to: Option<Instant>,
    /// Whether it ends where another campaign has it at that time.
    #[serde(default, rename = "move")]
    pub take_over: bool,
}

impl AssignmentRequest {
    /// What is asked for.
    #[must_use]
    pub fn into_wanted(self, campaign_id: CampaignId, by: &Identity) -> Wanted {
        Wanted {
            campaign_id,
            from: self.from.map(|Instant(from)| from),
            to: self.to.map(|Instant(to)| to),
            take_over: self.take_over,
            by: by.clone(),
        }
    }
}

/// The entry to remove, of a number or an agent that a campaign had.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct EndRequest {
    /// Where the wrong entry starts; without it, the present one ends now.
    pub from: Option<Instant>,
}

/// Customers that a campaign reached out to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewContacts {
    /// At most 10,000.
    #[schemars(length(max = 10_000))]
    pub contacts: Vec<ContactRow>,
}

/// One row of an upload, as it was given.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ContactRow {
    /// A phone number that can be called.
    pub number: String,
    /// The first instant, or date in UTC; always by default.
    #[serde(default)]
    pub from: Option<String>,
    /// The first instant, or date, after it; open by default.
    #[serde(default)]
    pub to: Option<String>,
}

// ------------------------------------------------------------------ answers

/// A page of campaigns.
#[derive(Debug, Serialize, JsonSchema)]
pub struct CampaignPage<'a> {
    /// The campaigns, the newest first.
    pub campaigns: Vec<CampaignView<'a>>,
    /// Where the next page goes on; null at the end.
    pub next_cursor: Option<String>,
}

/// A campaign as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Campaign")]
pub struct CampaignView<'a> {
    id: &'a CampaignId,
    name: &'a str,
    code: Option<&'a str>,
    status: CampaignStatus,
    created_at: Timestamp,
    created_by: &'a Identity,
    updated_at: Timestamp,
    updated_by: &'a Identity,
    /// The tracking numbers that it ever had.
    numbers: Vec<NumberAssignmentView<'a>>,
    /// The agents that it ever had.
    agents: Vec<AgentAssignmentView<'a>>,
    contact_count: u64,
}

/// A tracking number of a campaign.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "NumberAssignment")]
struct NumberAssignmentView<'a> {
    number: &'a PhoneNumber,
    #[serde(flatten)]
    span: SpanView<'a>,
}

/// An agent of a campaign.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "AgentAssignment")]
struct AgentAssignmentView<'a> {
    agent_id: &'a str,
    #[serde(flatten)]
    span: SpanView<'a>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct SpanView<'a> {
    from: Timestamp,
    to: Option<Timestamp>,
    by: &'a Identity,
    at: Timestamp,
}

impl<'a> CampaignView<'a> {
    /// A campaign with what belongs to it.
    #[must_use]
    pub fn new(record: &'a CampaignRecord) -> Self {
        let campaign = &record.campaign;
        let (mut numbers, mut agents) = (Vec::new(), Vec::new());
        for (asset, assignment) in &record.assignments {
            let span = SpanView {
                from: assignment.from,
                to: assignment.to,
                by: &assignment.by,
                at: assignment.at,
            };
            match asset {
                Asset::Number(number) => numbers.push(NumberAssignmentView { number, span }),
                Asset::Agent(agent_id) => agents.push(AgentAssignmentView { agent_id, span }),
            }
        }
        Self {
            id: &campaign.id,
            name: &campaign.name,
            code: campaign.code.as_deref(),
            status: campaign.status,
            created_at: campaign.created_at,
            created_by: &campaign.created_by,
            updated_at: campaign.updated_at,
            updated_by: &campaign.updated_by,
            numbers,
            agents,
            contact_count: record.contact_count,
        }
    }
}

/// A page of contacts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ContactPage<'a> {
    /// The contacts.
    pub contacts: Vec<ContactView<'a>>,
    /// Where the next page goes on; null at the end.
    pub next_cursor: Option<String>,
}

/// A contact as the API shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Contact")]
pub struct ContactView<'a> {
    number: &'a PhoneNumber,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    by: &'a Identity,
    at: Timestamp,
}

impl<'a> ContactView<'a> {
    /// A contact.
    #[must_use]
    pub fn new(contact: &'a Contact) -> Self {
        Self {
            number: &contact.number,
            from: contact.from,
            to: contact.to,
            by: &contact.by,
            at: contact.at,
        }
    }
}

/// What became of an upload of contacts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ContactsAdded {
    /// Contacts that are new.
    pub added: usize,
    /// Contacts that have other times now.
    pub updated: usize,
    /// Contacts that were so before.
    pub unchanged: usize,
    /// Rows that were not taken.
    pub failed: usize,
    /// Why, of the first 1,000 of them.
    pub errors: Vec<RowError>,
}

/// A row that was not taken, and why.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RowError {
    /// The line of a file, counted from 1; or the place in the list, likewise.
    pub row: u64,
    /// How to mend it.
    pub reason: String,
}

/// What became of a request to remove contacts.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ContactsRemoved {
    /// Contacts that are no more.
    pub removed: usize,
    /// Contacts that are left: ask again.
    pub remaining: u64,
}
