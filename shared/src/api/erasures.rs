//! Erasures as requests ask for them and receipts show them.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::decisions::first_a_rehearsal;
use crate::call::CallId;
use crate::erasure::Erased;
use crate::store::calls::MARK_LIFETIME;

/// How far back DynamoDB's point-in-time recovery goes:
/// <https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/PointInTimeRecovery_Howitworks.html>
const RECOVERY: SignedDuration = SignedDuration::from_hours(35 * 24);

/// Whom to erase.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ErasureRequest {
    /// The number of the customer, in any way of writing it.
    pub customer_number: String,
    /// Only counts what there is, unless this is false.
    #[serde(default = "first_a_rehearsal")]
    pub dry_run: bool,
    /// The `next_cursor` of the receipt before, with the same number.
    pub cursor: Option<String>,
}

/// What was erased, and where it still is.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ErasureReceipt")]
pub struct Receipt<'a> {
    /// Whether nothing was erased, only counted.
    pub dry_run: bool,
    /// When.
    pub erased_at: Timestamp,
    /// The calls, by the ids of their conversations, which ElevenLabs still has under them.
    pub call_ids: &'a [CallId],
    /// Bodies of these calls, and of deliveries that became none.
    pub bodies: usize,
    /// Campaigns that the customer was a contact of.
    pub contacts: usize,
    /// Entries of the delivery log.
    pub deliveries: usize,
    /// What is not erased by this.
    pub remains: Vec<Remainder>,
    /// Null once all is done; until then, send it with the same request.
    pub next_cursor: Option<String>,
}

/// A place that still holds something of an erased customer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Remainder {
    /// The place, in a word.
    pub place: &'static str,
    /// What it holds.
    pub holds: &'static str,
    /// Until when; null where that is up to whoever keeps it.
    pub until: Option<Timestamp>,
}

impl<'a> Receipt<'a> {
    /// Of an erasure, where logs are kept for so many days.
    #[must_use]
    pub fn new(
        erased: &'a Erased,
        next_cursor: Option<String>,
        dry_run: bool,
        at: Timestamp,
        log_retention_days: u32,
    ) -> Self {
        let logs = SignedDuration::from_hours(24 * i64::from(log_retention_days));
        let remainder = |place, holds, until: Option<SignedDuration>| Remainder {
            place,
            holds,
            until: until.map(|until| at + until),
        };
        Self {
            dry_run,
            erased_at: at,
            call_ids: &erased.call_ids,
            bodies: erased.bodies,
            contacts: erased.contacts,
            deliveries: erased.deliveries,
            remains: vec![
                remainder(
                    "point_in_time_recovery",
                    "the tables as they were, for whoever restores them",
                    Some(RECOVERY),
                ),
                remainder(
                    "marks",
                    "the ids of the conversations, against deliveries that are under way; DynamoDB deletes them within days",
                    Some(MARK_LIFETIME),
                ),
                remainder(
                    "logs",
                    "ids of conversations, where anything about them failed",
                    Some(logs),
                ),
                remainder("elevenlabs", "the conversations: delete them there", None),
                remainder(
                    "copies",
                    "backups on demand and exports, where you made any",
                    None,
                ),
            ],
            next_cursor,
        }
    }
}
