//! The table of calls: an item collection for each call.
//!
//! | part | what | written by |
//! |---|---|---|
//! | `head` | what lists show, the rule's evidence, the version of the facts | ingest, on condition of its revision |
//! | `body#<sha256>#<chunk>` | a raw body, compressed; chunk `000` last, as the mark that it is complete | ingest |
//!
//! Beside them `calls`/`months`: the months in which any call started, so that
//! lists visit those and no others.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::body::{ChunkItem, pack, unpack};
use super::{Item, Page, cursor, failure, from_item, month_of, text, to_item};
use crate::attribution::{Candidate, Evidence, RuleResult, Status};
use crate::call::{ArrivedBy, Call, CallId, Channel, Direction, Outcome};
use crate::campaign::CampaignId;
use crate::error::Error;
use crate::phone_number::PhoneNumber;

const HEAD: &str = "head";
const MONTHS_ID: &str = "calls";
const MONTHS_PART: &str = "months";
const BY_START: &str = "by-start";
const BY_CAMPAIGN: &str = "by-campaign";

/// Entries that a list looks at for each one that it wants, when it has to pick.
const SIFT_FACTOR: usize = 4;
/// Queries that one page may cost; after them the cursor goes on.
const PAGE_QUERIES: usize = 40;

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
    /// Which way it came in first.
    pub arrived_by: ArrivedBy,
    /// When it came in first.
    pub received_at: Timestamp,
    /// When anything of it changed last.
    pub updated_at: Timestamp,
}

/// All that is stored of a call but the bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// What lists show.
    pub record: CallRecord,
    /// Why the campaign was named, of an attributed call.
    pub evidence: Option<Evidence>,
    /// Who claims it, of an ambiguous call.
    pub candidates: Vec<Candidate>,
    /// The version of the facts.
    pub version: Version,
    /// Counts the writes; a write is on condition that nobody else wrote since.
    pub revision: u64,
}

/// Whether a conditional write took effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It did.
    Done,
    /// Somebody else wrote since the item was read.
    Conflict,
}

/// Which calls a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFilter {
    /// All of them.
    All,
    /// Those credited to a campaign.
    Campaign(CampaignId),
    /// Those of one standing, whatever the campaign.
    Status(Status),
}

/// The calls in DynamoDB.
#[derive(Debug, Clone)]
pub struct CallStore {
    client: Client,
    table: String,
}

impl CallStore {
    /// The calls in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    // ------------------------------------------------------------ one call

    /// The head of a call, as last written.
    ///
    /// # Errors
    /// When the store fails, or holds something else.
    pub async fn head(&self, id: &CallId) -> Result<Option<Head>, Error> {
        let item = self.get(id.as_str(), HEAD, true).await?;
        item.map(|item| from_item::<HeadItem>(&format!("the head of call {id}"), item)?.into_head())
            .transpose()
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
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                Ok(Written::Conflict)
            }
            Err(error) => Err(failure(format!("writing the head of call {id}"), error)),
        }
    }

    // -------------------------------------------------------------- bodies

    /// Whether a body of a call is stored whole.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn has_body(&self, id: &CallId, sha256: &[u8; 32]) -> Result<bool, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("call_id", text(id.as_str()))
            .key("part", text(body_part(sha256, 0)))
            .projection_expression("part")
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failure(format!("looking for a body of call {id}"), error))?;
        Ok(answer.item.is_some())
    }

    /// Stores a body whole. Its first chunk goes last and marks it complete, so
    /// that a write that broke off is seen as none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_body(&self, id: &CallId, sha256: &[u8; 32], body: &[u8]) -> Result<(), Error> {
        let mut chunks = pack(body)?.into_iter().enumerate();
        let whole = (chunks.len(), body.len());
        let first = chunks.next();
        let mut others = JoinSet::new();
        for (index, chunk) in chunks {
            let (store, id, sha256) = (self.clone(), id.clone(), *sha256);
            others.spawn(async move { store.put_chunk(&id, &sha256, index, chunk, None).await });
        }
        while let Some(written) = others.join_next().await {
            written.map_err(|error| Error::internal("storing a body", error))??;
        }
        match first {
            Some((index, chunk)) => self.put_chunk(id, sha256, index, chunk, Some(whole)).await,
            None => Err(Error::unexpected("a body without a chunk")),
        }
    }

    async fn put_chunk(
        &self,
        id: &CallId,
        sha256: &[u8; 32],
        index: usize,
        packed: Vec<u8>,
        whole: Option<(usize, usize)>,
    ) -> Result<(), Error> {
        let mut put = self
            .client
            .put_item()
            .table_name(&self.table)
            .item("call_id", text(id.as_str()))
            .item("part", text(body_part(sha256, index)))
            .item("zstd", AttributeValue::B(Blob::new(packed)));
        if let Some((chunks, bytes)) = whole {
            put = put
                .item("chunks", AttributeValue::N(chunks.to_string()))
                .item("bytes", AttributeValue::N(bytes.to_string()));
        }
        put.send()
            .await
            .map_err(|error| failure(format!("writing a body of call {id}"), error))?;
        Ok(())
    }

    /// A body of a call, byte for byte; `None` where it is not stored whole.
    ///
    /// # Errors
    /// When the store fails, or what it holds is not what was stored.
    pub async fn body(&self, id: &CallId, sha256: &[u8; 32]) -> Result<Option<Vec<u8>>, Error> {
        let mut items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("call_id = :id AND begins_with(part, :prefix)")
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":prefix", text(format!("body#{}#", hex::encode(sha256))))
            .consistent_read(true)
            .into_paginator()
            .items()
            .send();
        let what = format!("a body of call {id}");
        let mut chunks: Vec<ChunkItem> = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| failure(format!("reading {what}"), error))?;
            chunks.push(from_item(&what, item)?);
        }
        let Some(&ChunkItem {
            chunks: Some(count),
            bytes: Some(bytes),
            ..
        }) = chunks.first()
        else {
            return Ok(None);
        };
        if count > chunks.len() {
            return Err(Error::unexpected(format!("{what} is not what was stored")));
        }
        // A write that broke off under other code may have left more of them.
        chunks.truncate(count);
        unpack(chunks, bytes).map(Some)
    }

    // -------------------------------------------------------------- months

    /// Whether lists look into the month of an instant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lists_month_of(&self, instant: Timestamp) -> Result<bool, Error> {
        Ok(self.months().await?.contains(&month_of(instant)))
    }

    /// Makes lists look into the month of an instant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_month_of(&self, instant: Timestamp) -> Result<(), Error> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("call_id", text(MONTHS_ID))
            .key("part", text(MONTHS_PART))
            .update_expression("ADD months :month")
            .expression_attribute_values(":month", AttributeValue::Ss(vec![month_of(instant)]))
            .return_values(ReturnValue::None)
            .send()
            .await
            .map_err(|error| failure("noting a month", error))?;
        Ok(())
    }

    async fn months(&self) -> Result<BTreeSet<String>, Error> {
        let item = self.get(MONTHS_ID, MONTHS_PART, false).await?;
        let item: MonthsItem = match item {
            Some(item) => from_item("the months", item)?,
            None => MonthsItem::default(),
        };
        Ok(item.months)
    }

    // --------------------------------------------------------------- lists

    /// A page of calls, the latest start first, full unless the data ends or
    /// the page's budget of queries does.
    ///
    /// # Errors
    /// When the cursor is not of this list, or the store fails.
    pub async fn list(
        &self,
        filter: &CallFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<CallRecord>, Error> {
        let list = filter.name();
        let mut after = cursor.map(|cursor| cursor::decode(&list, cursor)).transpose()?;
        let mut entries: Vec<CallRecord> = Vec::new();
        let mut queries = 0;
        for month in self.months().await?.iter().rev() {
            // A position begins with its month.
            if after.as_deref().is_some_and(|after| after < month.as_str()) {
                continue;
            }
            let mut more = true;
            while more {
                if queries == PAGE_QUERIES {
                    return Ok(Page {
                        entries,
                        next_cursor: after.map(|after| cursor::encode(&list, &after)),
                    });
                }
                queries += 1;
                let wanted = limit + 1 - entries.len();
                let items;
                (items, more) = self.query_month(filter, month, after.as_deref(), wanted).await?;
                for item in items {
                    let columns: ListColumns = from_item("a call of a list", item)?;
                    let shown = filter.shows(&columns);
                    if shown && entries.len() == limit {
                        // There is one more, so this page has a next one.
                        let last = entries.last().map(|last| position(&last.call));
                        return Ok(Page {
                            entries,
                            next_cursor: last.map(|last| cursor::encode(&list, &last)),
                        });
                    }
                    after = Some(columns.started.clone());
                    if shown {
                        entries.push(columns.into_record()?);
                    }
                }
            }
            // Below every position of this month, above those of the months before.
            after = Some(month.clone());
        }
        Ok(Page {
            entries,
            next_cursor: None,
        })
    }

    /// Entries of one month, and whether it holds more.
    async fn query_month(
        &self,
        filter: &CallFilter,
        month: &str,
        after: Option<&str>,
        wanted: usize,
    ) -> Result<(Vec<Item>, bool), Error> {
        let (index, attribute, value, sifted) = match filter {
            CallFilter::All => (BY_START, "start_month", month.to_owned(), false),
            CallFilter::Campaign(id) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month(id.as_str(), month),
                false,
            ),
            CallFilter::Status(Status::Attributed) => (BY_START, "start_month", month.to_owned(), true),
            CallFilter::Status(Status::Unattributed) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month("unattributed", month),
                false,
            ),
            CallFilter::Status(Status::Ambiguous) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month("ambiguous", month),
                false,
            ),
        };
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .scan_index_forward(false)
            .limit(i32::try_from(if sifted { wanted * SIFT_FACTOR } else { wanted }).unwrap_or(i32::MAX))
            .expression_attribute_names("#bucket", attribute)
            .expression_attribute_values(":bucket", text(value));
        // The latest position of the month before is below all of this one.
        query = match after.filter(|after| after.starts_with(month)) {
            Some(after) => query
                .key_condition_expression("#bucket = :bucket AND started < :after")
                .expression_attribute_values(":after", text(after)),
            None => query.key_condition_expression("#bucket = :bucket"),
        };
        let answer = query
            .send()
            .await
            .map_err(|error| failure("listing calls", error))?;
        let more = answer.last_evaluated_key.is_some();
        Ok((answer.items.unwrap_or_default(), more))
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

impl CallFilter {
    /// What a cursor of this list is bound to.
    fn name(&self) -> String {
        match self {
            Self::All => "calls".to_owned(),
            Self::Campaign(id) => format!("calls of {id}"),
            Self::Status(status) => format!("calls {status:?}"),
        }
    }

    fn shows(&self, columns: &ListColumns) -> bool {
        match self {
            Self::All => true,
            Self::Campaign(id) => columns.rule_result.campaign_id.as_ref() == Some(id),
            Self::Status(status) => columns.rule_result.status == *status,
        }
    }
}

// -------------------------------------------------------------------- keys

fn body_part(sha256: &[u8; 32], chunk: usize) -> String {
    format!("body#{}#{chunk:03}", hex::encode(sha256))
}

/// Where a call stands in a list by time: its start, then its id.
fn position(call: &Call) -> String {
    let start = call.started_at.to_zoned(TimeZone::UTC);
    format!("{}#{}", start.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"), call.id)
}

fn campaign_month(credited_to: &str, month: &str) -> String {
    format!("{credited_to}#{month}")
}

fn credited_to(rule_result: &RuleResult) -> &str {
    match (rule_result.status, &rule_result.campaign_id) {
        (Status::Attributed, Some(id)) => id.as_str(),
        (Status::Attributed | Status::Unattributed, _) => "unattributed",
        (Status::Ambiguous, _) => "ambiguous",
    }
}

// ------------------------------------------------------------------- items

#[derive(Deserialize, Default)]
struct MonthsItem {
    months: BTreeSet<String>,
}

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
    version_at: Timestamp,
    version_sha256: String,
    revision: u64,
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
            },
            rule_result: self.rule_result,
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
            campaign_month: campaign_month(credited_to(&head.record.rule_result), &month),
            start_month: month,
            columns: ListColumns::from_record(&head.record),
            evidence: head.evidence.clone(),
            candidates: head.candidates.clone(),
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
        Ok(Head {
            record: self.columns.into_record()?,
            evidence: self.evidence,
            candidates: self.candidates,
            version: Version {
                at: self.version_at,
                sha256,
            },
            revision: self.revision,
        })
    }
}
