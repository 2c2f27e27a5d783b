//! The table of calls: an item collection for each call.
//!
//! | part | what | written by |
//! |---|---|---|
//! | `head` | what lists show, the rules' evidence, the version of the facts | ingest and decide, on condition of its revision |
//! | `history#<revision>` | a decision of a person, as the history tells it | with the head, both or neither |
//! | `body#<sha256>#<chunk>` | a raw body, compressed; chunk `000` last, as the mark that it is complete | ingest |
//!
//! Of an erased call there is the head of what stays of it, and for a while a *mark* in the
//! place of the head that it had; see `erased`.
//!
//! An assignment has a collection of its own, so that it can be undone:
//! assignment id/`member#<call id>`, what the call was before. It is written with
//! the head, too.
//!
//! Beside them `calls`/`months`: the months in which any call started, so that
//! lists visit those and no others.

mod bodies;
mod decided;
mod erased;
mod filter;
mod lists;

pub use decided::{Before, Decided, Member};
pub use erased::{ErasureKey, MARK_LIFETIME, Presence};
pub use filter::{CallFilter, CallList, NumberFilter, Order, Sort};
pub use lists::window_too_large;

use std::sync::{Arc, OnceLock};

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use super::{BodyRetention, Item, failure, from_item, month_of, text, to_item};
use crate::attribution::{Attribution, Candidate, Evidence, RuleResult, Status};
use crate::call::{ArrivedBy, Call, CallId, CampaignVariables, Channel, Direction, Outcome};
use crate::decision::{AssignmentId, Credit, Decisions};
use crate::error::Error;
use crate::phone_number::PhoneNumber;

const HEAD: &str = "head";

/// One version of what the provider says about a call, ordered as they count:
/// by the time that the provider gave it, then by the bytes, so that two of the
/// same time have an order that does not depend on which came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// When the provider made it.
    pub at: Timestamp,
    /// SHA-256 of the body.
    pub sha256: [u8; 32],
}

/// A call as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallRecord {
    /// The facts, of the newest version.
    pub call: Call,
    /// What the rules said.
    pub rule_result: RuleResult,
    /// What people decided.
    pub decisions: Decisions,
    /// Which way it came in first.
    pub arrived_by: ArrivedBy,
    /// When it came in first.
    pub received_at: Timestamp,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
}

impl CallRecord {
    /// Where it stands in time, as text: two calls never share a position, and positions
    /// compare as the calls' starts do.
    #[must_use]
    pub fn position(&self) -> String {
        position(&self.call)
    }
}

/// All that is stored of a call but the bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What lists show.
    pub record: CallRecord,
    /// Why the rules named the campaign, where they named one.
    pub evidence: Option<Evidence>,
    /// Who else claims it.
    pub candidates: Vec<Candidate>,
    /// The re-attribution that asked the rules last, unless a delivery did.
    pub reattributed_by: Option<AssignmentId>,
    /// What the provider's listing said of the call when sync fetched it last, by
    /// [`Listed::fingerprint`](crate::listing::Listed::fingerprint).
    pub listed_as: Option<String>,
    /// The version of the facts.
    pub version: Version,
    /// Counts the writes; a write is on condition that nobody else wrote since.
    pub revision: u64,
}

/// The layer of the rules, whole, as it was before a re-attribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleLayer {
    rule_result: RuleResult,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Candidate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reattributed_by: Option<AssignmentId>,
}

impl Head {
    fn from_item(id: &CallId, item: Item) -> Result<Self, Error> {
        from_item::<HeadItem>(&format!("the head of call {id}"), item)?.into_head()
    }

    /// Whom the call is credited to, all layers together.
    #[must_use]
    pub fn credit(&self) -> Credit {
        self.record.decisions.credit(&self.record.rule_result)
    }

    /// Its layer of the rules.
    #[must_use]
    pub fn rule_layer(&self) -> RuleLayer {
        RuleLayer {
            rule_result: self.record.rule_result.clone(),
            evidence: self.evidence.clone(),
            candidates: self.candidates.clone(),
            reattributed_by: self.reattributed_by.clone(),
        }
    }

    /// Puts another layer of the rules in its place.
    pub fn set_rule_layer(&mut self, layer: RuleLayer) {
        self.record.rule_result = layer.rule_result;
        self.evidence = layer.evidence;
        self.candidates = layer.candidates;
        self.reattributed_by = layer.reattributed_by;
    }

    /// Puts what the rules say now in the place of what they said.
    pub fn set_attribution(
        &mut self,
        attribution: &Attribution,
        reattributed_by: Option<AssignmentId>,
        at: Timestamp,
    ) {
        self.set_rule_layer(RuleLayer {
            rule_result: attribution.rule_result(at),
            evidence: attribution.evidence().cloned(),
            candidates: attribution.candidates().to_vec(),
            reattributed_by,
        });
    }
}

/// What is said of a call that is not there.
pub const NO_CALL: Error = Error::NotFound {
    message: "there is no such call: check the id",
};

/// Whether a conditional write took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It did.
    Done,
    /// Somebody else wrote since the item was read.
    Conflict,
}

/// The calls in DynamoDB.
#[derive(Debug, Clone)]
pub struct CallStore {
    client: Client,
    table: String,
    body_retention: BodyRetention,
    /// Once it is known, for it never changes.
    erasure_key: Arc<OnceLock<ErasureKey>>,
}

impl CallStore {
    /// The calls in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self {
            client,
            table,
            body_retention: BodyRetention::default(),
            erasure_key: Arc::default(),
        }
    }

    /// Keeps the bodies that come from now on for so long.
    #[must_use]
    pub fn keeping_bodies(self, body_retention: BodyRetention) -> Self {
        Self {
            body_retention,
            ..self
        }
    }

    /// The head of a call, as last written; none of one that was erased.
    ///
    /// # Errors
    /// When the store fails, or holds something else.
    pub async fn head(&self, id: &CallId) -> Result<Option<Head>, Error> {
        let item = self.get(id.as_str(), HEAD, true).await?;
        let item = item.filter(|item| !is_mark(item));
        item.map(|item| Head::from_item(id, item)).transpose()
    }

    /// Writes a head on condition that it is still the one that was read:
    /// `head.revision` 1 makes it, any other follows the one before.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_head(&self, head: &Head) -> Result<Written, Error> {
        let id = &head.record.call.id;
        let item = to_item("a head", &HeadItem::from_head(head))?;
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item));
        let put = if head.revision == 1 {
            put.condition_expression("attribute_not_exists(call_id)")
        } else {
            put.condition_expression("revision = :seen")
                .expression_attribute_values(":seen", AttributeValue::N((head.revision - 1).to_string()))
        };
        match put.send().await {
            Ok(_) => Ok(Written::Done),
            // A decision that is being written counts as somebody who was faster.
            Err(error)
                if error.as_service_error().is_some_and(|error| {
                    error.is_conditional_check_failed_exception() || error.is_transaction_conflict_exception()
                }) =>
            {
                Ok(Written::Conflict)
            }
            Err(error) => Err(failure(format!("writing the head of call {id}"), error)),
        }
    }

    async fn get(&self, id: &str, part: &str, consistent: bool) -> Result<Option<Item>, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("call_id", text(id))
            .key("part", text(part))
            .consistent_read(consistent)
            .send()
            .await
            .map_err(|error| failure(format!("reading {part} of call {id}"), error))?;
        Ok(answer.item)
    }
}

// -------------------------------------------------------------------- keys

/// Where a call stands in a list by time: its start, then its id.
fn position(call: &Call) -> String {
    format!("{}#{}", time_text(call.started_at), call.id)
}

fn time_text(instant: Timestamp) -> String {
    let start = instant.to_zoned(TimeZone::UTC);
    start.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}

fn campaign_month(credited_to: &str, month: &str) -> String {
    format!("{credited_to}#{month}")
}

fn credited_to(credit: &Credit) -> &str {
    match (credit.status, &credit.campaign_id) {
        (Status::Attributed, Some(id)) => id.as_str(),
        (Status::Attributed | Status::Unattributed, _) => Status::Unattributed.as_str(),
        (Status::Ambiguous, _) => Status::Ambiguous.as_str(),
    }
}

// ------------------------------------------------------------------- items

/// The columns that the indexes carry. Absent ones are left out, never null:
/// some are keys of an index.
#[derive(Serialize, Deserialize)]
struct ListColumns {
    call_id: CallId,
    started: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent_name: Option<String>,
    channel: Channel,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    direction: Option<Direction>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_number: Option<PhoneNumber>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracking_number: Option<PhoneNumber>,
    duration_seconds: u32,
    outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    termination_reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    language: Option<String>,
    has_transcript: bool,
    rule_result: RuleResult,
    #[serde(default)]
    decisions: Decisions,
    arrived_by: ArrivedBy,
    received_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct HeadItem {
    part: String,
    start_month: String,
    campaign_month: String,
    #[serde(flatten)]
    columns: ListColumns,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    evidence: Option<Evidence>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    candidates: Vec<Candidate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reattributed_by: Option<AssignmentId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    listed_as: Option<String>,
    #[serde(default)]
    campaign_variables: CampaignVariables,
    version_at: Timestamp,
    version_sha256: String,
    revision: u64,
}

/// Whether it is what an erased call leaves in the place of its head.
fn is_mark(item: &Item) -> bool {
    item.contains_key("erased")
}

impl ListColumns {
    fn from_record(record: &CallRecord) -> Self {
        let call = record.call.clone();
        Self {
            started: position(&call),
            call_id: call.id,
            agent_id: call.agent_id,
            agent_name: call.agent_name,
            channel: call.channel,
            direction: call.direction,
            customer_number: call.customer_number,
            tracking_number: call.tracking_number,
            duration_seconds: call.duration_seconds,
            outcome: call.outcome,
            termination_reason: call.termination_reason,
            language: call.language,
            has_transcript: call.has_transcript,
            rule_result: record.rule_result.clone(),
            decisions: record.decisions.clone(),
            arrived_by: record.arrived_by,
            received_at: record.received_at,
            updated_at: record.updated_at,
        }
    }

    fn into_record(self) -> Result<CallRecord, Error> {
        let started_at = self
            .started
            .split('#')
            .next()
            .unwrap_or_default()
            .parse()
            .map_err(|error| Error::internal(format!("reading the start of call {}", self.call_id), error))?;
        Ok(CallRecord {
            call: Call {
                id: self.call_id,
                agent_id: self.agent_id,
                agent_name: self.agent_name,
                channel: self.channel,
                direction: self.direction,
                customer_number: self.customer_number,
                tracking_number: self.tracking_number,
                started_at,
                duration_seconds: self.duration_seconds,
                outcome: self.outcome,
                termination_reason: self.termination_reason,
                language: self.language,
                has_transcript: self.has_transcript,
                campaign_variables: CampaignVariables::default(),
            },
            rule_result: self.rule_result,
            decisions: self.decisions,
            arrived_by: self.arrived_by,
            received_at: self.received_at,
            updated_at: self.updated_at,
        })
    }
}

impl HeadItem {
    fn from_head(head: &Head) -> Self {
        let month = month_of(head.record.call.started_at);
        Self {
            part: HEAD.to_owned(),
            campaign_month: campaign_month(credited_to(&head.credit()), &month),
            start_month: month,
            columns: ListColumns::from_record(&head.record),
            evidence: head.evidence.clone(),
            candidates: head.candidates.clone(),
            reattributed_by: head.reattributed_by.clone(),
            listed_as: head.listed_as.clone(),
            campaign_variables: head.record.call.campaign_variables.clone(),
            version_at: head.version.at,
            version_sha256: hex::encode(head.version.sha256),
            revision: head.revision,
        }
    }

    fn into_head(self) -> Result<Head, Error> {
        let mut sha256 = [0; 32];
        hex::decode_to_slice(&self.version_sha256, &mut sha256).map_err(|error| {
            Error::internal(
                format!("reading the version of call {}", self.columns.call_id),
                error,
            )
        })?;
        let mut record = self.columns.into_record()?;
        // Not a column of lists: only the head itself has them.
        record.call.campaign_variables = self.campaign_variables;
        Ok(Head {
            record,
            evidence: self.evidence,
            candidates: self.candidates,
            reattributed_by: self.reattributed_by,
            listed_as: self.listed_as,
            version: Version {
                at: self.version_at,
                sha256,
            },
            revision: self.revision,
        })
    }
}
