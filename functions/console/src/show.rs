//! Values as people read them.

use std::fmt;

use askama::filters::HtmlSafe;
use jiff::{SignedDuration, Timestamp};
use shared::calendar::Zone;
use shared::conversion::Money;

/// An instant by the clocks of the viewer, with the exact one on hover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct When {
    at: Timestamp,
    short: String,
    exact: String,
}

impl When {
    /// As the viewer reads it: the year only where it is another one.
    pub fn new(at: Timestamp, zone: &Zone, now: Timestamp) -> Self {
        let (local, today) = (zone.local(at), zone.local(now));
        let short = if local.year() == today.year() {
            local.strftime("%-d %b, %H:%M")
        } else {
            local.strftime("%-d %b %Y, %H:%M")
        };
        Self {
            at,
            short: short.to_string(),
            exact: format!("{} {}", local.strftime("%A, %-d %B %Y, %H:%M:%S"), zone.name()),
        }
    }
}

impl When {
    /// Without the exact instant.
    pub fn short(&self) -> &str {
        &self.short
    }
}

/// An element of its own; nothing in it comes from outside.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, short, exact } = self;
        write!(f, "<time datetime=\"{at}\" title=\"{exact}\">{short}</time>")
    }
}

impl HtmlSafe for When {}

/// A length of time by the clock: `1:19`, `1:01:01`.
pub fn clock(seconds: u64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours == 0 {
        format!("{minutes}:{seconds:02}")
    } else {
        format!("{hours}:{minutes:02}:{seconds:02}")
    }
}

/// A number with its thousands apart: `12,345`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// So many of something: `1 call`, `12,345 calls`.
pub fn counted(number: u64, thing: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {thing}{s}", count(number))
}

/// A share in per cent with one digit; a dash where there is nothing to share.
pub fn percent(part: u64, whole: u64) -> String {
    match (part * 1000 + whole / 2).checked_div(whole) {
        None => "–".to_owned(),
        Some(permille) => format!("{}.{}%", permille / 10, permille % 10),
    }
}

/// A size: `8.4 KB`.
pub fn bytes(number: u64) -> String {
    let tenths = |unit: u64| {
        let tenths = (number * 10 + unit / 2) / unit;
        format!("{}.{}", tenths / 10, tenths % 10)
    };
    match number {
        0..1000 => format!("{number} B"),
        1000..1_000_000 => format!("{} KB", tenths(1000)),
        _ => format!("{} MB", tenths(1_000_000)),
    }
}

/// How long ago: `3 min ago`.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let minutes = now.duration_since(at).max(SignedDuration::ZERO).as_mins();
    match minutes {
        0 => "just now".to_owned(),
        1..60 => format!("{minutes} min ago"),
        60..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 1440),
    }
}

/// `120.00 USD`.
pub fn money(money: &Money) -> String {
    format!("{} {}", money.amount(), money.currency())
}

/// A word of the contract as people read it: `tracking_number` is `Tracking number`.
pub fn words(word: &str) -> String {
    let mut letters = word.chars();
    let first = letters.next().map(|first| first.to_uppercase().to_string());
    let rest = letters.as_str().replace('_', " ");
    first.unwrap_or_default() + &rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_formatted_for_reading() {
        assert_eq!([0, 59, 79, 3661].map(clock), ["0:00", "0:59", "1:19", "1:01:01"]);
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(count),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(
            [1, 2].map(|number| counted(number, "call")),
            ["1 call", "2 calls"]
        );
        assert_eq!(
            [(0, 0), (0, 7), (1, 3), (2, 3), (7, 7)].map(|(part, whole)| percent(part, whole)),
            ["–", "0.0%", "33.3%", "66.7%", "100.0%"]
        );
        assert_eq!([999, 8552, 1_500_000].map(bytes), ["999 B", "8.6 KB", "1.5 MB"]);
        assert_eq!(words("call_initiation_failure"), "Call initiation failure");
    }

    #[test]
    fn a_time_is_the_viewers_with_the_exact_one_on_hover() {
        let zone = Zone::try_from("Europe/Berlin".to_owned()).unwrap();
        let instant = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = instant("2026-11-22T12:00:00Z");
        assert_eq!(
            When::new(instant("2026-11-22T10:26:40Z"), &zone, now).to_string(),
            "<time datetime=\"2026-11-22T10:26:40Z\" \
             title=\"Sunday, 22 November 2026, 11:26:40 Europe/Berlin\">22 Nov, 11:26</time>"
        );
        let last_year = When::new(instant("2025-12-31T22:59:59Z"), &zone, now);
        assert_eq!(last_year.short, "31 Dec 2025, 23:59");
        assert_eq!(
            [0, 3, 120, 5000].map(|minutes| ago(now - SignedDuration::from_mins(minutes), now)),
            ["just now", "3 min ago", "2 h ago", "3 days ago"]
        );
    }
}
