//! Calls of customers who were erased: what stays of them, and what keeps them away.
//!
//! What stays is a head under an id of its own: a keyed hash of the conversation's id, which
//! does not tell which one that was, but tells us that it was erased. The key is made with the
//! first erasure, and lies beside the calls (`calls`/`erasure_key`), so that it goes wherever
//! they go.
//!
//! The head under the conversation's own id gives way to a *mark*, which expires: a delivery
//! that looked before the erasure and writes after it finds the head changed, not absent.
//!
//! `erasures`/conversation id is there from then on until all is done, so that what breaks off
//! is gone on with.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, Put, TransactWriteItem};
use futures_util::future::try_join_all;
use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use uuid::Uuid;

use super::bodies::body_part;
use super::decided::{HISTORY_PREFIX, HistoryItem, member_part};
use super::{CallStore, HEAD, Head, HeadItem, Written, is_mark};
use crate::call::CallId;
use crate::error::Error;
use crate::store::body::pack_body;
use crate::store::{Item, failure, from_item, text, to_item, transaction};

const KEY_ID: &str = "calls";
const KEY_PART: &str = "erasure_key";
const BODY_PREFIX: &str = "body#";
const UNFINISHED_ID: &str = "erasures";
/// How long marks are kept: longer than any delivery is under way.
pub const MARK_LIFETIME: SignedDuration = SignedDuration::from_hours(1);
/// Items of a call that are written at the same time.
const CONCURRENCY: usize = 8;

/// What stands under the id of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Nothing, yet.
    New,
    /// Its call.
    Here(Box<Head>),
    /// It was erased, and is not to come back.
    Erased,
}

/// Makes the ids of erased calls. Not shown by `Debug`.
#[derive(Clone)]
pub struct ErasureKey(String);

impl ErasureKey {
    /// The id that the call of a conversation has once it is erased: the first half of an
    /// HMAC-SHA256.
    #[must_use]
    #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
    pub fn id_of(&self, id: &CallId) -> CallId {
        let mac = Hmac::<Sha256>::new_from_slice(self.0.as_bytes()).expect("a key of any length");
        let hash = mac.chain_update(id.as_str()).finalize().into_bytes();
        CallId::of_erased(std::array::from_fn(|index| hash[index]))
    }
}

impl std::fmt::Debug for ErasureKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ErasureKey(hidden)")
    }
}

impl CallStore {
    /// What stands under the id of a conversation, as last written.
    ///
    /// # Errors
    /// When the store fails, or holds something else.
    pub async fn presence(&self, id: &CallId) -> Result<Presence, Error> {
        let (item, was_erased) = tokio::try_join!(self.get(id.as_str(), HEAD, true), self.has_remains(id))?;
        match item {
            _ if was_erased => Ok(Presence::Erased),
            Some(item) if is_mark(&item) => Ok(Presence::Erased),
            Some(item) => Ok(Presence::Here(Box::new(Head::from_item(id, item)?))),
            None => Ok(Presence::New),
        }
    }

    /// Whether the call of a conversation was erased.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn was_erased(&self, id: &CallId) -> Result<bool, Error> {
        Ok(self.presence(id).await? == Presence::Erased)
    }

    /// Whether there is what stays of an erased call.
    async fn has_remains(&self, id: &CallId) -> Result<bool, Error> {
        match self.erasure_key().await? {
            Some(key) => Ok(self.get(key.id_of(id).as_str(), HEAD, true).await?.is_some()),
            None => Ok(false),
        }
    }

    /// What makes the ids of erased calls; `None` before the first erasure. Whoever knows
    /// the key asks for it no more.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn erasure_key(&self) -> Result<Option<ErasureKey>, Error> {
        if let Some(key) = self.erasure_key.get() {
            return Ok(Some(key.clone()));
        }
        // What is erased while it is not to be seen yet has left a mark.
        let item = self.get(KEY_ID, KEY_PART, false).await?;
        item.map(|item| self.learn(item)).transpose()
    }

    /// The key, made where there is none.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn make_erasure_key(&self) -> Result<ErasureKey, Error> {
        if let Some(key) = self.erasure_key().await? {
            return Ok(key);
        }
        let item = KeyItem {
            call_id: KEY_ID.to_owned(),
            part: KEY_PART.to_owned(),
            key: format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple()),
        };
        let put = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(to_item("the erasure key", &item)?))
            .condition_expression("attribute_not_exists(call_id)")
            .send()
            .await;
        match put {
            Err(error)
                if !error
                    .as_service_error()
                    .is_some_and(|error| error.is_conditional_check_failed_exception()) =>
            {
                return Err(failure("making the erasure key", error));
            }
            Ok(_) | Err(_) => {}
        }
        let item = self.get(KEY_ID, KEY_PART, true).await?;
        let item = item.ok_or_else(|| Error::unexpected("no erasure key"))?;
        self.learn(item)
    }

    fn learn(&self, item: Item) -> Result<ErasureKey, Error> {
        let item: KeyItem = from_item("the erasure key", item)?;
        Ok(self.erasure_key.get_or_init(|| ErasureKey(item.key)).clone())
    }

    /// Puts what stays of a call in its place, a mark under its own id, and that its erasure
    /// is to be finished: all or nothing, on condition that its head is still the one that was
    /// read.
    ///
    /// # Errors
    /// When the store fails; nothing is written then.
    pub async fn put_erased(&self, before: &Head, after: &Head, now: Timestamp) -> Result<Written, Error> {
        let id = &before.record.call.id;
        let mark = MarkItem::new(id, HEAD.to_owned(), now);
        let put = |item: Item| Put::builder().table_name(&self.table).set_item(Some(item));
        let puts = [
            put(to_item("a mark", &mark)?)
                .condition_expression("revision = :seen")
                .expression_attribute_values(":seen", AttributeValue::N(before.revision.to_string())),
            put(to_item("a head", &HeadItem::from_head(after))?),
            put(to_item(
                "an unfinished erasure",
                &UnfinishedItem {
                    call_id: UNFINISHED_ID.to_owned(),
                    part: id.clone(),
                    at: now,
                },
            )?),
        ];
        let mut writes = Vec::new();
        for put in puts {
            let put = put.build();
            let put = put.map_err(|error| Error::internal("describing a write", error))?;
            writes.push(TransactWriteItem::builder().put(put).build());
        }
        let written = self
            .client
            .transact_write_items()
            .set_transact_items(Some(writes))
            .send()
            .await;
        match written {
            Ok(_) => Ok(Written::Done),
            Err(error) if transaction::was_lost_to_another(&error) => Ok(Written::Conflict),
            Err(error) => Err(transaction::failure(&format!("erasing call {id}"), error)),
        }
    }

    /// The calls whose erasure is to be finished, and since when.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn unfinished_erasures(&self) -> Result<Vec<(CallId, Timestamp)>, Error> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("call_id = :unfinished")
            .expression_attribute_values(":unfinished", text(UNFINISHED_ID))
            .consistent_read(true);
        let items = query.into_paginator().items().send();
        let items = items.collect::<Result<Vec<Item>, _>>().await;
        let items = items.map_err(|error| failure("reading unfinished erasures", error))?;
        let items = items
            .into_iter()
            .map(|item| from_item::<UnfinishedItem>("an unfinished erasure", item));
        items.map(|item| item.map(|item| (item.part, item.at))).collect()
    }

    /// Notes that the erasure of a call is finished.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn finish_erasure(&self, id: &CallId) -> Result<(), Error> {
        self.delete(UNFINISHED_ID, id.as_str()).await
    }

    /// Takes from a call all but its head: deletes its bodies, and what would undo its
    /// assignments, and moves its history to what stays of it, without the words of people.
    /// How many bodies there were.
    ///
    /// # Errors
    /// When the store fails; doing it again completes it.
    pub async fn strip(&self, id: &CallId, to: &CallId) -> Result<usize, Error> {
        for item in self.parts(id, HISTORY_PREFIX).await? {
            let mut entry: HistoryItem = from_item("an entry of the history", item)?;
            // First what only the entry knows of.
            if let Some(assignment) = &entry.entry.assignment_id {
                self.delete(assignment.as_str(), &member_part(id)).await?;
            }
            let part = entry.part.clone();
            entry.call_id = to.clone();
            entry.entry.reason = None;
            self.client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(to_item("an entry of the history", &entry)?))
                .send()
                .await
                .map_err(|error| failure("moving a history", error))?;
            self.delete(id.as_str(), &part).await?;
        }
        self.delete_bodies(id).await
    }

    /// Puts marks in the place of a body that came while its call was erased: who takes
    /// deliveries may delete nothing.
    ///
    /// # Errors
    /// When the store fails; the body is there then.
    pub async fn take_body_back(
        &self,
        id: &CallId,
        sha256: &[u8; 32],
        body: &[u8],
        now: Timestamp,
    ) -> Result<(), Error> {
        for chunk in 0..pack_body(body)?.len() {
            let mark = MarkItem::new(id, body_part(sha256, chunk), now);
            self.client
                .put_item()
                .table_name(&self.table)
                .set_item(Some(to_item("a mark", &mark)?))
                .send()
                .await
                .map_err(|error| failure(format!("taking a body of call {id} back"), error))?;
        }
        Ok(())
    }

    /// How many bodies of a call there are.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count_bodies(&self, id: &CallId) -> Result<usize, Error> {
        Ok(bodies_of(&self.body_parts(id).await?))
    }

    /// Deletes all bodies of a call; how many there were.
    ///
    /// # Errors
    /// When the store fails; doing it again completes it.
    pub async fn delete_bodies(&self, id: &CallId) -> Result<usize, Error> {
        let parts = self.body_parts(id).await?;
        for parts in parts.chunks(CONCURRENCY) {
            try_join_all(parts.iter().map(|part| self.delete(id.as_str(), part))).await?;
        }
        Ok(bodies_of(&parts))
    }

    async fn body_parts(&self, id: &CallId) -> Result<Vec<String>, Error> {
        let parts = self.parts(id, BODY_PREFIX).await?.into_iter();
        let parts = parts.map(|item| from_item::<PartItem>("a part of a body", item));
        parts.map(|item| Ok(item?.part)).collect()
    }

    /// The parts of a call whose names begin so; of bodies the names only.
    async fn parts(&self, id: &CallId, prefix: &str) -> Result<Vec<Item>, Error> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("call_id = :id AND begins_with(part, :prefix)")
            .expression_attribute_values(":id", text(id.as_str()))
            .expression_attribute_values(":prefix", text(prefix))
            .set_projection_expression((prefix == BODY_PREFIX).then(|| "part".to_owned()))
            .consistent_read(true);
        let items = query.into_paginator().items().send();
        let items = items.collect::<Result<Vec<Item>, _>>().await;
        items.map_err(|error| failure(format!("reading the parts of call {id}"), error))
    }

    async fn delete(&self, id: &str, part: &str) -> Result<(), Error> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .key("call_id", text(id))
            .key("part", text(part))
            .send()
            .await
            .map_err(|error| failure(format!("deleting a part of {id}"), error))?;
        Ok(())
    }
}

/// How many bodies parts belong to.
fn bodies_of(parts: &[String]) -> usize {
    let bodies: BTreeSet<&str> = parts.iter().filter_map(|part| part.split('#').nth(1)).collect();
    bodies.len()
}

// ------------------------------------------------------------------- items

#[derive(Serialize, Deserialize)]
struct KeyItem {
    call_id: String,
    part: String,
    key: String,
}

#[derive(Serialize)]
struct MarkItem {
    call_id: CallId,
    part: String,
    erased: bool,
    expires_at: i64,
}

#[derive(Serialize, Deserialize)]
struct UnfinishedItem {
    call_id: String,
    part: CallId,
    at: Timestamp,
}

impl MarkItem {
    fn new(id: &CallId, part: String, now: Timestamp) -> Self {
        Self {
            call_id: id.clone(),
            part,
            erased: true,
            expires_at: (now + MARK_LIFETIME).as_second(),
        }
    }
}

#[derive(Deserialize)]
struct PartItem {
    part: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_erased_call_has_an_id_that_only_the_key_can_tell() {
        let id = |text: &str| CallId::try_from(text.to_owned()).unwrap();
        let (key, other) = (ErasureKey("one".to_owned()), ErasureKey("two".to_owned()));
        let erased = key.id_of(&id("conv_1"));
        assert!(erased.is_erased() && !id("conv_1").is_erased());
        assert_eq!(key.id_of(&id("conv_1")), erased);
        assert_ne!(key.id_of(&id("conv_2")), erased);
        assert_ne!(other.id_of(&id("conv_1")), erased);
    }
}
