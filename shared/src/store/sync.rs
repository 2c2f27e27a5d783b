//! The table of sync: what a run leaves to the next one, the ledger, and what is
//! known of agents.
//!
//! | pk | sk | what |
//! |---|---|---|
//! | `progress` | `progress` | the last run, what outlives it, and the lease of the one under way |
//! | `ledger#<month>` | `<day>#<agent id>` | a row of the ledger |
//! | `agents` | agent id | whether the provider keeps its conversations |
//!
//! One run at a time holds the lease; it renews it while it works, and every write of
//! the progress is on condition that it still holds it.

use std::collections::HashMap;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::update_item::UpdateItemError;
use aws_sdk_dynamodb::operation::update_item::builders::UpdateItemFluentBuilder;
use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use futures_util::{StreamExt, TryStreamExt, stream};
use jiff::civil::Date;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::{Item, failure, from_item, text, to_item};
use crate::completeness::{AgentDay, LedgerRow, Progress, Run, Tally};
use crate::error::Error;

const PROGRESS: &str = "progress";
const AGENTS: &str = "agents";
/// How long a run holds the lease without renewing it. The stamp of a scheduled event
/// may be two minutes old when it arrives, and the lease counts from it.
pub const LEASE: SignedDuration = SignedDuration::from_secs(180);
/// Rows that are written at the same time.
const CONCURRENCY: usize = 8;

/// Sync in DynamoDB.
#[derive(Debug, Clone)]
pub struct SyncStore {
    client: Client,
    table: String,
}

/// What is known of sync.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncState {
    /// What outlives a run; `None` before the first one.
    pub progress: Option<Progress>,
    /// The last run.
    pub last_run: Option<Run>,
    /// Until when a run holds the lease, unless it renews it.
    pub leased_until: Option<Timestamp>,
}

/// What is known of an agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSettings {
    /// Whether the provider keeps nothing of its conversations; `None` where it does
    /// not tell.
    pub zero_retention: Option<bool>,
    /// As of when.
    pub checked_at: Timestamp,
}

impl SyncStore {
    /// Sync in a table.
    #[must_use]
    pub fn new(client: Client, table: String) -> Self {
        Self { client, table }
    }

    /// Takes the lease for a run, and tells what the one before left; `None` where
    /// another run holds it.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn begin(&self, owner: &str, run: &Run, now: Timestamp) -> Result<Option<SyncState>, Error> {
        let begun = self
            .update()
            .update_expression("SET lease_owner = :owner, leased_until = :until, last_run = :run")
            // Or this very request came before, and its answer was lost.
            .condition_expression(
                "attribute_not_exists(leased_until) OR leased_until <= :now OR lease_owner = :owner",
            )
            .expression_attribute_values(":owner", text(owner))
            .expression_attribute_values(":until", milliseconds(now + LEASE))
            .expression_attribute_values(":now", milliseconds(now))
            .expression_attribute_values(":run", map("a run", run)?)
            .return_values(ReturnValue::AllOld)
            .send()
            .await;
        match begun {
            Ok(before) => state(before.attributes.unwrap_or_default()).map(Some),
            Err(error) if (error.as_service_error()).is_some_and(is_failed_condition) => Ok(None),
            Err(error) => Err(failure("beginning a run of sync", error)),
        }
    }

    /// Keeps the lease for longer; whether it was still held.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn renew(&self, owner: &str, now: Timestamp) -> Result<bool, Error> {
        let renew = self
            .update()
            .update_expression("SET leased_until = :until")
            .expression_attribute_values(":until", milliseconds(now + LEASE));
        self.while_held(owner, renew).await
    }

    /// Saves how far a run has come, and keeps the lease for longer; whether it was
    /// still held.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn save(
        &self,
        owner: &str,
        progress: &Progress,
        run: &Run,
        now: Timestamp,
    ) -> Result<bool, Error> {
        let save = self
            .update()
            .update_expression("SET progress = :progress, last_run = :run, leased_until = :until")
            .expression_attribute_values(":progress", map("the progress of sync", progress)?)
            .expression_attribute_values(":run", map("a run", run)?)
            .expression_attribute_values(":until", milliseconds(now + LEASE));
        self.while_held(owner, save).await
    }

    /// Saves what a run came to, and gives the lease back; whether it was still held.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end(&self, owner: &str, progress: &Progress, run: &Run) -> Result<bool, Error> {
        let end = self
            .update()
            // The owner stays, so that the same request can be repeated.
            .update_expression("SET progress = :progress, last_run = :run REMOVE leased_until")
            .expression_attribute_values(":progress", map("the progress of sync", progress)?)
            .expression_attribute_values(":run", map("a run", run)?);
        self.while_held(owner, end).await
    }

    /// What is known of sync.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn state(&self) -> Result<SyncState, Error> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .key("pk", text(PROGRESS))
            .key("sk", text(PROGRESS))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| failure("reading the progress of sync", error))?;
        state(answer.item.unwrap_or_default())
    }

    /// The rows of the ledger from one day to another, both included, in order of
    /// day and agent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn ledger(&self, from: Date, to: Date) -> Result<Vec<LedgerRow>, Error> {
        let mut rows = Vec::new();
        let mut month = from.first_of_month();
        while month <= to {
            let query = self
                .client
                .query()
                .table_name(&self.table)
                .key_condition_expression("pk = :month AND sk BETWEEN :from AND :to")
                .expression_attribute_values(":month", text(ledger_month(month)))
                .expression_attribute_values(":from", text(from.to_string()))
                // Behind all agents of the day.
                .expression_attribute_values(":to", text(format!("{to}~")));
            let mut items = query.into_paginator().items().send();
            while let Some(item) = items.next().await {
                let item = item.map_err(|error| failure("reading the ledger", error))?;
                rows.push(from_item::<RowItem>("a row of the ledger", item)?.into_row());
            }
            let next = month.last_of_month().tomorrow();
            month = next.map_err(|error| Error::internal("reading the ledger", error))?;
        }
        Ok(rows)
    }

    /// Writes rows of the ledger.
    ///
    /// # Errors
    /// When the store fails; some may be written then.
    pub async fn put_rows(&self, rows: Vec<LedgerRow>) -> Result<(), Error> {
        let puts = rows.into_iter().map(|row| async move {
            let item = to_item("a row of the ledger", &RowItem::from_row(row))?;
            self.put(item).await
        });
        stream::iter(puts)
            .buffer_unordered(CONCURRENCY)
            .try_collect()
            .await
    }

    /// What is known of agents, by their ids.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn agents(&self) -> Result<HashMap<String, AgentSettings>, Error> {
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .key_condition_expression("pk = :agents")
            .expression_attribute_values(":agents", text(AGENTS));
        let mut items = query.into_paginator().items().send();
        let mut agents = HashMap::new();
        while let Some(item) = items.next().await {
            let item = item.map_err(|error| failure("reading what is known of agents", error))?;
            let item: AgentItem = from_item("what is known of an agent", item)?;
            agents.insert(item.sk, item.settings);
        }
        Ok(agents)
    }

    /// Notes what is known of an agent.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn put_agent(&self, agent_id: &str, settings: &AgentSettings) -> Result<(), Error> {
        let item = AgentItem {
            pk: AGENTS.to_owned(),
            sk: agent_id.to_owned(),
            settings: settings.clone(),
        };
        self.put(to_item("what is known of an agent", &item)?).await
    }

    async fn put(&self, item: Item) -> Result<(), Error> {
        self.client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .send()
            .await
            .map_err(|error| failure("writing about sync", error))?;
        Ok(())
    }

    fn update(&self) -> UpdateItemFluentBuilder {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("pk", text(PROGRESS))
            .key("sk", text(PROGRESS))
    }

    async fn while_held(&self, owner: &str, update: UpdateItemFluentBuilder) -> Result<bool, Error> {
        let updated = update
            .condition_expression("lease_owner = :owner")
            .expression_attribute_values(":owner", text(owner))
            .send()
            .await;
        match updated {
            Ok(_) => Ok(true),
            Err(error) if (error.as_service_error()).is_some_and(is_failed_condition) => Ok(false),
            Err(error) => Err(failure("saving the progress of sync", error)),
        }
    }
}

fn is_failed_condition(error: &UpdateItemError) -> bool {
    error.is_conditional_check_failed_exception()
}

fn ledger_month(day: Date) -> String {
    format!("ledger#{}", day.strftime("%Y-%m"))
}

fn milliseconds(instant: Timestamp) -> AttributeValue {
    AttributeValue::N(instant.as_millisecond().to_string())
}

fn map(what: &str, value: &impl Serialize) -> Result<AttributeValue, Error> {
    to_item(what, value).map(AttributeValue::M)
}

fn state(item: Item) -> Result<SyncState, Error> {
    let item: ProgressItem = from_item("the progress of sync", item)?;
    let leased_until = item.leased_until.map(Timestamp::from_millisecond).transpose();
    Ok(SyncState {
        progress: item.progress,
        last_run: item.last_run,
        leased_until: leased_until.map_err(|error| Error::internal("reading the lease of sync", error))?,
    })
}

// ------------------------------------------------------------------- items

#[derive(Deserialize)]
struct ProgressItem {
    #[serde(default)]
    progress: Option<Progress>,
    #[serde(default)]
    last_run: Option<Run>,
    #[serde(default)]
    leased_until: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct AgentItem {
    pk: String,
    sk: String,
    #[serde(flatten)]
    settings: AgentSettings,
}

#[derive(Serialize, Deserialize)]
struct RowItem {
    pk: String,
    sk: String,
    #[serde(flatten)]
    agent_day: AgentDay,
    #[serde(flatten)]
    tally: Tally,
    checkable: bool,
    checked_at: Timestamp,
}

impl RowItem {
    fn from_row(row: LedgerRow) -> Self {
        Self {
            pk: ledger_month(row.agent_day.day),
            sk: format!("{}#{}", row.agent_day.day, row.agent_day.agent_id),
            agent_day: row.agent_day,
            tally: row.tally,
            checkable: row.is_checkable,
            checked_at: row.checked_at,
        }
    }

    fn into_row(self) -> LedgerRow {
        LedgerRow {
            agent_day: self.agent_day,
            tally: self.tally,
            is_checkable: self.checkable,
            checked_at: self.checked_at,
        }
    }
}
