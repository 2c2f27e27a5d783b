//! Lists of calls, month by month.

use std::collections::BTreeSet;

use aws_sdk_dynamodb::types::{AttributeValue, ReturnValue};
use jiff::Timestamp;
use serde::Deserialize;

use super::{CallRecord, CallStore, ListColumns, campaign_month, position, time_text};
use crate::attribution::Status;
use crate::campaign::CampaignId;
use crate::decision::Credit;
use crate::error::Error;
use crate::store::{Item, Page, cursor, failure, from_item, month_of, text};

const MONTHS_ID: &str = "calls";
const MONTHS_PART: &str = "months";
const BY_START: &str = "by-start";
const BY_CAMPAIGN: &str = "by-campaign";
/// Sorts after every start of a call.
const ABOVE_ALL: &str = "~";
/// Entries that a list looks at for each one that it wants, when it has to pick.
const SIFT_FACTOR: usize = 4;
/// Queries that one page may cost; after them the cursor goes on.
const PAGE_QUERIES: usize = 40;

/// Which calls a list shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFilter {
    /// By their credit.
    pub credit: CreditFilter,
    /// Those that began at this instant or later.
    pub from: Option<Timestamp>,
    /// Those that began before this instant.
    pub to: Option<Timestamp>,
}

/// Which calls a list shows, by their credit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CreditFilter {
    /// All of them.
    All,
    /// Those credited to a campaign.
    Campaign(CampaignId),
    /// Those of one standing, whatever the campaign.
    Status(Status),
}

impl CallStore {
    /// Whether lists look into the month of an instant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn lists_month_of(&self, instant: Timestamp) -> Result<bool, Error> {
        Ok(self.months().await?.contains(&month_of(instant)))
    }

    /// Makes lists look into the month of an instant.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn list_month_of(&self, instant: Timestamp) -> Result<(), Error> {
        self.client
            .update_item()
            .table_name(&self.table)
            .key("call_id", text(MONTHS_ID))
            .key("part", text(MONTHS_PART))
            .update_expression("ADD months :month")
            .expression_attribute_values(":month", AttributeValue::Ss(vec![month_of(instant)]))
            .return_values(ReturnValue::None)
            .send()
            .await
            .map_err(|error| failure("noting a month", error))?;
        Ok(())
    }

    async fn months(&self) -> Result<BTreeSet<String>, Error> {
        let item = self.get(MONTHS_ID, MONTHS_PART, false).await?;
        let item: MonthsItem = match item {
            Some(item) => from_item("the months", item)?,
            None => MonthsItem::default(),
        };
        Ok(item.months)
    }

    /// A page of calls, the latest start first, full unless the data ends or
    /// the page's budget of queries does.
    ///
    /// # Errors
    /// When the cursor is not of this list, or the store fails.
    pub async fn list(
        &self,
        filter: &CallFilter,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Page<CallRecord>, Error> {
        let list = filter.name();
        let lower = filter.from.map(time_text);
        let upper = filter.to.map(time_text);
        let mut after = cursor.map(|cursor| cursor::decode(&list, cursor)).transpose()?;
        let mut entries: Vec<CallRecord> = Vec::new();
        let mut queries = 0;
        for month in self.months().await?.iter().rev() {
            // Bounds begin with their month, as positions do.
            if lower
                .as_deref()
                .is_some_and(|lower| &lower[..month.len()] > month.as_str())
                || upper.as_deref().is_some_and(|upper| upper < month.as_str())
            {
                continue;
            }
            // A position begins with its month.
            if after.as_deref().is_some_and(|after| after < month.as_str()) {
                continue;
            }
            let mut more = true;
            while more {
                if queries == PAGE_QUERIES {
                    return Ok(Page {
                        entries,
                        next_cursor: after.map(|after| cursor::encode(&list, &after)),
                    });
                }
                queries += 1;
                let after_here = after.as_deref().filter(|after| after.starts_with(month.as_str()));
                // The last one of before comes again, as bounds are included.
                let wanted = limit + 1 - entries.len() + usize::from(after_here.is_some());
                let items;
                let below = after_here.or(upper.as_deref()).map(str::to_owned);
                (items, more) = self
                    .query_month(&filter.credit, month, lower.as_deref(), below.as_deref(), wanted)
                    .await?;
                for item in items {
                    let columns: ListColumns = from_item("a call of a list", item)?;
                    if below.as_ref().is_some_and(|below| columns.started >= *below) {
                        continue;
                    }
                    let shown = filter.shows(&columns);
                    if shown && entries.len() == limit {
                        // There is one more, so this page has a next one.
                        let last = entries.last().map(|last| position(&last.call));
                        return Ok(Page {
                            entries,
                            next_cursor: last.map(|last| cursor::encode(&list, &last)),
                        });
                    }
                    after = Some(columns.started.clone());
                    if shown {
                        entries.push(columns.into_record()?);
                    }
                }
            }
            // Below every position of this month, above those of the months before.
            after = Some(month.clone());
        }
        Ok(Page {
            entries,
            next_cursor: None,
        })
    }

    /// Entries of one month from `lower` on, the latest first and beginning at
    /// `below` or before it, and whether there are more.
    async fn query_month(
        &self,
        filter: &CreditFilter,
        month: &str,
        lower: Option<&str>,
        below: Option<&str>,
        wanted: usize,
    ) -> Result<(Vec<Item>, bool), Error> {
        let (index, attribute, value, sifted) = match filter {
            CreditFilter::All => (BY_START, "start_month", month.to_owned(), false),
            CreditFilter::Campaign(id) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month(id.as_str(), month),
                false,
            ),
            CreditFilter::Status(Status::Attributed) => (BY_START, "start_month", month.to_owned(), true),
            CreditFilter::Status(Status::Unattributed) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month("unattributed", month),
                false,
            ),
            CreditFilter::Status(Status::Ambiguous) => (
                BY_CAMPAIGN,
                "campaign_month",
                campaign_month("ambiguous", month),
                false,
            ),
        };
        let query = self
            .client
            .query()
            .table_name(&self.table)
            .index_name(index)
            .scan_index_forward(false)
            .limit(i32::try_from(if sifted { wanted * SIFT_FACTOR } else { wanted }).unwrap_or(i32::MAX))
            .expression_attribute_names("#bucket", attribute)
            .expression_attribute_values(":bucket", text(value))
            // A key can be bounded on both sides only with its bounds included.
            .key_condition_expression("#bucket = :bucket AND started BETWEEN :lower AND :below")
            .expression_attribute_values(":lower", text(lower.unwrap_or(month)))
            .expression_attribute_values(":below", text(below.unwrap_or(ABOVE_ALL)));
        let answer = query
            .send()
            .await
            .map_err(|error| failure("listing calls", error))?;
        let more = answer.last_evaluated_key.is_some();
        Ok((answer.items.unwrap_or_default(), more))
    }
}

impl CallFilter {
    /// Calls of one credit, whenever they were.
    #[must_use]
    pub fn of(credit: CreditFilter) -> Self {
        Self {
            credit,
            from: None,
            to: None,
        }
    }

    /// What a cursor of this list is bound to.
    #[must_use]
    pub fn name(&self) -> String {
        format!("calls {:?} {:?} {:?}", self.credit, self.from, self.to)
    }

    fn shows(&self, columns: &ListColumns) -> bool {
        self.credit
            .matches(&columns.decisions.credit(&columns.rule_result))
    }
}

impl CreditFilter {
    /// Whether a call with this credit is among them.
    #[must_use]
    pub fn matches(&self, credit: &Credit) -> bool {
        match self {
            Self::All => true,
            Self::Campaign(id) => credit.campaign_id.as_ref() == Some(id),
            Self::Status(status) => credit.status == *status,
        }
    }
}

#[derive(Deserialize, Default)]
struct MonthsItem {
    months: BTreeSet<String>,
}
