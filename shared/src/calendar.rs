//! Dates, time zones, and the spans that reports are made of.

use std::borrow::Cow;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{RoundMode, Timestamp, TimestampRound, ToSpan, Unit, Zoned};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// An instant, or a date: its first instant in some time zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum Moment {
    /// An instant, RFC 3339.
    Instant(Timestamp),
    /// A date, `2026-11-01`.
    Date(Date),
}

impl Moment {
    /// The instant, to the millisecond at or after it: times of calls have
    /// milliseconds.
    ///
    /// # Errors
    /// Where it is not within the calendar.
    pub fn instant(self, zone: &Zone) -> Result<Timestamp, &'static str> {
        let outside = "it is beyond the calendar";
        let instant = match self {
            Self::Instant(instant) => instant,
            Self::Date(date) => date.to_zoned(zone.0.clone()).map_err(|_| outside)?.timestamp(),
        };
        let up = TimestampRound::new()
            .smallest(Unit::Millisecond)
            .mode(RoundMode::Ceil);
        instant.round(up).map_err(|_| outside)
    }
}

impl TryFrom<String> for Moment {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        // Without this a time without a zone would be read as its date.
        let is_date = text.len() == "2026-11-01".len() && text.is_ascii() && &text[4..5] == "-";
        let moment = if is_date {
            text.parse().ok().map(Self::Date)
        } else {
            text.parse().ok().map(Self::Instant)
        };
        moment.ok_or("expected an instant such as 2026-11-01T00:00:00Z, or a date such as 2026-11-01")
    }
}

impl JsonSchema for Moment {
    fn schema_name() -> Cow<'static, str> {
        "Moment".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "An instant (RFC 3339), or a date: its first instant in the time zone `tz`.",
            "type": "string",
            "anyOf": [{ "format": "date-time" }, { "format": "date" }],
            "examples": ["2026-11-01T00:00:00Z", "2026-11-01"],
        })
    }
}

/// A time zone of the IANA database.
///
/// The database is the one that was compiled in, the same wherever this runs.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Zone(TimeZone);

impl Default for Zone {
    fn default() -> Self {
        Self(TimeZone::UTC)
    }
}

impl Zone {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.iana_name().unwrap_or("UTC")
    }

    /// An instant by the clocks of this zone.
    #[must_use]
    pub fn local(&self, instant: Timestamp) -> Zoned {
        instant.to_zoned(self.0.clone())
    }

    /// The first instant of a day; `None` beyond the calendar.
    #[must_use]
    pub fn start_of(&self, day: Date) -> Option<Timestamp> {
        Some(day.to_zoned(self.0.clone()).ok()?.timestamp())
    }

    /// The first instant of the day that is so many days before an instant's;
    /// `None` beyond the calendar.
    #[must_use]
    pub fn start_of_day(&self, instant: Timestamp, days_before: i64) -> Option<Timestamp> {
        let day = instant.to_zoned(self.0.clone()).date();
        let day = day.checked_sub(days_before.days()).ok()?;
        Some(day.to_zoned(self.0.clone()).ok()?.timestamp())
    }
}

impl TryFrom<String> for Zone {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let zone = TimeZone::get(&name)
            .ok()
            .filter(|zone| zone.iana_name().is_some());
        zone.map(Self)
            .ok_or("expected a time zone of the IANA database, such as Europe/Berlin")
    }
}

impl JsonSchema for Zone {
    fn schema_name() -> Cow<'static, str> {
        "Zone".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A time zone of the IANA database.",
            "type": "string",
            "examples": ["Europe/Berlin", "Asia/Kolkata"],
        })
    }
}

/// How long the buckets of a time series are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Interval {
    /// From one full hour of the clock to the next, or to where the clock is changed.
    Hour,
    /// A day has 23 or 25 hours where the clock is changed.
    Day,
    /// From Monday to Monday.
    Week,
    /// A month of the calendar.
    Month,
}

impl Interval {
    /// The starts of all buckets from the one that holds `from` to the one that
    /// holds the last instant before `to`, in order; `None` where there are more
    /// than `most`, or the first one begins before the calendar.
    #[must_use]
    pub fn buckets(self, from: Timestamp, to: Timestamp, zone: &Zone, most: usize) -> Option<Vec<Timestamp>> {
        let mut starts = Vec::new();
        let mut next = Some(self.start(&from.to_zoned(zone.0.clone()))?);
        while let Some(start) = next.filter(|start| start.timestamp() < to) {
            if starts.len() == most {
                return None;
            }
            starts.push(start.timestamp());
            next = self.following(&start);
        }
        Some(starts)
    }

    /// The start of the bucket that holds a time.
    fn start(self, time: &Zoned) -> Option<Zoned> {
        let date = match self {
            Self::Hour => {
                // Hour by hour from the start of the day, whatever the clock does on it.
                let mut start = time.date().to_zoned(time.time_zone().clone()).ok()?;
                while let Some(next) = self.following(&start).filter(|next| next <= time) {
                    start = next;
                }
                return Some(start);
            }
            Self::Day => time.date(),
            Self::Week => {
                let since_monday = time.weekday().to_monday_zero_offset();
                time.date().checked_sub(i64::from(since_monday).days()).ok()?
            }
            Self::Month => time.date().first_of_month(),
        };
        date.to_zoned(time.time_zone().clone()).ok()
    }

    /// The start of the next bucket, from the start of one.
    fn following(self, start: &Zoned) -> Option<Zoned> {
        let date = match self {
            // Where a clock was moved by half an hour, the hour after that is half as long.
            Self::Hour => {
                let left = 60 - i64::from(start.minute());
                return start.checked_add(left.minutes()).ok();
            }
            Self::Day => start.date().tomorrow().ok()?,
            Self::Week => start.date().checked_add(1.week()).ok()?,
            Self::Month => start.date().checked_add(1.month()).ok()?,
        };
        // From the date, not from the time: a day may begin at one o'clock.
        date.to_zoned(start.time_zone().clone()).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone(name: &str) -> Zone {
        Zone::try_from(name.to_owned()).unwrap()
    }

    fn instant(text: &str, name: &str) -> String {
        let moment = Moment::try_from(text.to_owned()).unwrap();
        moment.instant(&zone(name)).unwrap().to_string()
    }

    #[test]
    fn a_date_is_its_first_instant() {
        for (text, name, expected) in [
            ("2026-11-01T10:00:00Z", "Europe/Berlin", "2026-11-01T10:00:00Z"),
            ("2026-11-01T10:00:00+05:30", "UTC", "2026-11-01T04:30:00Z"),
            ("2026-11-01", "UTC", "2026-11-01T00:00:00Z"),
            ("2026-11-01", "Asia/Kolkata", "2026-10-31T18:30:00Z"),
            // The clock goes from midnight to one.
            ("2026-04-24", "Africa/Cairo", "2026-04-23T22:00:00Z"),
            // Midnight comes twice.
            ("2026-11-01", "America/Havana", "2026-11-01T04:00:00Z"),
            // A call of the millisecond before is not in.
            ("2026-11-01T10:00:00.0001Z", "UTC", "2026-11-01T10:00:00.001Z"),
        ] {
            assert_eq!(instant(text, name), expected, "{text} {name}");
        }
        for bad in [
            "",
            "2026-11-01T10:00:00",
            "2026-11-01 ",
            "20261101",
            "2026-02-30",
            "today",
            "2026-1-1",
        ] {
            assert!(Moment::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn zones_are_known_by_their_names() {
        for name in [
            "UTC",
            "Europe/Berlin",
            "America/Argentina/Buenos_Aires",
            "Pacific/Chatham",
        ] {
            assert_eq!(zone(name).name(), name);
        }
        for bad in ["", "Europe", "+02:00", "CEST-2", "Etc/Unknown", "../etc/passwd"] {
            assert!(Zone::try_from(bad.to_owned()).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_hour_ends_where_the_clock_is_moved_by_half_of_one() {
        let starts = |from: &str, to: &str| -> Vec<String> {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let starts = Interval::Hour.buckets(from, to, &zone("Australia/Lord_Howe"), 10);
            starts.unwrap().iter().map(Timestamp::to_string).collect()
        };
        // From 02:00 to 02:30, and back from 02:00 to 01:30.
        assert_eq!(
            starts("2026-10-03T14:30:00Z", "2026-10-03T17:30:00Z"),
            [
                "2026-10-03T14:30:00Z",
                "2026-10-03T15:30:00Z",
                "2026-10-03T16:00:00Z",
                "2026-10-03T17:00:00Z"
            ]
        );
        assert_eq!(
            starts("2026-04-04T14:10:00Z", "2026-04-04T16:30:00Z"),
            [
                "2026-04-04T14:00:00Z",
                "2026-04-04T15:00:00Z",
                "2026-04-04T15:30:00Z"
            ]
        );
    }

    #[test]
    fn buckets_cover_their_window_without_a_gap() {
        let (from, to) = ("2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z");
        let (from, to): (Timestamp, Timestamp) = (from.parse().unwrap(), to.parse().unwrap());
        for name in [
            "UTC",
            "Europe/Berlin",
            "America/New_York",
            "Asia/Kathmandu",
            "Australia/Lord_Howe",
        ] {
            for (interval, least) in [
                (Interval::Hour, 17_519),
                (Interval::Day, 730),
                (Interval::Week, 105),
                (Interval::Month, 24),
            ] {
                let starts = interval.buckets(from, to, &zone(name), 20_000).unwrap();
                assert!(
                    (least..=least + 3).contains(&starts.len()),
                    "{name} {interval:?} {}",
                    starts.len()
                );
                assert!(starts.windows(2).all(|pair| pair[0] < pair[1]));
                assert!(starts[0] <= from && starts[1] > from && starts[starts.len() - 1] < to);
                assert!(
                    interval
                        .buckets(from, to, &zone(name), starts.len() - 1)
                        .is_none()
                );
            }
        }
    }
}
