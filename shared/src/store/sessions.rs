//! The table of console sessions that were ended before their time.
//!
//! A session lives in its cookie; what can't be taken back from a browser is
//! refused here, until it would have expired anyway.

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::types::AttributeValue;
use jiff::Timestamp;

use super::{failure, text};
use crate::error::Error;

/// The ended sessions in DynamoDB.
#[derive(Debug, Clone)]
pub struct EndedSessionStore {
    client: Client,
    table: String,
}

impl EndedSessionStore {
    /// The ended sessions in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Ends a session that would expire at an instant.
    ///
    /// # Errors
    /// When the store fails: the session then goes on.
    pub async fn end(&self, session_id: &str, expires_at: Timestamp) -> Result<(), Error> {
        // TTL attributes are whole seconds; rounded up, so that nothing revives.
        let expires_at = AttributeValue::N((expires_at.as_second() + 1).to_string());
        self.client
            .put_item()
            .table_name(&self.table)
            .item("session_id", text(session_id))
            .item("expires_at", expires_at)
            .send()
            .await
            .map_err(|error| failure("ending a session", error))?;
        Ok(())
    }

    /// Whether a session was ended, as of now.
    ///
    /// # Errors
    /// When the store fails: the session must not be trusted then.
    pub async fn is_ended(&self, session_id: &str) -> Result<bool, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("session_id", text(session_id))
            .projection_expression("session_id")
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failure("looking for the end of a session", error))?;
        Ok(answer.item.is_some())
    }
}
