//! The delivery log: every attempt, and the bodies that became no call.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `<month>#<shard>` | delivery id | an entry of the log |
//! | delivery id | `body#<chunk>` | a kept body, compressed |
//!
//! Ids begin with their time, so they sort by it and name their bucket. A month
//! is spread over four buckets: one partition takes 1,000 writes a second.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::primitives::Blob;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::body::{ChunkItem, pack, unpack};
use super::{Page, cursor, failure, from_item, month_of, text, to_item};
use crate::call::CallId;
use crate::error::Error;
use crate::time_id;

const LIST: &str = "deliveries";
const SHARDS: u8 = 4;
/// How long entries are kept, but for those whose body is still to be understood.
pub const RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The id of a delivery: `dlv_` and 32 hexadecimal digits, a UUID of version 7.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeliveryId(String);

impl DeliveryId {
    /// A new id of a delivery that was received at an instant.
    #[must_use]
    pub fn new(received_at: Timestamp) -> Self {
        Self(time_id::new("dlv_", received_at))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn uuid(text: &str) -> Option<Uuid> {
        let uuid = Uuid::try_parse(text.strip_prefix("dlv_")?).ok()?;
        (text.len() == 36 && uuid.get_version_num() == 7).then_some(uuid)
    }

    /// The bucket of its entry; an id that was checked has a time.
    fn bucket(&self) -> Option<String> {
        let uuid = Self::uuid(&self.0)?;
        let (seconds, _) = uuid.get_timestamp()?.to_unix();
        let time = Timestamp::from_second(i64::try_from(seconds).ok()?).ok()?;
        Some(bucket(&month_of(time), uuid.as_bytes()[15] % SHARDS))
    }
}

impl TryFrom<String> for DeliveryId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let id = Self(text);
        match id.bucket() {
            Some(_) if !id.0.bytes().any(|byte| byte.is_ascii_uppercase()) => Ok(id),
            _ => Err("a delivery id is dlv_ and 32 hexadecimal digits"),
        }
    }
}

impl From<DeliveryId> for String {
    fn from(id: DeliveryId) -> Self {
        id.0
    }
}

/// What came of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryResult {
    /// It made a call.
    Stored,
    /// It brought newer facts of a call.
    Updated,
    /// It was here before.
    Duplicate,
    /// It is genuine and changes no call: another kind of event, or older facts.
    Ignored,
    /// It is genuine and could not be understood; its body waits for newer code.
    Unparsed,
    /// It was refused.
    Refused,
    /// We could not store it; the sender tries again.
    Failed,
}

impl DeliveryResult {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Updated => "updated",
            Self::Duplicate => "duplicate",
            Self::Ignored => "ignored",
            Self::Unparsed => "unparsed",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Where the body of a delivery is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeptBody {
    /// Not kept.
    No,
    /// With its call.
    WithCall,
    /// In the log.
    InLog,
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// When the gateway received it.
    pub received_at: Timestamp,
    /// When it was signed, where it was verified: what stands in for a time that
    /// its body does not tell.
    pub signed_at: Option<Timestamp>,
    /// Who sent it, by the rules on trusted proxies.
    pub client_ip: std::net::IpAddr,
    /// The status answered.
    pub status: u16,
    /// What came of it.
    pub result: DeliveryResult,
    /// Why, in one word, where it was not simply taken in.
    pub reason: Option<String>,
    /// The provider's name for the kind of event.
    pub kind: Option<String>,
    /// The conversation that it names.
    pub conversation_id: Option<CallId>,
    /// Bytes of the body.
    pub bytes: u64,
    /// SHA-256 of the body.
    pub body_sha256: [u8; 32],
    /// From the arrival at the function until this entry was written.
    pub latency_ms: u64,
    /// Where the body is.
    pub kept_body: KeptBody,
}

/// The delivery log in DynamoDB.
#[derive(Debug, Clone)]
pub struct DeliveryStore {
    client: Client,
    table: String,
}

impl DeliveryStore {
    /// The log in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Writes an entry. It expires after [`RETENTION`], unless its body is
    /// still to be understood.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put(&self, delivery: &Delivery) -> Result<(), Error> {
        let item = to_item(
            "an entry of the delivery log",
            &EntryItem::from_delivery(delivery)?,
        )?;
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .send()
            .await
            .map_err(|error| failure("writing the delivery log", error))?;
        Ok(())
    }

    /// Keeps the body of a delivery, whole before it returns.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_body(&self, delivery: &Delivery, body: &[u8]) -> Result<(), Error> {
        let expires_at = expiry(delivery).map(|time| AttributeValue::N(time.to_string()));
        let mut writes = JoinSet::new();
        for (index, chunk) in pack(body)?.into_iter().enumerate() {
            let put = self
                .client
                .put_item()
                .table_name(&self.table)
                .item("pk", text(delivery.id.as_str()))
                .item("sk", text(format!("body#{index:03}")))
                .item("zstd", AttributeValue::B(Blob::new(chunk)));
            let put = match &expires_at {
                Some(expires_at) => put.item("expires_at", expires_at.clone()),
                None => put,
            };
            writes.spawn(put.send());
        }
        while let Some(written) = writes.join_next().await {
            written
                .map_err(|error| Error::internal("keeping a body", error))?
                .map_err(|error| failure("keeping a body", error))?;
        }
        Ok(())
    }

    /// An entry, unless it has expired.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn get(&self, id: &DeliveryId, now: Timestamp) -> Result<Delivery, Error> {
        let missing = Error::NotFound {
            message: "there is no such delivery: check the id",
        };
        let Some(bucket) = id.bucket() else {
            return Err(missing);
        };
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", text(bucket))
            .key("sk", text(id.as_str()))
            .send()
            .await
            .map_err(|error| failure("reading the delivery log", error))?;
        let Some(item) = answer.item else {
            return Err(missing);
        };
        let item: EntryItem = from_item(&format!("delivery {}", id.as_str()), item)?;
        if item.has_expired(now) {
            return Err(missing);
        }
        item.into_delivery()
    }

    /// The body kept with a delivery, byte for byte.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn body(&self, delivery: &Delivery) -> Result<Vec<u8>, Error> {
        let mut items = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :id AND begins_with(sk, :body)")
            .expression_attribute_values(":id", text(delivery.id.as_str()))
            .expression_attribute_values(":body", text("body#"))
            .into_paginator()
            .items()
            .send();
        let mut chunks: Vec<ChunkItem> = Vec::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| failure("reading a kept body", error))?;
            chunks.push(from_item("a kept body", item)?);
        }
        if chunks.is_empty() {
            return Err(Error::NotFound {
                message: "the body of this delivery is not kept",
            });
        }
        unpack(chunks, usize::try_from(delivery.bytes).unwrap_or(usize::MAX))
    }

    /// A page of the log back to the [`RETENTION`], the newest first.
    ///
    /// # Errors
    /// When the cursor is not of this list, or the store fails.
    pub async fn list(
        &self,
        limit: usize,
        cursor: Option<&str>,
        now: Timestamp,
    ) -> Result<Page<Delivery>, Error> {
        let after = cursor.map(|cursor| cursor::decode(LIST, cursor)).transpose()?;
        let mut items: Vec<EntryItem> = Vec::new();
        for month in months_back(now, now - RETENTION) {
            let mut shards = JoinSet::new();
            for shard in 0..SHARDS {
                let (store, month, after) = (self.clone(), month.clone(), after.clone());
                let wanted = limit + 1 - items.len();
                shards.spawn(async move { store.query_bucket(&month, shard, after, wanted, now).await });
            }
            let mut of_month = Vec::new();
            while let Some(found) = shards.join_next().await {
                of_month.extend(found.map_err(|error| Error::internal("listing deliveries", error))??);
            }
            of_month.sort_by(|a, b| b.sk.cmp(&a.sk));
            items.extend(of_month);
            if items.len() > limit {
                break;
            }
        }
        let page = Page::cut(items, limit, LIST, |item: &EntryItem| item.sk.as_str());
        let entries = page.entries.into_iter().map(EntryItem::into_delivery);
        Ok(Page {
            entries: entries.collect::<Result<_, _>>()?,
            next_cursor: page.next_cursor,
        })
    }

    /// The newest entries of one bucket that have not expired.
    async fn query_bucket(
        &self,
        month: &str,
        shard: u8,
        after: Option<String>,
        wanted: usize,
        now: Timestamp,
    ) -> Result<Vec<EntryItem>, Error> {
        let mut query = self
            .client
            .query()
            .table_name(&self.table)
            .expression_attribute_values(":bucket", text(bucket(month, shard)))
            .limit(i32::try_from(wanted).unwrap_or(i32::MAX))
            .scan_index_forward(false);
        query = match after {
            Some(after) => query
                .key_condition_expression("pk = :bucket AND sk < :after")
                .expression_attribute_values(":after", text(after)),
            None => query.key_condition_expression("pk = :bucket"),
        };
        let mut found = query.into_paginator().items().send();
        let mut items = Vec::new();
        while let Some(item) = found.next().await {
            let item = item.map_err(|error| failure("listing deliveries", error))?;
            let item: EntryItem = from_item("an entry of the delivery log", item)?;
            if !item.has_expired(now) {
                items.push(item);
            }
            if items.len() == wanted {
                break;
            }
        }
        Ok(items)
    }
}

// -------------------------------------------------------------------- keys

fn bucket(month: &str, shard: u8) -> String {
    format!("{month}#{shard}")
}

fn months_back(from: Timestamp, to: Timestamp) -> Vec<String> {
    let last = month_of(to);
    let mut months = vec![month_of(from)];
    let mut day = from.to_zoned(TimeZone::UTC).date().first_of_month();
    while months.last().is_some_and(|month| *month > last) {
        let Ok(earlier) = day.checked_sub(1.month()) else {
            break;
        };
        day = earlier;
        months.push(day.strftime("%Y-%m").to_string());
    }
    months
}

fn expiry(delivery: &Delivery) -> Option<i64> {
    let waits = delivery.kept_body == KeptBody::InLog && delivery.result != DeliveryResult::Ignored;
    (!waits).then(|| (delivery.received_at + RETENTION).as_second())
}

// ------------------------------------------------------------------- items

#[derive(Serialize, Deserialize)]
struct EntryItem {
    pk: String,
    sk: DeliveryId,
    received_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signed_at: Option<Timestamp>,
    client_ip: std::net::IpAddr,
    status: u16,
    result: DeliveryResult,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    conversation_id: Option<CallId>,
    bytes: u64,
    body_sha256: String,
    latency_ms: u64,
    kept_body: KeptBody,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

impl EntryItem {
    fn from_delivery(delivery: &Delivery) -> Result<Self, Error> {
        let bucket = delivery
            .id
            .bucket()
            .ok_or_else(|| Error::unexpected("a delivery id without a time"))?;
        Ok(Self {
            pk: bucket,
            sk: delivery.id.clone(),
            received_at: delivery.received_at,
            signed_at: delivery.signed_at,
            client_ip: delivery.client_ip,
            status: delivery.status,
            result: delivery.result,
            reason: delivery.reason.clone(),
            kind: delivery.kind.clone(),
            conversation_id: delivery.conversation_id.clone(),
            bytes: delivery.bytes,
            body_sha256: hex::encode(delivery.body_sha256),
            latency_ms: delivery.latency_ms,
            kept_body: delivery.kept_body,
            expires_at: expiry(delivery),
        })
    }

    /// Deletion by time-to-live may be days late.
    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at
            .is_some_and(|expires_at| expires_at <= now.as_second())
    }

    fn into_delivery(self) -> Result<Delivery, Error> {
        let mut body_sha256 = [0; 32];
        hex::decode_to_slice(&self.body_sha256, &mut body_sha256)
            .map_err(|error| Error::internal(format!("reading delivery {}", self.sk.as_str()), error))?;
        Ok(Delivery {
            id: self.sk,
            received_at: self.received_at,
            signed_at: self.signed_at,
            client_ip: self.client_ip,
            status: self.status,
            result: self.result,
            reason: self.reason,
            kind: self.kind,
            conversation_id: self.conversation_id,
            bytes: self.bytes,
            body_sha256,
            latency_ms: self.latency_ms,
            kept_body: self.kept_body,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_time_and_name_their_bucket() {
        let at = |text: &str| DeliveryId::new(text.parse().unwrap());
        let (old, new) = (at("2026-10-31T23:59:59.999Z"), at("2026-11-01T00:00:00Z"));
        assert!(old < new);
        assert!(old.bucket().unwrap().starts_with("2026-10#"));
        assert!(new.bucket().unwrap().starts_with("2026-11#"));
        assert_eq!(DeliveryId::try_from(new.0.clone()), Ok(new.clone()));
        for bad in [
            "",
            "dlv_",
            "dlv_x",
            &new.0[1..],
            &new.0.to_uppercase(),
            &format!("{}0", new.0),
        ] {
            assert!(DeliveryId::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn months_are_walked_back_without_a_gap() {
        let months = months_back(
            "2026-01-31T12:00:00Z".parse().unwrap(),
            "2025-11-02T12:00:00Z".parse().unwrap(),
        );
        assert_eq!(months, ["2026-01", "2025-12", "2025-11"]);
    }
}
