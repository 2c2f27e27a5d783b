//! The table of calls: an item collection for each call.
//!
//! | part | what | written by |
//! |---|---|---|
//! | `head` | what lists show, the rules' evidence, the version of the facts | ingest and decide, on condition of its revision |
//! | `history#<revision>` | a decision of a person, as the history tells it | with the head, both or neither |
//! | `body#<sha256>#<chunk>` | a raw body, compressed; chunk `000` last, as the mark that it is complete | ingest |
//!
//! An assignment has a collection of its own, so that it can be undone:
//! assignment id/`member#<call id>`, what the call was before. It is written with
//! the head, too.
//!
//! Beside them `calls`/`months`: the months in which any call started, so that
//! lists visit those and no others.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::{AttributeValue, Put, ReturnValue, TransactWriteItem};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::body::{ChunkItem, pack, unpack};
use super::{Item, Page, cursor, failure, from_item, month_of, text, to_item, transaction};
use crate::attribution::{Attribution, Candidate, Evidence, RuleResult, Status};
use crate::call::{ArrivedBy, Call, CallId, CampaignVariables, Channel, Direction, Outcome};
use crate::campaign::CampaignId;
use crate::decision::{Assigned, AssignmentId, Credit, Decisions, HistoryEntry};
use crate::error::Error;
use crate::phone_number::PhoneNumber;

const HEAD: &str = "head";
const HISTORY_PREFIX: &str = "history#";
const MEMBER_PREFIX: &str = "member#";
const MONTHS_ID: &str = "calls";
const MONTHS_PART: &str = "months";
const BY_START: &str = "by-start";
const BY_CAMPAIGN: &str = "by-campaign";

/// Entries of a call's history that are shown, the latest ones.
const MAX_HISTORY: i32 = 200;
/// Sorts after every start of a call.
const ABOVE_ALL: &str = "~";
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
    /// What people decided.
    pub decisions: Decisions,
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
    /// Why the rules named the campaign, where they named one.
    pub evidence: Option<Evidence>,
    /// Who else claims it.
    pub candidates: Vec<Candidate>,
    /// The re-attribution that asked the rules last, unless a delivery did.
    pub reattributed_by: Option<AssignmentId>,
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

/// What a call was before an assignment, so that it can be undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The assignment.
    pub assignment_id: AssignmentId,
    /// The call.
    pub call_id: CallId,
    /// What it was.
    pub before: Before,
    /// Whether it was undone.
    pub undone: bool,
}

/// The layer that an assignment changed, as it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// A person's: what had been decided, if anything, and by which assignment.
    Assigned {
        /// What.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        assigned: Option<Assigned>,
        /// By which.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        assignment_id: Option<AssignmentId>,
    },
    /// The rules', before a re-attribution.
    Rules(Box<RuleLayer>),
}

/// A decision, ready to be written: all of it or nothing.
#[derive(Debug, Clone)]
pub struct Decided {
    /// The head with the decision.
    pub head: Head,
    /// What the history says of it; nothing where nobody could see a difference.
    pub entry: Option<HistoryEntry>,
    /// What is to be known for undoing it.
    pub member: Option<Member>,
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
pub struct CallFilter {
    /// By their credit.
    pub credit: CreditFilter,
    /// Those that began at this instant or later.
    pub from: Option<Timestamp>,
    /// Those that began before this instant.
    pub to: Option<Timestamp>,
}

/// Which calls a list shows, by their credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreditFilter {
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

    // ----------------------------------------------------------- decisions

    /// Writes a decision: the head, on condition that it is still the one that
    /// was read, the entry in the history, the member of the assignment.
    ///
    /// # Errors
    /// When the store fails; nothing is written then.
    pub async fn put_decided(&self, decided: &Decided) -> Result<Written, Error> {
        let Decided { head, entry, member } = decided;
        let id = &head.record.call.id;
        let incomplete = |error| Error::internal("describing a write", error);
        let put = |item: Item| Put::builder().table_name(&self.table).set_item(Some(item));
        let head_put = put(to_item("a head", &HeadItem::from_head(head))?)
            .condition_expression("revision = :seen")
            .expression_attribute_values(":seen", AttributeValue::N((head.revision - 1).to_string()))
            .build()
            .map_err(incomplete)?;
        let mut puts = vec![head_put];
        if let Some(entry) = entry {
            let item = HistoryItem {
                call_id: id.clone(),
                part: history_part(head.revision),
                entry: entry.clone(),
            };
            let item = to_item("an entry of the history", &item)?;
            puts.push(put(item).build().map_err(incomplete)?);
        }
        if let Some(member) = member {
            let item = MemberItem {
                call_id: member.assignment_id.clone(),
                part: member_part(&member.call_id),
                member_id: member.call_id.clone(),
                before: member.before.clone(),
                undone: member.undone,
            };
            puts.push(
                put(to_item("a member of an assignment", &item)?)
                    .build()
                    .map_err(incomplete)?,
            );
        }
        let puts = puts
            .into_iter()
            .map(|put| TransactWriteItem::builder().put(put).build());
        let written = self
            .client
            .transact_write_items()
            .set_transact_items(Some(puts.collect()))
            .send()
            .await;
        match written {
            Ok(_) => Ok(Written::Done),
            Err(error) if transaction::was_lost_to_another(&error) => Ok(Written::Conflict),
            Err(error) => Err(transaction::failure(&format!("deciding about call {id}"), error)),
        }
    }

    /// The decisions about a call, the latest first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn history(&self, id: &CallId) -> Result<Vec<HistoryEntry>, Error> {
        let mut items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("call_id = :id AND begins_with(part, :prefix)")
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":prefix", text(HISTORY_PREFIX))
            .consistent_read(true)
            .scan_index_forward(false)
            .limit(MAX_HISTORY)
            .into_paginator()
            .items()
            .send();
        let mut entries = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| failure(format!("reading the history of call {id}"), error))?;
            let item: HistoryItem = from_item("an entry of the history", item)?;
            entries.push(item.entry);
            if entries.len() == MAX_HISTORY as usize {
                break;
            }
        }
        Ok(entries)
    }

    /// A page of the calls of an assignment, by their ids.
    ///
    /// # Errors
    /// When the cursor is not of this assignment, or the store fails.
    pub async fn members(
        &self,
        id: &AssignmentId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Member>, Error> {
        let list = format!("members of {id}");
        let after = cursor.map(|cursor| cursor::decode(&list, cursor)).transpose()?;
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("call_id = :id AND begins_with(part, :prefix)")
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":prefix", text(MEMBER_PREFIX))
            .set_exclusive_start_key(after.map(|after| {
                Item::from([
                    ("call_id".to_owned(), text(id.as_str())),
                    ("part".to_owned(), text(format!("{MEMBER_PREFIX}{after}"))),
                ])
            }))
            .consistent_read(true)
            .limit(i32::try_from(limit + 1).unwrap_or(i32::MAX))
            .send()
            .await
            .map_err(|error| failure("reading an assignment", error))?;
        let members: Vec<Member> = answer
            .items
            .unwrap_or_default()
            .into_iter()
            .map(|item| {
                let item: MemberItem = from_item("a member of an assignment", item)?;
                Ok(Member {
                    assignment_id: item.call_id,
                    call_id: item.member_id,
                    before: item.before,
                    undone: item.undone,
                })
            })
            .collect::<Result<_, Error>>()?;
        Ok(Page::cut(members, limit, &list, |member| member.call_id.as_str()))
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
        let lower = filter.from.map(time_text);
        let upper = filter.to.map(time_text);
        let mut after = cursor.map(|cursor| cursor::decode(&list, cursor)).transpose()?;
        let mut entries: Vec<CallRecord> = Vec::new();
        let mut queries = 0;
        for month in self.months().await?.iter().rev() {
            // Bounds begin with their month, as positions do.
            if lower
                .as_deref()
                .is_some_and(|lower| &lower[..month.len()] > month.as_str())
                || upper.as_deref().is_some_and(|upper| upper < month.as_str())
            {
                continue;
            }
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
                let after_here = after.as_deref().filter(|after| after.starts_with(month.as_str()));
                // The last one of before comes again, as bounds are included.
                let wanted = limit + 1 - entries.len() + usize::from(after_here.is_some());
                let items;
                let below = after_here.or(upper.as_deref()).map(str::to_owned);
                (items, more) = self
                    .query_month(&filter.credit, month, lower.as_deref(), below.as_deref(), wanted)
                    .await?;
                for item in items {
                    let columns: ListColumns = from_item("a call of a list", item)?;
                    if below.as_ref().is_some_and(|below| columns.started >= *below) {
                        continue;
                    }
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

    /// Entries of one month from `lower` on, the latest first and beginning at
    /// `below` or before it, and whether there are more.
    async fn query_month(
        &self,
        filter: &CreditFilter,
        month: &str,
        lower: Option<&str>,
        below: Option<&str>,
        wanted: usize,
    ) -> Result<(Vec<Item>, bool), Error> {
        let (index, attribute, value, sifted) = match filter {
            CreditFilter::All => (BY_START, "start_month", month.to_owned(), false),
            CreditFilter::Campaign(id) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month(id.as_str(), month),
                false,
            ),
            CreditFilter::Status(Status::Attributed) => (BY_START, "start_month", month.to_owned(), true),
            CreditFilter::Status(Status::Unattributed) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month("unattributed", month),
                false,
            ),
            CreditFilter::Status(Status::Ambiguous) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month("ambiguous", month),
                false,
            ),
        };
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .scan_index_forward(false)
            .limit(i32::try_from(if sifted { wanted * SIFT_FACTOR } else { wanted }).unwrap_or(i32::MAX))
            .expression_attribute_names("#bucket", attribute)
            .expression_attribute_values(":bucket", text(value))
            // A key can be bounded on both sides only with its bounds included.
            .key_condition_expression("#bucket = :bucket AND started BETWEEN :lower AND :below")
            .expression_attribute_values(":lower", text(lower.unwrap_or(month)))
            .expression_attribute_values(":below", text(below.unwrap_or(ABOVE_ALL)));
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
    /// Calls of one credit, whenever they were.
    #[must_use]
    pub fn of(credit: CreditFilter) -> Self {
        Self {
            credit,
            from: None,
            to: None,
        }
    }

    /// What a cursor of this list is bound to.
    #[must_use]
    pub fn name(&self) -> String {
        format!("calls {:?} {:?} {:?}", self.credit, self.from, self.to)
    }

    fn shows(&self, columns: &ListColumns) -> bool {
        self.credit
            .matches(&columns.decisions.credit(&columns.rule_result))
    }
}

impl CreditFilter {
    /// Whether a call with this credit is among them.
    #[must_use]
    pub fn matches(&self, credit: &Credit) -> bool {
        match self {
            Self::All => true,
            Self::Campaign(id) => credit.campaign_id.as_ref() == Some(id),
            Self::Status(status) => credit.status == *status,
        }
    }
}

// -------------------------------------------------------------------- keys

fn body_part(sha256: &[u8; 32], chunk: usize) -> String {
    format!("body#{}#{chunk:03}", hex::encode(sha256))
}

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
        (Status::Attributed | Status::Unattributed, _) => "unattributed",
        (Status::Ambiguous, _) => "ambiguous",
    }
}

/// Sorts as the decisions followed each other: by the revision that each led to.
fn history_part(revision: u64) -> String {
    format!("{HISTORY_PREFIX}{revision:012}")
}

fn member_part(call_id: &CallId) -> String {
    format!("{MEMBER_PREFIX}{call_id}")
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
    #[serde(default)]
    decisions: Decisions,
    arrived_by: ArrivedBy,
    received_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Serialize, Deserialize)]
struct HistoryItem {
    call_id: CallId,
    part: String,
    #[serde(flatten)]
    entry: HistoryEntry,
}

#[derive(Serialize, Deserialize)]
struct MemberItem {
    call_id: AssignmentId,
    part: String,
    member_id: CallId,
    before: Before,
    undone: bool,
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
    #[serde(default)]
    campaign_variables: CampaignVariables,
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
            version: Version {
                at: self.version_at,
                sha256,
            },
            revision: self.revision,
        })
    }
}
