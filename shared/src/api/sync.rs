//! Sync and completeness, as requests name them and answers show them.

use std::cmp::Reverse;

use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{backwards, open_window};
use crate::calendar::{Moment, Zone};
use crate::completeness::{LedgerRow, Progress, Run, WebhookHealth, day_of};
use crate::error::Error;
use crate::store::sync::SyncState;

/// Days of the ledger that are shown unless others are asked for.
const DAYS: i64 = 31;
/// Days of the ledger that one answer shows.
const MAX_DAYS: i64 = 366;
/// Rows of the ledger that one answer shows: some 2.5 MB.
const MAX_ROWS: usize = 10_000;

/// Which days of the ledger.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(inline)]
#[serde(default)]
pub struct LedgerRequest {
    /// The first day, in UTC; by default 31 days before `to`.
    pub from: Option<Moment>,
    /// The day behind the last one; by default tomorrow. Days that an instant is in count whole.
    pub to: Option<Moment>,
}

impl LedgerRequest {
    /// The first day and the last one.
    ///
    /// # Errors
    /// Where there is no such span, or it is too long.
    pub fn days(&self, now: Timestamp) -> Result<(Date, Date), Error> {
        let (from, to) = open_window(self.from, self.to, &Zone::default())?;
        let beyond = |_| Error::invalid("to", "to is beyond the calendar");
        let last = match to {
            Some(to) => to.checked_sub(SignedDuration::from_millis(1)).map_err(beyond)?,
            None => now,
        };
        let first = match from {
            Some(from) => from,
            None => (last.checked_sub(SignedDuration::from_hours(24 * (DAYS - 1)))).map_err(beyond)?,
        };
        let (from, last) = (day_of(first), day_of(last));
        if last < from {
            return Err(backwards());
        }
        if from.duration_until(last).as_hours() >= 24 * MAX_DAYS {
            let message = format!("ask for at most {MAX_DAYS} days at once");
            return Err(Error::invalid("from", message));
        }
        Ok((from, last))
    }
}

/// How sync is.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SyncStatus<'a> {
    /// Whether there is a key of the provider's API.
    pub configured: bool,
    /// Whether a run is under way.
    pub running: bool,
    /// The last run, also one that is under way.
    pub last_run: Option<&'a Run>,
    /// Whether the run ended before it had compared everything: the next one goes on.
    pub more_left: bool,
    /// Up to when the recent window was compared whole.
    pub compared_until: Option<Timestamp>,
    /// Since when calls come by sync only: the webhook does not deliver. Null while it does.
    pub sync_only_since: Option<Timestamp>,
    /// The webhooks that deliver to our path, as the provider has them; null where it does not tell.
    pub webhooks: Option<&'a [WebhookHealth]>,
}

impl<'a> SyncStatus<'a> {
    /// As of now.
    #[must_use]
    pub fn new(state: &'a SyncState, configured: bool, now: Timestamp) -> Self {
        let progress = state.progress.as_ref();
        Self {
            configured,
            running: state.leased_until.is_some_and(|until| now < until),
            last_run: state.last_run.as_ref(),
            more_left: progress.is_some_and(Progress::has_more),
            compared_until: progress.and_then(|progress| Some(progress.compared?.until)),
            sync_only_since: progress.and_then(|progress| progress.sync_only_since),
            webhooks: progress.and_then(|progress| progress.webhooks.as_deref()),
        }
    }
}

/// How sync is, and what it found, agent by agent and day by day.
#[derive(Debug, Serialize, JsonSchema)]
pub struct SyncView<'a> {
    /// How it is.
    #[serde(flatten)]
    pub status: SyncStatus<'a>,
    /// The latest day first, and the agents of a day in order.
    pub ledger: Vec<LedgerRowView<'a>>,
}

/// An agent and a day.
#[derive(Debug, Serialize, JsonSchema)]
pub struct LedgerRowView<'a> {
    /// The agent.
    pub agent_id: &'a str,
    /// The day in UTC on which the conversations began.
    pub day: Date,
    /// Conversations that the provider lists and that are over.
    pub provider: u64,
    /// Calls that are here, also those that the provider does not list any more.
    pub held: u64,
    /// Those that came by webhook first.
    pub by_webhook: u64,
    /// Those that came by sync first.
    pub by_sync: u64,
    /// Conversations that the provider lists, that are over, and that are not here.
    pub missing: u64,
    /// Conversations that are not over yet.
    pub unfinished: u64,
    /// False for an agent with zero retention: the provider keeps nothing to compare with.
    pub checkable: bool,
    /// When it was compared last.
    pub checked_at: Timestamp,
}

impl<'a> SyncView<'a> {
    /// As of now, with these rows of the ledger.
    ///
    /// # Errors
    /// Where these are more than one answer can show.
    pub fn new(status: SyncStatus<'a>, state: &SyncState, rows: &'a [LedgerRow]) -> Result<Self, Error> {
        if rows.len() > MAX_ROWS {
            let message = format!("there are over {MAX_ROWS} rows: ask for fewer days by from and to");
            return Err(Error::invalid("from", message));
        }
        let compared = state.progress.as_ref().and_then(|progress| progress.compared);
        let view = |row: &'a LedgerRow| {
            let later = compared.filter(|compared| row.agent_day.day >= compared.from);
            LedgerRowView {
                agent_id: &row.agent_day.agent_id,
                day: row.agent_day.day,
                provider: row.tally.provider,
                held: row.tally.held(),
                by_webhook: row.tally.by_webhook,
                by_sync: row.tally.by_sync,
                missing: row.tally.missing,
                unfinished: row.tally.unfinished,
                checkable: row.is_checkable,
                checked_at: later.map_or(row.checked_at, |compared| compared.until.max(row.checked_at)),
            }
        };
        let mut ledger: Vec<_> = rows.iter().map(view).collect();
        ledger.sort_by_key(|row| Reverse(row.day));
        Ok(Self { status, ledger })
    }
}
