//! DynamoDB: all keys, all items, and nothing of them outside this module.
//!
//! One store for each table. Items are read and written through types of their
//! own; an item that can't be read is an internal error that names its key.

mod body;
pub mod calls;
pub mod campaigns;
pub mod cursor;
pub mod deliveries;
pub mod rate_limits;
pub mod sessions;
pub mod sync;
mod transaction;

pub use body::{BodyRetention, pack_body};

use std::collections::HashMap;
use std::time::Duration;

use aws_sdk_dynamodb::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// How often a conditional write is tried again after somebody else was faster.
pub(crate) const WRITE_ATTEMPTS: usize = 20;

/// Waits before something is tried again, the longer the more often it was, so that whoever was
/// faster can finish, or the store can do what it had more of than it may. The first attempt
/// waits for nothing.
pub(crate) async fn pause_before(attempt: usize) {
    if attempt > 0 {
        let attempt = u64::try_from(attempt).unwrap_or(u64::MAX);
        tokio::time::sleep(Duration::from_millis(attempt.saturating_mul(5))).await;
    }
}

pub(crate) type Item = HashMap<String, AttributeValue>;

/// A page of a list.
#[derive(Debug)]
pub struct Page<T> {
    /// The entries.
    pub entries: Vec<T>,
    /// Where the next page goes on; `None` at the end.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of `limit` entries from one more than that, where there are more;
    /// `position` is where an entry stands in `list`.
    fn cut(mut entries: Vec<T>, limit: usize, list: &str, position: impl Fn(&T) -> &str) -> Self {
        let more = entries.len() > limit;
        entries.truncate(limit);
        let last = entries.last().filter(|_| more);
        let next_cursor = last.map(|last| cursor::encode(list, position(last)));
        Self { entries, next_cursor }
    }
}

fn text(value: impl Into<String>) -> AttributeValue {
    AttributeValue::S(value.into())
}

/// The month of an instant in UTC: `2026-11`.
fn month_of(instant: Timestamp) -> String {
    instant.to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string()
}

fn to_item(what: &str, value: &impl Serialize) -> Result<Item, Error> {
    serde_dynamo::to_item(value).map_err(|error| Error::internal(format!("writing {what}"), error))
}

fn from_item<T: DeserializeOwned>(what: &str, item: Item) -> Result<T, Error> {
    serde_dynamo::from_item(item).map_err(|error| Error::internal(format!("reading {what}"), error))
}

/// A failed request to the store: worth another attempt, or our own mistake.
///
/// The cause keeps its own words only; an answer's body may hold numbers.
fn failure<E>(doing: impl Into<String>, error: SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let ours = match &error {
        SdkError::ConstructionFailure(_) => true,
        SdkError::ServiceError(answer) => {
            !answer.raw().status().is_server_error() && !error.code().is_some_and(is_throttle)
        }
        _ => false,
    };
    if ours {
        Error::internal(doing, error)
    } else {
        Error::unavailable(doing, error)
    }
}

fn is_throttle(code: &str) -> bool {
    matches!(
        code,
        "ProvisionedThroughputExceededException"
            | "RequestLimitExceeded"
            | "ThrottlingException"
            | "TransactionConflictException"
            | "TransactionInProgressException"
    )
}
