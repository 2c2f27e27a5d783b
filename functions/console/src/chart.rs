//! Charts as SVG: shapes in numbers, nothing in them comes from outside.

use jiff::Timestamp;
use shared::calendar::Zone;
use shared::campaign::DatedAssignment;
use shared::report::Count;

use crate::show::{count, counted, percent};

/// The width of a chart, in its own units.
const WIDTH: u64 = 1000;
/// The height of a chart of days, in its own units.
const HEIGHT: u64 = 100;

/// Calls and conversions, a bar for each day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Days {
    pub bars: Vec<Day>,
    /// The most calls of a day.
    pub most: u64,
    /// What the chart says, in a sentence.
    pub sentence: String,
}

/// One day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Day {
    pub x: u64,
    pub width: u64,
    /// Of the bar of calls, from the top of the chart.
    pub y: u64,
    pub height: u64,
    /// Of the bar of conversions.
    pub converted_y: u64,
    pub converted_height: u64,
    /// Which it is, and what it counts.
    pub day: String,
    pub calls: u64,
    pub converted: u64,
    /// What is said of it on hover.
    pub title: String,
    /// Written below it, where there is room.
    pub label: String,
}

impl Day {
    /// Where it begins, as a share of the width.
    pub fn left(&self) -> String {
        format!("{}.{}%", self.x / 10, self.x % 10)
    }
}

impl Days {
    /// A chart of the days that begin at these instants.
    pub fn new(starts: &[Timestamp], counts: &[Count], zone: &Zone) -> Self {
        let most = counts.iter().map(|count| count.calls).max().unwrap_or_default();
        let number = starts.len().max(1) as u64;
        let height = |calls: u64| (calls * HEIGHT).div_ceil(most.max(1));
        let every = number.div_ceil(6);
        let bars = (0..).zip(starts).map(|(index, start)| {
            let count = counts.get(index as usize).copied().unwrap_or_default();
            let day = zone.local(*start);
            let (x, end) = (index * WIDTH / number, (index + 1) * WIDTH / number);
            Day {
                x,
                width: (end - x).saturating_sub(2).max(1),
                y: HEIGHT - height(count.calls),
                height: height(count.calls),
                converted_y: HEIGHT - height(count.converted),
                converted_height: height(count.converted),
                day: day.strftime("%-d %b").to_string(),
                calls: count.calls,
                converted: count.converted,
                title: format!(
                    "{}: {}, {}",
                    day.strftime("%-d %b"),
                    counted(count.calls, "call"),
                    counted(count.converted, "conversion")
                ),
                label: if index % every == 0 {
                    day.strftime("%-d %b").to_string()
                } else {
                    String::new()
                },
            }
        });
        let total = counts.iter().fold(Count::default(), |sum, count| Count {
            calls: sum.calls + count.calls,
            converted: sum.converted + count.converted,
        });
        Self {
            bars: bars.collect(),
            most,
            sentence: format!(
                "{} and {} in {}, at most {} a day",
                counted(total.calls, "call"),
                counted(total.converted, "conversion"),
                counted(starts.len() as u64, "day"),
                count(most)
            ),
        }
    }
}

/// A share of all calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bar {
    pub title: String,
    pub calls: String,
    pub converted: String,
    pub rate: String,
    /// Of the longest bar, in units of [`WIDTH`].
    pub width: u64,
    pub converted_width: u64,
}

/// Bars side by side, the longest as wide as there is room.
pub fn bars(counts: Vec<(String, Count)>) -> Vec<Bar> {
    let most = counts
        .iter()
        .map(|(_, count)| count.calls)
        .max()
        .unwrap_or_default()
        .max(1);
    let bar = |(title, counted): (String, Count)| Bar {
        title,
        calls: count(counted.calls),
        converted: count(counted.converted),
        rate: percent(counted.converted, counted.calls),
        width: counted.calls * WIDTH / most,
        converted_width: counted.converted * WIDTH / most,
    };
    counts.into_iter().map(bar).collect()
}

/// A part of a line of time, in units of [`WIDTH`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    pub x: u64,
    pub width: u64,
    pub is_open: bool,
}

/// When something belonged to a campaign, on a line from the earliest instant to
/// now; what lies beyond now is as wide as a hair.
pub fn timeline(spans: &[&DatedAssignment], earliest: Timestamp, now: Timestamp) -> Vec<Span> {
    let whole = now.duration_since(earliest).as_secs().max(1);
    let place = |at: Timestamp| {
        let since = at.duration_since(earliest).as_secs().clamp(0, whole);
        u64::try_from(since * 1000 / whole).unwrap_or_default()
    };
    let span = |assignment: &&DatedAssignment| {
        let x = place(assignment.from);
        let end = assignment.to.map_or(WIDTH, place);
        Span {
            x: x.min(WIDTH - 4),
            width: end.saturating_sub(x).max(4),
            is_open: assignment.to.is_none(),
        }
    };
    spans.iter().map(span).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_says_what_it_shows() {
        let starts = ["2026-11-01T00:00:00Z", "2026-11-02T00:00:00Z"];
        let starts = starts.map(|start| start.parse::<Timestamp>().unwrap());
        let counts = [(3, 1), (1, 1)].map(|(calls, converted)| Count { calls, converted });
        let days = Days::new(&starts, &counts, &Zone::default());
        assert_eq!(
            days.sentence,
            "4 calls and 2 conversions in 2 days, at most 3 a day"
        );
        let [first, second] = days.bars.as_slice() else {
            panic!("{:?}", days.bars);
        };
        assert_eq!((first.y, first.height, first.converted_height), (0, 100, 34));
        assert_eq!((second.x, second.width, second.height), (500, 498, 34));
        assert_eq!(first.title, "1 Nov: 3 calls, 1 conversion");
        assert!(Days::new(&[], &[], &Zone::default()).bars.is_empty());
    }
}
