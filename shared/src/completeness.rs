//! Whether every call is here: what is compared with the provider's listing, and
//! what that came to, agent by agent and day by day.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Span};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::{ArrivedBy, CallId};

/// Errors that one run tells of; the rest is in the logs.
const TOLD_ERRORS: usize = 10;

/// How a conversation stands with us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It is a call here.
    Held(ArrivedBy),
    /// It is over, and not here.
    Missing,
    /// It is not over yet, or not analysed.
    Unfinished,
}

/// An agent and a day in UTC.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct AgentDay {
    /// The day on which the conversations began.
    pub day: Date,
    /// The agent that took them.
    pub agent_id: String,
}

impl AgentDay {
    /// Where a conversation counts.
    #[must_use]
    pub fn of(agent_id: &str, started_at: Timestamp) -> Self {
        Self {
            day: day_of(started_at),
            agent_id: agent_id.to_owned(),
        }
    }
}

/// How many conversations stand how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// That the provider lists and that are over.
    pub provider: u64,
    /// That are here and came by webhook first.
    pub by_webhook: u64,
    /// That are here and came by sync first.
    pub by_sync: u64,
    /// That the provider lists, that are over, and that are not here.
    pub missing: u64,
    /// That the provider lists and that are not over.
    pub unfinished: u64,
}

impl Tally {
    /// Counts one that the provider lists.
    pub fn add_listed(&mut self, standing: Standing) {
        match standing {
            Standing::Held(by) => {
                self.provider += 1;
                self.add_unlisted(by);
            }
            Standing::Missing => {
                self.provider += 1;
                self.missing += 1;
            }
            Standing::Unfinished => self.unfinished += 1,
        }
    }

    /// Counts one that is here, but that the provider does not list.
    pub fn add_unlisted(&mut self, by: ArrivedBy) {
        match by {
            ArrivedBy::Webhook => self.by_webhook += 1,
            ArrivedBy::Sync => self.by_sync += 1,
        }
    }

    /// Counts all of another tally, too.
    pub fn add(&mut self, other: Self) {
        self.provider += other.provider;
        self.by_webhook += other.by_webhook;
        self.by_sync += other.by_sync;
        self.missing += other.missing;
        self.unfinished += other.unfinished;
    }

    /// How many are here.
    #[must_use]
    pub fn held(self) -> u64 {
        self.by_webhook + self.by_sync
    }
}

/// What of a window is still to be compared; it is walked from its end to its start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pass {
    /// The first instant of the window; the start of a day.
    pub from: Timestamp,
    /// The first instant behind it.
    pub to: Timestamp,
    /// The first instant that was compared already; `to` where none was.
    pub before: Timestamp,
    /// The day from which on everything is compared, once this is.
    pub since: Date,
    /// What was counted of the day that is compared in part.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub counted: Vec<(AgentDay, Tally)>,
}

impl Pass {
    /// A window, none of which was compared yet.
    #[must_use]
    pub fn new(from: Timestamp, to: Timestamp) -> Self {
        Self {
            from,
            to,
            before: to,
            since: day_of(from),
            counted: Vec::new(),
        }
    }

    /// The last day of which anything is left.
    #[must_use]
    pub fn last_day(&self) -> Date {
        day_of(self.before - SignedDuration::from_millis(1))
    }
}

/// When a day before the recent window is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Look {
    /// Not before this instant, unless it was not looked at yet.
    pub again_at: Timestamp,
    /// How often it was looked at again.
    pub looks: u32,
    /// What it still has of these.
    pub open: Open,
}

/// Conversations that are not here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Open {
    /// That are over.
    pub missing: u64,
    /// That are not over yet.
    pub unfinished: u64,
}

impl Open {
    /// Of several tallies.
    pub fn of<'a>(tallies: impl IntoIterator<Item = &'a Tally>) -> Self {
        tallies.into_iter().fold(Self::default(), |open, tally| Self {
            missing: open.missing + tally.missing,
            unfinished: open.unfinished + tally.unfinished,
        })
    }

    /// Whether there is any.
    #[must_use]
    pub fn is_any(self) -> bool {
        self.missing > 0 || self.unfinished > 0
    }
}

/// What outlives a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// When the first run began: earlier calls were nobody's to deliver here.
    pub watching_since: Timestamp,
    /// The recent window, where a run ended before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recent: Option<Pass>,
    /// A day before the recent window, where a run ended before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Pass>,
    /// Days before the recent window that are still to be compared, or that have
    /// conversations which are missing or not over.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub unsettled: BTreeMap<Date, Look>,
    /// Up to when the last recent window was compared whole, and from which day on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compared: Option<Compared>,
    /// Since when calls come by sync only; `None` while deliveries come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_only_since: Option<Timestamp>,
    /// How the webhooks with our path are at the provider; `None` where it does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<Vec<WebhookHealth>>,
}

impl Progress {
    /// Before the first run, which begins at an instant.
    #[must_use]
    pub fn new(watching_since: Timestamp) -> Self {
        Self {
            watching_since,
            recent: None,
            day: None,
            unsettled: BTreeMap::new(),
            compared: None,
            sync_only_since: None,
            webhooks: None,
        }
    }

    /// The recent window of a run that begins now: what is left of the last one, or a
    /// whole one of this length. What lies between it and what was compared before is
    /// put among the days to be looked at; before the first run, so many days.
    pub fn begin(&mut self, now: Timestamp, window: SignedDuration, first_days: u32) -> Pass {
        if let Some(interrupted) = self.recent.take() {
            return interrupted;
        }
        let recent = Pass::new(start_of_day(now - window), now);
        let mut gap = match self.compared {
            Some(compared) => compared.from,
            None => {
                let days = Span::new().days(i64::from(first_days));
                day_of(now).checked_sub(days).unwrap_or(Date::MIN)
            }
        };
        let end = day_of(recent.from);
        while gap < end {
            let look = Look {
                again_at: now,
                looks: 0,
                open: Open::default(),
            };
            self.unsettled.entry(gap).or_insert(look);
            let Ok(next) = gap.tomorrow() else { break };
            gap = next;
        }
        recent
    }

    /// The latest of the days that are to be looked at by now.
    #[must_use]
    pub fn due(&self, now: Timestamp) -> Option<Date> {
        let is_due = |look: &Look| look.looks == 0 || look.again_at <= now;
        let mut days = self.unsettled.iter().rev();
        days.find(|(_, look)| is_due(look)).map(|(day, _)| *day)
    }

    /// Notes that a day was looked at: it is settled, or to be looked at again, less
    /// and less often, until that is given up after a month. Where something was gone
    /// that had been listed, it is looked at once more.
    pub fn looked_at(&mut self, day: Date, open: Open, any_gone: bool, now: Timestamp) {
        let looks = self.unsettled.remove(&day).map_or(0, |look| look.looks);
        let is_unsettled = open.is_any() || (any_gone && looks == 0);
        let pause = match looks {
            0 => SignedDuration::from_mins(15),
            1 => SignedDuration::from_hours(1),
            2 => SignedDuration::from_hours(6),
            3..=32 => SignedDuration::from_hours(24),
            _ => return,
        };
        if is_unsettled {
            let again_at = now + pause;
            let look = Look {
                again_at,
                looks: looks + 1,
                open,
            };
            self.unsettled.insert(day, look);
        }
    }

    /// What is known to be missing, and what is not over.
    #[must_use]
    pub fn open(&self) -> Open {
        let days = self.unsettled.values().map(|look| look.open);
        let recent = self.compared.map(|compared| compared.open);
        days.chain(recent).fold(Open::default(), |all, open| Open {
            missing: all.missing + open.missing,
            unfinished: all.unfinished + open.unfinished,
        })
    }

    /// Whether the next run has something to do at once.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.recent.is_some() || self.day.is_some() || self.unsettled.values().any(|look| look.looks == 0)
    }
}

/// A window that was compared whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Its first day.
    pub from: Date,
    /// Its end; what began later was not looked at.
    pub until: Timestamp,
    /// What it still has of these.
    pub open: Open,
}

/// Why a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// Its time had come.
    Schedule,
    /// Somebody asked.
    Request,
}

/// One run of sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Why it began.
    pub trigger: Trigger,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; null while it is under way, or where it was cut off.
    pub finished_at: Option<Timestamp>,
    /// Conversations that the provider listed in what the run walked.
    pub listed: u64,
    /// Conversations that were fetched.
    pub fetched: u64,
    /// Calls that were missing and are here now.
    pub stored: u64,
    /// Calls of which there are newer facts now.
    pub updated: u64,
    /// Conversations that were listed, and gone when they were fetched.
    pub gone: u64,
    /// Conversations that are known not to be over yet, whichever run found that.
    pub unfinished: u64,
    /// Conversations that are over and known not to be here, whichever run found that.
    pub missing: u64,
    /// Requests to the provider, repeated ones included.
    pub requests: u64,
    /// What went wrong, at most ten of it.
    pub errors: Vec<RunError>,
}

impl Run {
    /// One that begins now.
    #[must_use]
    pub fn new(trigger: Trigger, started_at: Timestamp) -> Self {
        Self {
            trigger,
            started_at,
            finished_at: None,
            listed: 0,
            fetched: 0,
            stored: 0,
            updated: 0,
            gone: 0,
            unfinished: 0,
            missing: 0,
            requests: 0,
            errors: Vec::new(),
        }
    }

    /// Tells of an error, unless it told of too many.
    pub fn tell(&mut self, error: RunError) {
        if self.errors.len() < TOLD_ERRORS && !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }
}

/// Something that went wrong in a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RunError {
    /// What programs match on: `api_key_refused`, `agents_unreadable`,
    /// `provider_unavailable`, `provider_refused`, `provider_unreadable`, `store_unavailable`.
    pub code: String,
    /// For people: what it was, and what to do.
    pub message: String,
    /// The conversation, where it is about one.
    pub conversation_id: Option<CallId>,
}

/// How a webhook is at the provider, by its own word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WebhookHealth {
    /// Its id there.
    pub webhook_id: String,
    /// Its name there.
    pub name: String,
    /// Where it delivers to.
    pub url: String,
    /// Whether it is switched off, by somebody or for its failures.
    pub is_disabled: bool,
    /// When a delivery failed last.
    pub failed_at: Option<Timestamp>,
    /// With which status.
    pub failed_with: Option<i64>,
}

/// What an agent and a day came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerRow {
    /// Which.
    pub agent_day: AgentDay,
    /// How many conversations stand how.
    pub tally: Tally,
    /// Whether the provider keeps what can be compared: agents with zero retention
    /// leave nothing there.
    pub is_checkable: bool,
    /// As of when; later where [`Progress::compared`] says so.
    pub checked_at: Timestamp,
}

/// The day of an instant in UTC.
#[must_use]
pub fn day_of(instant: Timestamp) -> Date {
    instant.to_zoned(TimeZone::UTC).date()
}

/// The first instant of the day of another.
#[must_use]
pub fn start_of_day(instant: Timestamp) -> Timestamp {
    first_instant(day_of(instant)).unwrap_or(instant)
}

/// The first instant of a day; `None` beyond the calendar.
#[must_use]
pub fn first_instant(day: Date) -> Option<Timestamp> {
    Some(day.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: Open = Open {
        missing: 1,
        unfinished: 0,
    };
    const WINDOW: SignedDuration = SignedDuration::from_hours(72);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn days(progress: &Progress) -> Vec<String> {
        progress.unsettled.keys().map(Date::to_string).collect()
    }

    /// After a run that compared all of its recent window.
    fn compared(until: &str) -> Progress {
        let mut progress = Progress::new(at("2026-01-01T00:00:00Z"));
        progress.compared = Some(Compared {
            from: day_of(at(until) - WINDOW),
            until: at(until),
            open: Open::default(),
        });
        progress
    }

    #[test]
    fn a_window_holds_whole_days_and_reaches_to_now() {
        let now = at("2026-11-21T10:30:00Z");
        let pass = compared("2026-11-21T10:15:00Z").begin(now, WINDOW, 30);
        assert_eq!(pass, Pass::new(at("2026-11-18T00:00:00Z"), now));
    }

    #[test]
    fn nothing_lies_between_two_windows() {
        let begin = |until: &str, now: &str| {
            let mut progress = compared(until);
            progress.begin(at(now), WINDOW, 30);
            days(&progress)
        };
        assert_eq!(begin("2026-11-21T10:15:00Z", "2026-11-21T10:30:00Z"), [""; 0]);
        // The day that falls out is looked at a last time.
        assert_eq!(
            begin("2026-11-20T23:59:00Z", "2026-11-21T00:14:00Z"),
            ["2026-11-17"]
        );
        // An outage of two days and a half.
        assert_eq!(
            begin("2026-11-18T20:00:00Z", "2026-11-21T08:00:00Z"),
            ["2026-11-15", "2026-11-16", "2026-11-17"]
        );
    }

    #[test]
    fn a_window_that_is_made_shorter_leaves_nothing_out() {
        let mut progress = compared("2026-11-21T10:15:00Z");
        progress.begin(at("2026-11-21T10:30:00Z"), SignedDuration::from_hours(24), 30);
        assert_eq!(days(&progress), ["2026-11-18", "2026-11-19"]);
    }

    #[test]
    fn a_first_run_reaches_back_and_an_interrupted_one_goes_on() {
        let now = at("2026-11-21T10:30:00Z");
        let mut progress = Progress::new(now);
        let pass = progress.begin(now, WINDOW, 5);
        assert_eq!(pass.from, at("2026-11-18T00:00:00Z"));
        assert_eq!(days(&progress), ["2026-11-16", "2026-11-17"]);
        assert!(progress.has_more());
        assert_eq!(
            progress.due(now),
            Some("2026-11-17".parse().unwrap()),
            "the latest first"
        );
        let left = Pass {
            before: at("2026-11-20T00:00:00Z"),
            ..pass
        };
        progress.recent = Some(left.clone());
        let later = at("2026-11-23T10:30:00Z");
        assert_eq!(progress.begin(later, WINDOW, 5), left);
        assert_eq!(
            progress.unsettled.len(),
            2,
            "nothing is planned before that is compared"
        );
        let mut shallow = Progress::new(now);
        shallow.begin(now, WINDOW, 0);
        assert_eq!(days(&shallow), [""; 0]);
    }

    #[test]
    fn an_unsettled_day_is_looked_at_less_and_less_often_for_a_month() {
        let mut now = at("2026-11-21T10:30:00Z");
        let day = "2026-11-01".parse().unwrap();
        let mut progress = compared("2026-11-21T10:15:00Z");
        progress.looked_at(day, OPEN, false, now);
        assert!(!progress.has_more() && progress.due(now).is_none());
        let mut looks = 0;
        while let Some(look) = progress.unsettled.get(&day).copied() {
            now = look.again_at;
            assert_eq!(progress.due(now), Some(day));
            progress.looked_at(day, OPEN, false, now);
            looks += 1;
        }
        assert_eq!(looks, 33);
        let month = SignedDuration::from_hours(30 * 24);
        assert!(now.duration_since(at("2026-11-21T10:30:00Z")) > month);
        progress.looked_at(day, OPEN, false, now);
        progress.looked_at(day, Open::default(), false, now);
        assert_eq!(progress.due(now + month), None, "settled");
        progress.looked_at(day, Open::default(), true, now);
        assert_eq!(
            progress.due(now + month),
            Some(day),
            "what is gone is looked for once more"
        );
        progress.looked_at(day, Open::default(), true, now);
        assert_eq!(progress.due(now + month), None);
    }
}
