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
use futures_util::future::try_join_all;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use uuid::Uuid;

use super::body::{ChunkItem, is_over, pack_body, unpack};
use super::{BodyRetention, Page, cursor, failure, from_item, month_of, text, to_item};
use crate::call::CallId;
use crate::error::Error;
use crate::time_id;

const SHARDS: u8 = 4;
/// 2026-01-01: nothing was received before this was written.
const BEGINNING: Timestamp = Timestamp::constant(1_767_225_600, 0);
/// Sorts after every id.
const END: &str = "dlv_~";
/// Entries of one query, when a list has to pick.
const QUERY_ENTRIES: usize = 500;
/// Rounds through the buckets of a month that one page may cost; after them the cursor goes on.
const PAGE_ROUNDS: usize = 20;
/// Entries that one page may cost, likewise.
const PAGE_ENTRIES: usize = 10_000;
/// How long entries are kept, but for those whose body is still to be understood.
pub const RETENTION: SignedDuration = SignedDuration::from_hours(90 * 24);

/// The id of a delivery: `dlv_` and 32 hexadecimal digits, a UUID of version 7.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^dlv_[0-9a-f]{32}$"))]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    /// In the log, as far as it was not deleted yet.
    Leaving,
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

impl Delivery {
    /// Whether its body can be there, here or with its call.
    #[must_use]
    pub fn may_have_body(&self) -> bool {
        [KeptBody::WithCall, KeptBody::InLog].contains(&self.kept_body)
    }

    /// Whether its body was written whole. That of one that failed may have been, too.
    #[must_use]
    pub fn has_body(&self) -> bool {
        self.may_have_body() && self.result != DeliveryResult::Failed
    }
}

/// Which deliveries; those for which everything that is given holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeliveryFilter {
    /// Received at this instant or later; by default as long before `to` (or now) as
    /// [`RETENTION`]. Whole milliseconds.
    pub from: Option<Timestamp>,
    /// Received before this instant; whole milliseconds.
    pub to: Option<Timestamp>,
    /// That came to this.
    pub result: Option<DeliveryResult>,
    /// That were answered so.
    pub status: Option<u16>,
    /// From this address.
    pub client_ip: Option<std::net::IpAddr>,
    /// That name this conversation.
    pub conversation_id: Option<CallId>,
}

/// What is said of a delivery that is not there.
pub const NO_DELIVERY: Error = Error::NotFound {
    message: "there is no such delivery: check the id",
};

/// The delivery log in DynamoDB.
#[derive(Debug, Clone)]
pub struct DeliveryStore {
    client: Client,
    table: String,
    body_retention: BodyRetention,
}

impl DeliveryStore {
    /// The log in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self {
            client,
            table,
            body_retention: BodyRetention::default(),
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

    /// Writes an entry. It expires after [`RETENTION`], unless its body is
    /// still to be understood.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put(&self, delivery: &Delivery) -> Result<(), Error> {
        let item = to_item(
            "an entry of the delivery log",
            &EntryItem::from_delivery(delivery, self.body_retention)?,
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

    /// Keeps the body of a delivery, whole before it returns. Its first chunk goes last and
    /// marks it complete.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_body(&self, delivery: &Delivery, body: &[u8]) -> Result<(), Error> {
        let end = self
            .body_retention
            .end(delivery.received_at)
            .map(Timestamp::as_second);
        let ends = [expiry(delivery, self.body_retention), end];
        let expires_at = ends.into_iter().flatten().min();
        let expires_at = expires_at.map(|time| AttributeValue::N(time.to_string()));
        let chunks = pack_body(body)?;
        let count = AttributeValue::N(chunks.len().to_string());
        let mut puts = chunks.into_iter().enumerate().map(|(index, chunk)| {
            let put = self
                .client
                .put_item()
                .table_name(&self.table)
                .item("pk", text(delivery.id.as_str()))
                .item("sk", text(format!("body#{index:03}")))
                .item("zstd", AttributeValue::B(Blob::new(chunk)));
            match &expires_at {
                Some(expires_at) => put.item("expires_at", expires_at.clone()),
                None => put,
            }
        });
        let first = puts.next();
        let mut others = JoinSet::new();
        for put in puts {
            others.spawn(put.send());
        }
        while let Some(written) = others.join_next().await {
            written
                .map_err(|error| Error::internal("keeping a body", error))?
                .map_err(|error| failure("keeping a body", error))?;
        }
        let first = first.ok_or_else(|| Error::unexpected("a body without a chunk"))?;
        first
            .item("chunks", count)
            .send()
            .await
            .map_err(|error| failure("keeping a body", error))?;
        Ok(())
    }

    /// An entry, unless it has expired.
    ///
    /// # Errors
    /// When there is none, or the store fails.
    pub async fn get(&self, id: &DeliveryId, now: Timestamp) -> Result<Delivery, Error> {
        let bucket = id.bucket().ok_or(NO_DELIVERY)?;
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", text(bucket))
            .key("sk", text(id.as_str()))
            .send()
            .await
            .map_err(|error| failure("reading the delivery log", error))?;
        let item = answer.item.ok_or(NO_DELIVERY)?;
        let item: EntryItem = from_item(&format!("delivery {}", id.as_str()), item)?;
        if item.has_expired(now) {
            return Err(NO_DELIVERY);
        }
        item.into_delivery(now)
    }

    /// The body kept with a delivery, byte for byte; `None` where it is not there whole.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn body(&self, delivery: &Delivery) -> Result<Option<Vec<u8>>, Error> {
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
        let count = chunks.first().and_then(|first| first.chunks);
        if count != Some(chunks.len()) {
            return Ok(None);
        }
        unpack(chunks, usize::try_from(delivery.bytes).unwrap_or(usize::MAX)).map(Some)
    }

    /// Deletes an entry with the body that is kept with it. Until the body is gone, the entry
    /// says that it is leaving, so that a deletion that breaks off can be gone on with.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn delete(&self, delivery: &Delivery) -> Result<(), Error> {
        let id = delivery.id.as_str();
        if delivery.kept_body == KeptBody::InLog {
            let kept_body = KeptBody::Leaving;
            self.put(&Delivery {
                kept_body,
                ..delivery.clone()
            })
            .await?;
        }
        if [KeptBody::InLog, KeptBody::Leaving].contains(&delivery.kept_body) {
            let mut parts = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :id")
                .expression_attribute_values(":id", text(id))
                .projection_expression("sk")
                .into_paginator()
                .items()
                .send();
            while let Some(part) = parts.next().await {
                let part = part.map_err(|error| failure("reading a kept body", error))?;
                let part: PositionItem = from_item("a kept body", part)?;
                self.delete_item(id, &part.sk).await?;
            }
        }
        let bucket = delivery.id.bucket().ok_or(NO_DELIVERY)?;
        self.delete_item(&bucket, id).await
    }

    async fn delete_item(&self, pk: &str, sk: &str) -> Result<(), Error> {
        self.client
            .delete_item()
            .table_name(&self.table)
            .key("pk", text(pk))
            .key("sk", text(sk))
            .send()
            .await
            .map_err(|error| failure("deleting from the delivery log", error))?;
        Ok(())
    }

    /// A page of the log, the newest first: full unless the data ends, or what
    /// one page may cost.
    ///
    /// # Errors
    /// When the cursor is not of this list, or the store fails.
    pub async fn list(
        &self,
        filter: &DeliveryFilter,
        limit: usize,
        cursor: Option<&str>,
        now: Timestamp,
    ) -> Result<Page<Delivery>, Error> {
        let name = format!("deliveries {filter:?}");
        let latest = filter.to.map_or(now, |to| to.min(now));
        let before = || latest.checked_sub(RETENTION).unwrap_or(BEGINNING);
        let walk = Walk {
            name: &name,
            from: filter.from.unwrap_or_else(before),
            to: filter.to,
            now,
            picks: filter.picks(),
        };
        self.walk(walk, |delivery| filter.matches(delivery), limit, cursor)
            .await
    }

    /// A page of the deliveries since an instant of which something holds, the newest first,
    /// likewise.
    ///
    /// # Errors
    /// When the cursor is not of this instant, or the store fails.
    pub async fn find(
        &self,
        from: Timestamp,
        matches: impl Fn(&Delivery) -> bool,
        limit: usize,
        cursor: Option<&str>,
        now: Timestamp,
    ) -> Result<Page<Delivery>, Error> {
        let name = format!("deliveries since {from}");
        let walk = Walk {
            name: &name,
            from,
            to: None,
            now,
            picks: true,
        };
        self.walk(walk, matches, limit, cursor).await
    }

    async fn walk(
        &self,
        walk: Walk<'_>,
        matches: impl Fn(&Delivery) -> bool,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<Delivery>, Error> {
        let Walk {
            name,
            from,
            to,
            now,
            picks,
        } = walk;
        let cursor = cursor.map(|cursor| cursor::decode(name, cursor)).transpose()?;
        let page = |entries, upper: Option<String>| Page {
            entries,
            next_cursor: upper.map(|upper| cursor::encode(name, &upper)),
        };
        let latest = to.map_or(now, |to| to.min(now));
        // The positions from here on, and before there.
        let lower = position(from);
        let mut upper = cursor.unwrap_or_else(|| to.map_or_else(|| END.to_owned(), position));
        let mut entries: Vec<Delivery> = Vec::new();
        let (mut rounds, mut read) = (0, 0);
        for (month, start) in months_back(latest, from) {
            let lowest = position(start).max(lower.clone());
            while lowest < upper {
                if rounds == PAGE_ROUNDS || read >= PAGE_ENTRIES {
                    return Ok(page(entries, Some(upper)));
                }
                let wanted = if picks {
                    QUERY_ENTRIES
                } else {
                    limit + 1 - entries.len()
                };
                let (found, horizon) = self.round(&month, (&lowest, &upper), wanted).await?;
                rounds += 1;
                read += found.len();
                for item in found {
                    let position = item.sk.as_str().to_owned();
                    let has_expired = item.has_expired(now);
                    let delivery = item.into_delivery(now)?;
                    if !has_expired && matches(&delivery) {
                        if entries.len() == limit {
                            // There is one more, so this page has a next one.
                            return Ok(page(entries, Some(upper)));
                        }
                        entries.push(delivery);
                    }
                    upper = position;
                }
                upper = horizon.unwrap_or_else(|| lowest.clone());
            }
        }
        Ok(page(entries, None))
    }

    /// The newest entries of a month between two positions, over all its buckets, and
    /// down to where they are all there: `None` for all of them.
    async fn round(
        &self,
        month: &str,
        bounds: (&str, &str),
        wanted: usize,
    ) -> Result<(Vec<EntryItem>, Option<String>), Error> {
        let buckets = (0..SHARDS).map(|shard| self.query_bucket(month, shard, bounds, wanted));
        let buckets = try_join_all(buckets).await?;
        Ok(merged(buckets, bounds.1, |item: &EntryItem| item.sk.as_str()))
    }

    /// The newest entries of one bucket from the lower position to the upper one, both
    /// included, and behind which of them there are more.
    async fn query_bucket(
        &self,
        month: &str,
        shard: u8,
        (lower, upper): (&str, &str),
        wanted: usize,
    ) -> Result<(Vec<EntryItem>, Option<String>), Error> {
        let answer = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :bucket AND sk BETWEEN :lower AND :upper")
            .expression_attribute_values(":bucket", text(bucket(month, shard)))
            .expression_attribute_values(":lower", text(lower))
            .expression_attribute_values(":upper", text(upper))
            // The upper position may come along, but does not count.
            .limit(i32::try_from(wanted + 1).unwrap_or(i32::MAX))
            .scan_index_forward(false)
            .send()
            .await
            .map_err(|error| failure("listing deliveries", error))?;
        let last = answer.last_evaluated_key;
        let last = last.map(|key| from_item::<PositionItem>("the end of a page", key));
        let last = last.transpose()?.map(|last| last.sk);
        let items = answer.items.unwrap_or_default().into_iter();
        let items = items.map(|item| from_item("an entry of the delivery log", item));
        Ok((items.collect::<Result<_, _>>()?, last))
    }
}

/// A way through the log, back in time.
struct Walk<'a> {
    /// What its cursors belong to.
    name: &'a str,
    from: Timestamp,
    to: Option<Timestamp>,
    now: Timestamp,
    /// Whether not all are wanted.
    picks: bool,
}

impl DeliveryFilter {
    /// Whether there may be deliveries within the window that are not among them.
    fn picks(&self) -> bool {
        let window = Self {
            from: self.from,
            to: self.to,
            ..Self::default()
        };
        *self != window
    }

    fn matches(&self, delivery: &Delivery) -> bool {
        self.result.is_none_or(|result| result == delivery.result)
            && self.status.is_none_or(|status| status == delivery.status)
            && self.client_ip.is_none_or(|client| client == delivery.client_ip)
            && self
                .conversation_id
                .as_ref()
                .is_none_or(|id| Some(id) == delivery.conversation_id.as_ref())
    }
}

/// What several buckets hold before a position, the newest first, and down to where it
/// is all there: `None` for all of it. A bucket comes with where it goes on.
fn merged<T>(
    buckets: Vec<(Vec<T>, Option<String>)>,
    before: &str,
    position: impl Fn(&T) -> &str,
) -> (Vec<T>, Option<String>) {
    let (found, ends): (Vec<_>, Vec<_>) = buckets.into_iter().unzip();
    // Below that a bucket may hold what was not read yet.
    let horizon = ends.into_iter().flatten().max();
    let is_known = |item: &T| horizon.as_deref().is_none_or(|horizon| position(item) >= horizon);
    let mut found: Vec<T> = found
        .into_iter()
        .flatten()
        .filter(|item| is_known(item) && position(item) < before)
        .collect();
    found.sort_by(|a, b| position(b).cmp(position(a)));
    (found, horizon)
}

// -------------------------------------------------------------------- keys

fn bucket(month: &str, shard: u8) -> String {
    format!("{month}#{shard}")
}

/// The first position of what is received at an instant: ids begin with their
/// milliseconds.
fn position(instant: Timestamp) -> String {
    let milliseconds = u64::try_from(instant.as_millisecond()).unwrap_or_default();
    format!("dlv_{milliseconds:012x}")
}

/// The months from the one of `latest` back to the one of `from`, with their starts.
fn months_back(latest: Timestamp, from: Timestamp) -> impl Iterator<Item = (String, Timestamp)> {
    let from = from.max(BEGINNING);
    let first = latest.to_zoned(TimeZone::UTC).date().first_of_month();
    std::iter::successors(Some(first), |day| day.checked_sub(1.month()).ok())
        .filter_map(|day| Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp()))
        .map(|start| (month_of(start), start))
        .take_while(move |(month, _)| *month >= month_of(from))
}

/// When an entry expires. One whose body is still to be understood waits as long as that is
/// kept.
fn expiry(delivery: &Delivery, body_retention: BodyRetention) -> Option<i64> {
    let waits = delivery.kept_body == KeptBody::InLog && delivery.result != DeliveryResult::Ignored;
    let end = delivery.received_at + RETENTION;
    let end = match body_retention.end(delivery.received_at) {
        Some(body) if waits => Some(end.max(body)),
        None if waits => None,
        _ => Some(end),
    };
    end.map(Timestamp::as_second)
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
    body_expires_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<i64>,
}

#[derive(Deserialize)]
struct PositionItem {
    sk: String,
}

impl EntryItem {
    fn from_delivery(delivery: &Delivery, body_retention: BodyRetention) -> Result<Self, Error> {
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
            body_expires_at: body_retention.end(delivery.received_at).map(Timestamp::as_second),
            expires_at: expiry(delivery, body_retention),
        })
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        is_over(self.expires_at, now)
    }

    /// What it says by now: a body that has expired is not kept.
    fn into_delivery(self, now: Timestamp) -> Result<Delivery, Error> {
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
            kept_body: if is_over(self.body_expires_at, now) {
                KeptBody::No
            } else {
                self.kept_body
            },
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
            "2027-01-31T12:00:00Z".parse().unwrap(),
            "2026-11-02T12:00:00Z".parse().unwrap(),
        );
        let months: Vec<String> = months.map(|(month, _)| month).collect();
        assert_eq!(months, ["2027-01", "2026-12", "2026-11"]);
    }

    #[test]
    fn buckets_are_merged_down_to_where_all_is_known() {
        let bucket = |items: &[&'static str], end: Option<&str>| (items.to_vec(), end.map(str::to_owned));
        let merge = |buckets| merged(buckets, "9", |item: &&'static str| item);
        assert_eq!(
            merge(vec![bucket(&["9", "7", "2"], None), bucket(&["8", "5"], None)]),
            (vec!["8", "7", "5", "2"], None)
        );
        // The second bucket goes on below 5, the third below 4.
        assert_eq!(
            merge(vec![
                bucket(&["7", "2"], None),
                bucket(&["8", "5"], Some("5")),
                bucket(&["6", "4"], Some("4")),
            ]),
            (vec!["8", "7", "6", "5"], Some("5".to_owned()))
        );
        assert_eq!(
            merge(vec![bucket(&[], Some("3")), bucket(&["1"], None)]),
            (vec![], Some("3".to_owned()))
        );
    }

    #[test]
    fn places_of_instants_lie_between_the_ids_before_and_after() {
        let instant: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let before = DeliveryId::new(instant - SignedDuration::from_millis(1));
        let at = DeliveryId::new(instant);
        assert!(before.as_str() < position(instant).as_str());
        assert!(position(instant).as_str() < at.as_str());
        assert!(at.as_str() < END);
    }
}
