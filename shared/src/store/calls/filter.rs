//! Which calls a list holds and in which order: pure, but for the choice of the
//! index that finds them.

use std::cmp::Ordering;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{CallRecord, campaign_month, credited_to, position, time_text};
use crate::attribution::Status;
use crate::call::{Channel, Direction, Outcome};
use crate::campaign::CampaignId;
use crate::decision::Credit;
use crate::phone_number::{Country, PhoneNumber};

/// Digits that are enough to look for a number.
const LAST_DIGITS: usize = 4;

/// Which calls; those for which everything that is given holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallFilter {
    /// Credited to this campaign.
    pub campaign_id: Option<CampaignId>,
    /// Of this standing.
    pub attribution: Option<Status>,
    /// That began at this instant or later; whole milliseconds.
    pub from: Option<Timestamp>,
    /// That began before this instant; whole milliseconds.
    pub to: Option<Timestamp>,
    /// That went like this.
    pub outcome: Option<Outcome>,
    /// In this direction.
    pub direction: Option<Direction>,
    /// That came this way.
    pub channel: Option<Channel>,
    /// Of this agent.
    pub agent_id: Option<String>,
    /// With this customer.
    pub customer_number: Option<NumberFilter>,
    /// By this number of ours.
    pub tracking_number: Option<NumberFilter>,
    /// That reached their goal, or did not.
    pub converted: Option<bool>,
    /// At least this long.
    pub min_duration_seconds: Option<u32>,
    /// At most this long.
    pub max_duration_seconds: Option<u32>,
}

/// Which phone numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NumberFilter {
    /// This one.
    Is(PhoneNumber),
    /// Those that end with these digits, and this one: what they are as a whole
    /// number. Nobody can tell which of the two was meant.
    EndsWith(String, PhoneNumber),
}

/// A list of calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CallList {
    /// Which calls.
    pub filter: CallFilter,
    /// Ordered by what.
    pub sort: Sort,
    /// In which direction.
    pub order: Order,
}

/// What a list is ordered by; calls that are equal in it, by their start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// The start of the call.
    #[default]
    StartedAt,
    /// How long it took.
    Duration,
    /// How it went, by the alphabet.
    Outcome,
    /// The customer's number, by its characters; calls without one come last.
    CustomerNumber,
}

/// The direction of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The greatest or latest first.
    #[default]
    Desc,
    /// The least or earliest first.
    Asc,
}

impl CallFilter {
    /// Whether a call is among them.
    #[must_use]
    pub fn matches(&self, record: &CallRecord) -> bool {
        fn is<T: PartialEq>(wanted: Option<&T>, value: Option<&T>) -> bool {
            wanted.is_none() || wanted == value
        }
        let call = &record.call;
        let credit = record.decisions.credit(&record.rule_result);
        let converted = record.decisions.conversion(call).converted;
        is(self.campaign_id.as_ref(), credit.campaign_id.as_ref())
            && is(self.attribution.as_ref(), Some(&credit.status))
            && self.from.is_none_or(|from| from <= call.started_at)
            && self.to.is_none_or(|to| call.started_at < to)
            && is(self.outcome.as_ref(), Some(&call.outcome))
            && is(self.direction.as_ref(), call.direction.as_ref())
            && is(self.channel.as_ref(), Some(&call.channel))
            && is(self.agent_id.as_ref(), call.agent_id.as_ref())
            && NumberFilter::matches(self.customer_number.as_ref(), call.customer_number.as_ref())
            && NumberFilter::matches(self.tracking_number.as_ref(), call.tracking_number.as_ref())
            && is(self.converted.as_ref(), Some(&converted))
            && self
                .min_duration_seconds
                .is_none_or(|least| least <= call.duration_seconds)
            && self
                .max_duration_seconds
                .is_none_or(|most| call.duration_seconds <= most)
    }

    /// Where calls like these are found.
    pub(super) fn path(&self) -> Path {
        match self {
            Self {
                customer_number: Some(NumberFilter::Is(number)),
                ..
            } => Path::Customer(number.clone()),
            Self {
                campaign_id: Some(id),
                attribution: None | Some(Status::Attributed),
                ..
            } => Path::Credit(id.as_str().to_owned()),
            // A call without one campaign is not a campaign's.
            Self {
                campaign_id: Some(_), ..
            } => Path::Nowhere,
            Self {
                attribution: Some(status @ (Status::Unattributed | Status::Ambiguous)),
                ..
            } => Path::Credit(
                credited_to(&Credit {
                    status: *status,
                    campaign_id: None,
                    method: None,
                })
                .to_owned(),
            ),
            _ => Path::Start,
        }
    }

    /// Whether there are calls on its path that are not among them, the window
    /// aside.
    pub(super) fn picks(&self) -> bool {
        let mut beside = Self {
            from: None,
            to: None,
            ..self.clone()
        };
        match self.path() {
            Path::Nowhere | Path::Start => {}
            Path::Customer(_) => beside.customer_number = None,
            Path::Credit(_) => {
                beside.campaign_id = None;
                beside.attribution = None;
            }
        }
        beside != Self::default()
    }
}

/// Where calls are found: in which index, under which keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Path {
    /// There are none.
    Nowhere,
    /// All of a month.
    Start,
    /// Those of a month that are credited alike.
    Credit(String),
    /// Those of one customer, of all time.
    Customer(PhoneNumber),
}

impl Path {
    /// The index, its key, and the key's value for a month.
    pub(super) fn key(&self, month: &str) -> (&'static str, &'static str, String) {
        match self {
            Self::Nowhere | Self::Start => ("by-start", "start_month", month.to_owned()),
            Self::Credit(credited_to) => (
                "by-campaign",
                "campaign_month",
                campaign_month(credited_to, month),
            ),
            Self::Customer(number) => ("by-customer", "customer_number", number.as_str().to_owned()),
        }
    }
}

impl NumberFilter {
    /// Reads a number in any way of writing it, or its last digits.
    ///
    /// # Errors
    /// Says what was expected instead.
    pub fn parse(text: &str, country: Option<Country>) -> Result<Self, &'static str> {
        let expected = "expected a phone number, or at least its last four digits";
        let number = PhoneNumber::parse(text, country).ok_or(expected)?;
        match digits(text) {
            Some(digits) if digits.len() < LAST_DIGITS => Err(expected),
            Some(digits) if !text.trim_start().starts_with('+') => Ok(Self::EndsWith(digits, number)),
            _ => Ok(Self::Is(number)),
        }
    }

    fn matches(wanted: Option<&Self>, number: Option<&PhoneNumber>) -> bool {
        match wanted {
            None => true,
            Some(Self::Is(wanted)) => number == Some(wanted),
            Some(Self::EndsWith(last, whole)) => number.is_some_and(|number| {
                let ends_with = |digits: String| digits.ends_with(last);
                number == whole || digits(number.as_str()).is_some_and(ends_with)
            }),
        }
    }
}

/// The digits of what is written as a phone number; `None` for other text.
fn digits(text: &str) -> Option<String> {
    let is_separator = |character| " \u{a0}-./()+".contains(character);
    let is_number = text
        .chars()
        .all(|character| character.is_ascii_digit() || is_separator(character));
    let digits = || text.chars().filter(char::is_ascii_digit).collect();
    is_number
        .then(digits)
        .filter(|digits: &String| !digits.is_empty())
}

impl CallList {
    /// Calls, the latest first.
    #[must_use]
    pub fn latest_first(filter: CallFilter) -> Self {
        Self {
            filter,
            ..Self::default()
        }
    }

    /// What a cursor of this list is bound to.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{self:?}")
    }
}

/// Where a call stands in a list that is ordered by something else than its start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SortPosition {
    /// `None` for a call without that; it comes last in either direction.
    value: Option<String>,
    /// Its position among those that are equal in it.
    start: String,
}

impl SortPosition {
    pub(super) fn of(record: &CallRecord, sort: Sort) -> Self {
        let call = &record.call;
        Self {
            value: match sort {
                Sort::StartedAt => Some(time_text(call.started_at)),
                Sort::Duration => Some(format!("{:010}", call.duration_seconds)),
                Sort::Outcome => Some(call.outcome.as_str().to_owned()),
                Sort::CustomerNumber => call
                    .customer_number
                    .as_ref()
                    .map(|number| number.as_str().to_owned()),
            },
            start: position(call),
        }
    }

    pub(super) fn compare(&self, other: &Self, order: Order) -> Ordering {
        let by_value = (&self.value, &self.start).cmp(&(&other.value, &other.start));
        self.value
            .is_none()
            .cmp(&other.value.is_none())
            .then(match order {
                Order::Asc => by_value,
                Order::Desc => by_value.reverse(),
            })
    }

    /// As text that [`read`](Self::read) understands. A start holds no control
    /// characters.
    pub(super) fn write(&self) -> String {
        match &self.value {
            Some(value) => format!("{}\n{value}", self.start),
            None => self.start.clone(),
        }
    }

    pub(super) fn read(text: &str) -> Self {
        match text.split_once('\n') {
            Some((start, value)) => Self {
                value: Some(value.to_owned()),
                start: start.to_owned(),
            },
            None => Self {
                value: None,
                start: text.to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_whole_or_by_its_last_digits() {
        for (written, country, number, found) in [
            ("+49 1511 2345678", None, "+4915112345678", true),
            ("+4915112345678", Some("DE"), "+4915112345678", true),
            ("01511 2345678", Some("DE"), "+4915112345678", true),
            ("01511 2345678", None, "+4915112345678", false),
            // Also a whole number, in Germany.
            ("345678", Some("DE"), "+4915112345678", true),
            ("345678", Some("DE"), "+49345678", true),
            ("345678", None, "+4915112345678", true),
            ("5678", None, "5678", true),
            ("5678", None, "+4915112345679", false),
            ("+5678", None, "+4915112345678", false),
            ("anonymous", Some("DE"), "anonymous", true),
            ("example.com", None, "1234@example.com", false),
        ] {
            let country = country.map(|country: &str| country.parse().unwrap());
            let filter = NumberFilter::parse(written, country).unwrap();
            let number = PhoneNumber::parse(number, None);
            assert_eq!(
                NumberFilter::matches(Some(&filter), number.as_ref()),
                found,
                "{written} {number:?}"
            );
        }
        for bad in ["", " ", "187", "(1) 8-7", "+187", "\u{7}"] {
            assert!(NumberFilter::parse(bad, None).is_err(), "{bad:?}");
        }
    }
}
