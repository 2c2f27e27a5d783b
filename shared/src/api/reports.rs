//! Reports, as requests ask for them and answers show them.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::calls::{CallFilterRequest, CampaignNames};
use crate::calendar::{Interval, Zone};
use crate::campaign::CampaignId;
use crate::error::Error;
use crate::phone_number::Country;
use crate::report::{GroupBy, Measures, Row};
use crate::store::calls::CallFilter;

/// Days that a report covers where its window is not given.
const DEFAULT_DAYS: i64 = 30;

// ----------------------------------------------------------------- requests

/// What a summary groups calls by.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct SummaryRequest {
    /// One row for each of these.
    pub group_by: GroupBy,
}

/// How long the buckets of a time series are.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct TimeseriesRequest {
    /// One bucket for each of these, by the calendar of `tz`.
    pub interval: Interval,
}

/// What a report is about.
#[derive(Debug)]
pub struct ReportScope {
    /// Which calls.
    pub filter: CallFilter,
    /// The first instant.
    pub from: Timestamp,
    /// The first instant after it.
    pub to: Timestamp,
    /// The zone of its calendar.
    pub zone: Zone,
}

impl ReportScope {
    /// What is asked for; without a window, the last 30 days up to now.
    ///
    /// # Errors
    /// Names the field that can't be what it should.
    pub fn new(request: CallFilterRequest, country: Option<Country>, now: Timestamp) -> Result<Self, Error> {
        let zone = request.tz.clone().unwrap_or_default();
        let mut filter = request.into_filter(country)?;
        let to = filter.to.unwrap_or(now);
        let from = match filter.from {
            Some(from) => from,
            None => zone
                .start_of_day(to, DEFAULT_DAYS)
                .ok_or_else(|| Error::invalid("to", "to: there are no days before it"))?,
        };
        if to <= from {
            return Err(Error::invalid(
                "from",
                "from must be earlier than to, which is now by default",
            ));
        }
        filter.from = Some(from);
        filter.to = Some(to);
        Ok(Self {
            filter,
            from,
            to,
            zone,
        })
    }
}

// ------------------------------------------------------------------ answers

/// What calls come to, group by group.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Summary<'a> {
    from: Timestamp,
    to: Timestamp,
    tz: &'a str,
    /// The largest group first.
    rows: Vec<SummaryRow<'a>>,
    /// Of all groups; a customer of several counts once.
    total: Measures,
}

/// One group.
#[derive(Debug, Serialize, JsonSchema)]
struct SummaryRow<'a> {
    /// What its calls have in common; null for calls without that.
    key: Option<&'a str>,
    /// What people call that, where it has a name.
    name: Option<&'a str>,
    #[serde(flatten)]
    measures: &'a Measures,
}

impl<'a> Summary<'a> {
    /// With the names of campaigns, where calls are grouped by them.
    #[must_use]
    pub fn new(scope: &'a ReportScope, rows: &'a [Row], total: Measures, names: &'a CampaignNames) -> Self {
        let row = |row: &'a Row| {
            let key = row.key.as_deref();
            let campaign = key.and_then(|key| CampaignId::try_from(key.to_owned()).ok());
            let campaign = campaign.and_then(|id| names.get(&id));
            SummaryRow {
                key,
                name: campaign.or(row.agent_name.as_ref()).map(String::as_str),
                measures: &row.measures,
            }
        };
        Self {
            from: scope.from,
            to: scope.to,
            tz: scope.zone.name(),
            rows: rows.iter().map(row).collect(),
            total,
        }
    }
}

/// What calls come to over time.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Timeseries<'a> {
    from: Timestamp,
    to: Timestamp,
    tz: &'a str,
    interval: Interval,
    /// Every bucket of the window, in order, also those without calls.
    buckets: Vec<Bucket>,
}

/// One bucket; of the first and the last one, only what lies within the window counts.
#[derive(Debug, Serialize, JsonSchema)]
struct Bucket {
    start: Timestamp,
    #[serde(flatten)]
    measures: Measures,
}

impl<'a> Timeseries<'a> {
    /// From the measures of each bucket, by its start.
    #[must_use]
    pub fn new(scope: &'a ReportScope, interval: Interval, buckets: Vec<(Timestamp, Measures)>) -> Self {
        let bucket = |(start, measures)| Bucket { start, measures };
        Self {
            from: scope.from,
            to: scope.to,
            tz: scope.zone.name(),
            interval,
            buckets: buckets.into_iter().map(bucket).collect(),
        }
    }
}
