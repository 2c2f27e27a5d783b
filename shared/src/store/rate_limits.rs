//! The table of refusal counters: one item for each client and minute.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use jiff::Timestamp;
use serde::Deserialize;

use super::{failure, from_item, text};
use crate::error::Error;

/// Seconds that a counter is kept after its minute.
const KEPT_SECONDS: i64 = 3600;

/// The counters in DynamoDB, so that all instances agree.
#[derive(Debug, Clone)]
pub struct RateLimitStore {
    client: Client,
    table: String,
}

#[derive(Deserialize)]
struct CounterItem {
    refusals: u64,
}

impl RateLimitStore {
    /// The counters in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Counts a refusal of a client and tells how many it has had in this
    /// minute, this one included. `client` is any name for it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn count(&self, client: &str, now: Timestamp) -> Result<u64, Error> {
        let minute = now.as_second().div_euclid(60);
        let answer = self
            .client
            .update_item()
            .table_name(&self.table)
            .key("client", text(format!("{client}#{minute}")))
            .update_expression("ADD refusals :one SET expires_at = :expires_at")
            .expression_attribute_values(":one", AttributeValue::N("1".to_owned()))
            .expression_attribute_values(
                ":expires_at",
                AttributeValue::N((minute * 60 + KEPT_SECONDS).to_string()),
            )
            .return_values(ReturnValue::UpdatedNew)
            .send()
            .await
            .map_err(|error| failure("counting a refusal", error))?;
        let item: CounterItem = from_item("a refusal counter", answer.attributes.unwrap_or_default())?;
        Ok(item.refusals)
    }
}
