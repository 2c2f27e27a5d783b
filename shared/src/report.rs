//! Reports: what calls come to, by campaign or another property, or over time.
//!
//! They are counted from the calls whenever somebody asks; there are no stored
//! totals that could be wrong.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::attribution::Status;
use crate::calendar::{Interval, Zone};
use crate::error::Error;
use crate::phone_number::PhoneNumber;
use crate::store::calls::{CallFilter, CallRecord, CallStore, window_too_large};

/// Calls that one report counts at most.
const MAX_CALLS: usize = 100_000;
/// Entries of a list that cost as many read units as looking up one customer.
const ENTRIES_PER_LOOKUP: usize = 5;
/// Buckets that one time series has at most.
const MAX_BUCKETS: usize = 10_000;

/// What a summary groups calls by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GroupBy {
    /// The campaign that they are credited to, or their standing where they are credited to none.
    Campaign,
    /// The agent.
    Agent,
    /// Our number.
    TrackingNumber,
    /// How they went.
    Outcome,
    /// How the customer was connected.
    Channel,
}

/// What a number of calls comes to.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Measures {
    /// Calls.
    pub calls: u64,
    /// Calls that reached their goal.
    pub converted: u64,
    /// Their share of the calls, from 0 to 1, to four digits; null without calls.
    pub conversion_rate: Option<f64>,
    /// How long the calls took together.
    pub total_duration_seconds: u64,
    /// How long they took on average, rounded; null without calls.
    pub average_duration_seconds: Option<u64>,
    /// Customers whose first call ever is among these.
    pub first_time_customers: u64,
    /// Customers who had called, or been called, before the first of these.
    pub repeat_customers: u64,
}

/// Calls as they are counted.
#[derive(Debug, Default)]
struct Tally {
    calls: u64,
    converted: u64,
    total_duration_seconds: u64,
    /// The position of each customer's first call among these.
    customers: HashMap<PhoneNumber, String>,
    /// What the agent was called last: where, and how.
    agent_name: Option<(String, String)>,
}

impl Tally {
    fn add(&mut self, record: &CallRecord) {
        let call = &record.call;
        self.calls += 1;
        self.converted += u64::from(record.decisions.conversion(call).converted);
        self.total_duration_seconds += u64::from(call.duration_seconds);
        if let Some(customer) = &call.customer_number {
            let position = record.position();
            match self.customers.get_mut(customer) {
                None => {
                    self.customers.insert(customer.clone(), position);
                }
                Some(first) if position < *first => *first = position,
                Some(_) => {}
            }
        }
        if let Some(name) = &call.agent_name {
            let position = record.position();
            if self
                .agent_name
                .as_ref()
                .is_none_or(|(latest, _)| *latest < position)
            {
                self.agent_name = Some((position, name.clone()));
            }
        }
    }

    fn measures(&self, first_calls: &HashMap<PhoneNumber, String>) -> Measures {
        let is_first =
            |(customer, position): &(&PhoneNumber, &String)| first_calls.get(customer) == Some(position);
        let first_time = self.customers.iter().filter(is_first).count() as u64;
        #[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
        let share = || self.converted as f64 / self.calls as f64;
        Measures {
            calls: self.calls,
            converted: self.converted,
            conversion_rate: (self.calls > 0).then(|| (share() * 10_000.0).round() / 10_000.0),
            total_duration_seconds: self.total_duration_seconds,
            average_duration_seconds: (self.total_duration_seconds + self.calls / 2).checked_div(self.calls),
            first_time_customers: first_time,
            repeat_customers: self.customers.len() as u64 - first_time,
        }
    }
}

/// Calls and conversions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// Calls.
    pub calls: u64,
    /// Calls that reached their goal.
    pub converted: u64,
}

impl Count {
    fn add(&mut self, converted: bool) {
        self.calls += 1;
        self.converted += u64::from(converted);
    }
}

/// What calls come to at a glance: without their customers, whose earlier calls
/// cost a look each.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overview {
    /// All of them.
    pub total: Count,
    /// Day by day.
    pub days: Vec<Count>,
    /// By how they went.
    pub outcomes: BTreeMap<&'static str, Count>,
    /// By how long they took: the first length that is longer, of [`DURATIONS`].
    pub durations: BTreeMap<usize, Count>,
    /// How long they took together.
    pub total_duration_seconds: u64,
    /// By our number.
    pub numbers: BTreeMap<PhoneNumber, Count>,
}

/// Calls at a glance, campaign by campaign.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overviews {
    /// The starts of the days.
    pub days: Vec<Timestamp>,
    /// By the campaign that calls are credited to; those of none by their standing.
    pub by_campaign: BTreeMap<String, Overview>,
}

/// The lengths that part calls in an [`Overview`], in seconds.
pub const DURATIONS: [u32; 5] = [15, 60, 180, 600, u32::MAX];

impl Overview {
    fn add(&mut self, record: &CallRecord, day: usize, days: usize) {
        let call = &record.call;
        let converted = record.decisions.conversion(call).converted;
        self.days.resize(days, Count::default());
        self.total.add(converted);
        if let Some(count) = self.days.get_mut(day) {
            count.add(converted);
        }
        self.outcomes
            .entry(call.outcome.as_str())
            .or_default()
            .add(converted);
        let length = DURATIONS.partition_point(|length| *length <= call.duration_seconds);
        self.durations.entry(length).or_default().add(converted);
        self.total_duration_seconds += u64::from(call.duration_seconds);
        if let Some(number) = &call.tracking_number {
            self.numbers.entry(number.clone()).or_default().add(converted);
        }
    }
}

/// One group of a summary.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// What its calls have in common; `None` for calls without that.
    pub key: Option<String>,
    /// What the agent was called last, where calls are grouped by it.
    pub agent_name: Option<String>,
    /// What they come to.
    pub measures: Measures,
}

/// Counts calls.
#[derive(Debug, Clone)]
pub struct Reporter {
    calls: CallStore,
}

impl Reporter {
    /// The calls of a store.
    #[must_use]
    pub fn new(calls: CallStore) -> Self {
        Self { calls }
    }

    /// The groups of the calls that match a filter, the largest first, and what
    /// all of them come to.
    ///
    /// # Errors
    /// `window_too_large` where there are too many, or when the store fails.
    pub async fn summary(
        &self,
        filter: &CallFilter,
        group_by: GroupBy,
    ) -> Result<(Vec<Row>, Measures), Error> {
        let mut groups: BTreeMap<Option<String>, Tally> = BTreeMap::new();
        let mut total = Tally::default();
        self.count(filter, |record| {
            groups.entry(key(&record, group_by)).or_default().add(&record);
            total.add(&record);
        })
        .await?;
        let first_calls = self.first_calls(filter, &total).await?;
        let row = |(key, tally): (Option<String>, Tally)| Row {
            key,
            measures: tally.measures(&first_calls),
            agent_name: match group_by {
                GroupBy::Agent => tally.agent_name.map(|(_, name)| name),
                _ => None,
            },
        };
        let mut rows: Vec<Row> = groups.into_iter().map(row).collect();
        // Groups of the same size stay in the order of their keys.
        rows.sort_by_key(|row| std::cmp::Reverse(row.measures.calls));
        Ok((rows, total.measures(&first_calls)))
    }

    /// What the calls of a window that match a filter come to in each bucket, by
    /// the bucket's start; also in those without calls.
    ///
    /// # Errors
    /// As [`summary`](Self::summary).
    pub async fn timeseries(
        &self,
        filter: &CallFilter,
        (from, to): (Timestamp, Timestamp),
        interval: Interval,
        zone: &Zone,
    ) -> Result<Vec<(Timestamp, Measures)>, Error> {
        let starts = interval.buckets(from, to, zone, MAX_BUCKETS);
        let starts = starts.ok_or_else(|| Error::Invalid {
            code: "window_too_large",
            field: Some("interval".to_owned()),
            message: format!(
                "the window has more than {MAX_BUCKETS} buckets: give a longer interval or a smaller window"
            ),
        })?;
        let mut tallies: Vec<Tally> = starts.iter().map(|_| Tally::default()).collect();
        let mut total = Tally::default();
        self.count(filter, |record| {
            let begun = starts.partition_point(|start| *start <= record.call.started_at);
            if let Some(tally) = begun.checked_sub(1).and_then(|index| tallies.get_mut(index)) {
                tally.add(&record);
                total.add(&record);
            }
        })
        .await?;
        let first_calls = self.first_calls(filter, &total).await?;
        let measures = tallies.iter().map(|tally| tally.measures(&first_calls));
        Ok(starts.iter().copied().zip(measures).collect())
    }

    /// The calls of a window that match a filter, at a glance.
    ///
    /// # Errors
    /// `window_too_large` where there are too many, or when the store fails.
    pub async fn overviews(
        &self,
        filter: &CallFilter,
        (from, to): (Timestamp, Timestamp),
        zone: &Zone,
    ) -> Result<Overviews, Error> {
        let days = Interval::Day.buckets(from, to, zone, MAX_BUCKETS);
        let days = days.ok_or_else(|| window_too_large("from", MAX_CALLS))?;
        let filter = CallFilter {
            from: Some(from),
            to: Some(to),
            ..filter.clone()
        };
        let mut by_campaign: BTreeMap<String, Overview> = BTreeMap::new();
        self.count(&filter, |record| {
            let day = days.partition_point(|start| *start <= record.call.started_at);
            let overview = by_campaign.entry(credited_to(&record)).or_default();
            overview.add(&record, day.saturating_sub(1), days.len());
        })
        .await?;
        Ok(Overviews { days, by_campaign })
    }

    /// The calls of a filter, each handed to `take`.
    async fn count(&self, filter: &CallFilter, take: impl FnMut(CallRecord) + Send) -> Result<(), Error> {
        if self.calls.for_each(filter, MAX_CALLS, take).await? {
            Ok(())
        } else {
            Err(window_too_large("from", MAX_CALLS))
        }
    }

    /// The position of the first call ever of each customer of these calls, where it
    /// may be one of these.
    async fn first_calls(
        &self,
        filter: &CallFilter,
        total: &Tally,
    ) -> Result<HashMap<PhoneNumber, String>, Error> {
        let window = CallFilter {
            from: filter.from,
            to: filter.to,
            ..CallFilter::default()
        };
        let mut new = total.customers.clone();
        if *filter == window {
            // All calls of the window are here, so who is not found before it is new.
            let before = CallFilter {
                to: filter.from,
                ..CallFilter::default()
            };
            let most = new.len() * ENTRIES_PER_LOOKUP;
            let find = |record: CallRecord| {
                if let Some(customer) = &record.call.customer_number {
                    new.remove(customer);
                }
            };
            if filter.from.is_none() || self.calls.for_each(&before, most, find).await? {
                return Ok(new);
            }
        }
        self.calls.first_calls(new.into_keys().collect()).await
    }
}

/// The campaign that a call is credited to, or its standing where that is none.
fn credited_to(record: &CallRecord) -> String {
    let credit = record.decisions.credit(&record.rule_result);
    let campaign = credit.campaign_id.filter(|_| credit.status == Status::Attributed);
    campaign.map_or_else(|| credit.status.as_str().to_owned(), String::from)
}

fn key(record: &CallRecord, group_by: GroupBy) -> Option<String> {
    let call = &record.call;
    match group_by {
        GroupBy::Campaign => Some(credited_to(record)),
        GroupBy::Agent => call.agent_id.clone(),
        GroupBy::TrackingNumber => call.tracking_number.clone().map(String::from),
        GroupBy::Outcome => Some(call.outcome.as_str().to_owned()),
        GroupBy::Channel => Some(call.channel.as_str().to_owned()),
    }
}
