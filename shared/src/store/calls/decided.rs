//! Decisions about calls, their history, and what undoing them needs.

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use serde::{Deserialize, Serialize};

use super::{CallStore, Head, HeadItem, RuleLayer, Written};
use crate::call::CallId;
use crate::decision::{Assigned, AssignmentId, HistoryEntry};
use crate::error::Error;
use crate::store::{Item, Page, cursor, failure, from_item, text, to_item, transaction};

pub(super) const HISTORY_PREFIX: &str = "history#";
const MEMBER_PREFIX: &str = "member#";
/// Entries of a call's history that are shown, the latest ones.
const MAX_HISTORY: i32 = 200;

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
    /// What the history keeps of it; it tells of what anybody can see.
    pub entry: HistoryEntry,
    /// What is to be known for undoing it.
    pub member: Option<Member>,
}

impl CallStore {
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
        let item = HistoryItem {
            call_id: id.clone(),
            part: history_part(head.revision),
            entry: entry.clone(),
        };
        let item = to_item("an entry of the history", &item)?;
        let mut puts = vec![head_put, put(item).build().map_err(incomplete)?];
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
            if item.entry.change.is_visible() {
                entries.push(item.entry);
            }
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
}

/// Sorts as the decisions followed each other: by the revision that each led to.
fn history_part(revision: u64) -> String {
    format!("{HISTORY_PREFIX}{revision:012}")
}

pub(super) fn member_part(call_id: &CallId) -> String {
    format!("{MEMBER_PREFIX}{call_id}")
}

#[derive(Serialize, Deserialize)]
pub(super) struct HistoryItem {
    pub(super) call_id: CallId,
    pub(super) part: String,
    #[serde(flatten)]
    pub(super) entry: HistoryEntry,
}

#[derive(Serialize, Deserialize)]
struct MemberItem {
    call_id: AssignmentId,
    part: String,
    member_id: CallId,
    before: Before,
    undone: bool,
}
