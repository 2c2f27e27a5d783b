//! Campaigns, and the numbers that belong to them from a time to a time.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::phone_number::PhoneNumber;
use crate::time_id;

/// The id of a campaign: `cmp_` and 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(extend("pattern" = "^cmp_[0-9a-f]{32}$"))]
pub struct CampaignId(String);

impl CampaignId {
    /// A new id of a campaign made at an instant. Later ones sort later.
    #[must_use]
    pub fn new(created_at: Timestamp) -> Self {
        Self(time_id::new("cmp_", created_at))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CampaignId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if time_id::is("cmp_", &text) {
            Ok(Self(text))
        } else {
            Err("a campaign id is cmp_ and 32 hexadecimal digits")
        }
    }
}

impl From<CampaignId> for String {
    fn from(id: CampaignId) -> Self {
        id.0
    }
}

impl fmt::Display for CampaignId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a campaign still takes credit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum CampaignStatus {
    /// Calls are credited to it.
    Active,
    /// It keeps its calls and gets no new ones.
    Archived,
}

/// A marketing effort that calls are credited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Campaign {
    /// Its id.
    pub id: CampaignId,
    /// What people call it: 1 to 200 characters, no blanks around.
    pub name: String,
    /// What machines call it, for example in `utm_campaign`; unique.
    pub code: Option<String>,
    /// Whether it still takes credit.
    pub status: CampaignStatus,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: Identity,
    /// When its name, code or status changed last.
    pub updated_at: Timestamp,
    /// Who changed it then.
    pub updated_by: Identity,
}

/// A tracking number or an agent that belongs to a campaign for a while.
///
/// It covers `from` and every instant up to, but without, `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DatedAssignment {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The first instant.
    pub from: Timestamp,
    /// The first instant after it; open where `None`.
    pub to: Option<Timestamp>,
    /// Who decided it to be so.
    pub by: Identity,
    /// When that was decided.
    pub at: Timestamp,
}

impl DatedAssignment {
    fn covers(&self, instant: Timestamp) -> bool {
        self.from <= instant && self.to.is_none_or(|to| instant < to)
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.campaign_id, self.from, self.to) == (&other.campaign_id, other.from, other.to)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.to.is_none_or(|to| other.from < to) && other.to.is_none_or(|to| self.from < to)
    }

    fn ending(&self, to: Timestamp, by: &Identity, at: Timestamp) -> Self {
        Self {
            to: Some(to),
            by: by.clone(),
            at,
            ..self.clone()
        }
    }
}

/// What belongs to campaigns from a time to a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asset {
    /// A tracking number.
    Number(PhoneNumber),
    /// An agent, by the provider's id of it.
    Agent(String),
}

impl Asset {
    /// Whether several campaigns can have it at the same time.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        match self {
            Self::Number(_) => Sharing::Exclusive,
            Self::Agent(_) => Sharing::Shared,
        }
    }
}

/// Whether several campaigns can have a thing at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// A tracking number belongs to one campaign at a time.
    Exclusive,
    /// An agent may work for several.
    Shared,
}

/// All assignments of one tracking number or agent, past, present and to come.
///
/// Ordered by their start. No two of one campaign overlap, nor any two of an
/// exclusive thing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AssignmentHistory(Vec<DatedAssignment>);

/// What a person asks for with a number or an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The campaign that is to have it.
    pub campaign_id: CampaignId,
    /// From when; from now where `None`.
    pub from: Option<Timestamp>,
    /// Until when; open where `None`.
    pub to: Option<Timestamp>,
    /// Whether it may be taken from the campaign that has it then.
    pub take_over: bool,
    /// Who asks.
    pub by: Identity,
}

/// Why something can't be assigned as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedError {
    /// It would end before it starts.
    EndsBeforeStart,
    /// Another campaign has it for part of that time.
    Overlap(DatedAssignment),
}

impl AssignmentHistory {
    /// The assignments that cover an instant.
    pub fn at(&self, instant: Timestamp) -> impl Iterator<Item = &DatedAssignment> {
        self.0.iter().filter(move |assignment| assignment.covers(instant))
    }

    /// The assignments to one campaign, the earliest first.
    pub fn of<'a>(&'a self, campaign_id: &'a CampaignId) -> impl Iterator<Item = &'a DatedAssignment> {
        self.0
            .iter()
            .filter(move |assignment| &assignment.campaign_id == campaign_id)
    }

    /// The history with something assigned as asked.
    ///
    /// A campaign that has it at `from` already goes on having it, so that
    /// asking twice changes nothing, an end can be set or lifted, and no history
    /// is lost; what it would get later is replaced. With `take_over`, others that
    /// have it at `from` have it until then; it is never taken from one that would
    /// get it only later.
    ///
    /// # Errors
    /// [`WantedError`]; nothing is changed then.
    pub fn assign(&self, wanted: Wanted, sharing: Sharing, now: Timestamp) -> Result<Self, WantedError> {
        let Wanted {
            campaign_id,
            from,
            to,
            take_over,
            by,
        } = wanted;
        let asked_from = from.unwrap_or(now);
        let from = asked_from;
        if to.is_some_and(|to| to <= from) {
            return Err(WantedError::EndsBeforeStart);
        }
        let own = self.of(&campaign_id).find(|own| own.covers(from));
        let from = own.map_or(from, |own| own.from);
        let new = DatedAssignment {
            campaign_id,
            from,
            to,
            by,
            at: now,
        };
        let is_taken =
            |old: &DatedAssignment| take_over && old.campaign_id != new.campaign_id && old.covers(asked_from);
        if self.0.iter().any(|old| old.says_the_same_as(&new)) && !self.0.iter().any(is_taken) {
            return Ok(self.clone());
        }
        let mut assignments = Vec::with_capacity(self.0.len() + 1);
        for old in &self.0 {
            let is_own = old.campaign_id == new.campaign_id;
            if !old.overlaps(&new) {
                assignments.push(old.clone());
            } else if is_own {
                continue;
            } else if is_taken(old) {
                if old.from < asked_from {
                    assignments.push(old.ending(asked_from, &new.by, now));
                }
            } else if sharing == Sharing::Exclusive {
                return Err(WantedError::Overlap(old.clone()));
            } else {
                assignments.push(old.clone());
            }
        }
        assignments.push(new);
        assignments.sort_by_key(|assignment| assignment.from);
        Ok(Self(assignments))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The history in which a campaign has it until now only; `None` where it
    /// does not have it now.
    #[must_use]
    pub fn end(&self, campaign_id: &CampaignId, by: &Identity, now: Timestamp) -> Option<Self> {
        self.of(campaign_id).find(|own| own.covers(now))?;
        let ended = self.0.iter().filter_map(|old| {
            if old.campaign_id != *campaign_id || !old.covers(now) {
                return Some(old.clone());
            }
            // What began this very instant never was.
            (old.from < now).then(|| old.ending(now, by, now))
        });
        Some(Self(ended.collect()))
    }

    /// The history without a campaign's assignment that starts at an instant, as
    /// if it had never been; `None` where there is none.
    #[must_use]
    pub fn without(&self, campaign_id: &CampaignId, from: Timestamp) -> Option<Self> {
        let is_it = |old: &DatedAssignment| old.campaign_id == *campaign_id && old.from == from;
        self.0.iter().any(is_it).then(|| {
            let others = self.0.iter().filter(|old| !is_it(old));
            Self(others.cloned().collect())
        })
    }
}

/// A customer number that a campaign reached out to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contact {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The customer's number.
    pub number: PhoneNumber,
    /// The first instant; always before, where `None`.
    pub from: Option<Timestamp>,
    /// The first instant after it; open where `None`.
    pub to: Option<Timestamp>,
    /// Who added it.
    pub by: Identity,
    /// When it was added.
    pub at: Timestamp,
}

impl Contact {
    /// Whether it counts at an instant.
    #[must_use]
    pub fn covers(&self, instant: Timestamp) -> bool {
        self.from.is_none_or(|from| from <= instant) && self.to.is_none_or(|to| instant < to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn campaign(digit: char) -> CampaignId {
        CampaignId::try_from(format!("cmp_{}", digit.to_string().repeat(32))).unwrap()
    }

    fn person(name: &str) -> Identity {
        Identity::of_claims(|_| Some(name)).unwrap()
    }

    fn day(day: i8) -> Timestamp {
        format!("2026-11-{day:02}T00:00:00Z").parse().unwrap()
    }

    fn assign(
        history: &AssignmentHistory,
        who: char,
        from: Option<i8>,
        to: Option<i8>,
        take_over: bool,
    ) -> Result<AssignmentHistory, WantedError> {
        let wanted = Wanted {
            campaign_id: campaign(who),
            from: from.map(day),
            to: to.map(day),
            take_over,
            by: person("anna"),
        };
        history.assign(wanted, Sharing::Exclusive, day(15))
    }

    fn spans(history: &AssignmentHistory) -> Vec<(char, Timestamp, Option<Timestamp>)> {
        let who = |assignment: &DatedAssignment| assignment.campaign_id.as_str().chars().last().unwrap();
        history.0.iter().map(|a| (who(a), a.from, a.to)).collect()
    }

    #[test]
    fn a_number_moves_in_one_step_and_keeps_its_history() {
        let a = assign(&AssignmentHistory::default(), 'a', Some(1), None, false).unwrap();
        let moved = assign(&a, 'b', Some(10), None, true).unwrap();
        assert_eq!(
            spans(&moved),
            [('a', day(1), Some(day(10))), ('b', day(10), None)]
        );
        assert_eq!(moved.at(day(9)).next().unwrap().campaign_id, campaign('a'));
        assert_eq!(moved.at(day(10)).next().unwrap().campaign_id, campaign('b'));
        assert_eq!(moved.at("2026-10-31T00:00:00Z".parse().unwrap()).count(), 0);
    }

    #[test]
    fn an_overlap_names_the_other_assignment_and_changes_nothing() {
        let a = assign(&AssignmentHistory::default(), 'a', Some(5), Some(10), false).unwrap();
        for (from, to) in [
            (Some(1), None),
            (Some(5), Some(10)),
            (Some(9), Some(20)),
            (Some(1), Some(6)),
        ] {
            let Err(WantedError::Overlap(other)) = assign(&a, 'b', from, to, false) else {
                panic!("{from:?} to {to:?} was accepted");
            };
            assert_eq!(other.campaign_id, campaign('a'));
        }
        assert!(assign(&a, 'b', Some(10), None, false).is_ok());
        assert!(assign(&a, 'b', Some(1), Some(5), false).is_ok());
    }

    #[test]
    fn a_number_is_not_taken_from_a_campaign_that_gets_it_later() {
        let a = assign(&AssignmentHistory::default(), 'a', Some(20), None, false).unwrap();
        assert!(matches!(
            assign(&a, 'b', Some(10), None, true),
            Err(WantedError::Overlap(_))
        ));
        assert!(assign(&a, 'b', Some(10), Some(20), true).is_ok());
    }

    #[test]
    fn asking_twice_changes_nothing() {
        let once = assign(&AssignmentHistory::default(), 'a', None, None, false).unwrap();
        let twice = once
            .assign(
                Wanted {
                    campaign_id: campaign('a'),
                    from: None,
                    to: None,
                    take_over: false,
                    by: person("ben"),
                },
                Sharing::Exclusive,
                day(17),
            )
            .unwrap();
        assert_eq!(once, twice, "who decided it stays, too");
        for from in [15, 16] {
            let ended = assign(&once, 'a', Some(from), Some(18), false).unwrap();
            assert_eq!(
                spans(&ended),
                [('a', day(15), Some(day(18)))],
                "what it had before stays"
            );
        }
        let earlier = assign(&once, 'a', Some(1), None, false).unwrap();
        assert_eq!(spans(&earlier), [('a', day(1), None)]);
    }

    #[test]
    fn an_assignment_ends_after_it_starts() {
        let none = AssignmentHistory::default();
        for to in [4, 5] {
            assert_eq!(
                assign(&none, 'a', Some(5), Some(to), false),
                Err(WantedError::EndsBeforeStart)
            );
        }
    }

    #[test]
    fn an_agent_is_shared_unless_it_is_taken_over() {
        let share = |history: &AssignmentHistory, who: char, from: i8, take_over: bool| {
            let wanted = Wanted {
                campaign_id: campaign(who),
                from: Some(day(from)),
                to: None,
                take_over,
                by: person("anna"),
            };
            history.assign(wanted, Sharing::Shared, day(15)).unwrap()
        };
        let both = share(
            &share(&AssignmentHistory::default(), 'a', 1, false),
            'b',
            5,
            false,
        );
        assert_eq!(spans(&both), [('a', day(1), None), ('b', day(5), None)]);
        assert_eq!(both.at(day(6)).count(), 2);
        let taken = share(&both, 'c', 10, true);
        assert_eq!(
            spans(&taken),
            [
                ('a', day(1), Some(day(10))),
                ('b', day(5), Some(day(10))),
                ('c', day(10), None)
            ]
        );
        // Also by one that has it already, and only from then on.
        let alone = share(&both, 'a', 8, true);
        assert_eq!(spans(&alone), [('a', day(1), None), ('b', day(5), Some(day(8)))]);
        assert_eq!(share(&alone, 'a', 8, true), alone, "once is enough");
    }

    #[test]
    fn what_a_campaign_has_now_is_ended_and_a_wrong_entry_is_removed() {
        let a = assign(&AssignmentHistory::default(), 'a', Some(1), None, false).unwrap();
        let ended = a.end(&campaign('a'), &person("ben"), day(9)).unwrap();
        assert_eq!(spans(&ended), [('a', day(1), Some(day(9)))]);
        assert_eq!((ended.0[0].by.as_str(), ended.0[0].at), ("ben", day(9)));
        assert_eq!(ended.end(&campaign('a'), &person("ben"), day(9)), None);
        assert_eq!(a.end(&campaign('b'), &person("ben"), day(9)), None);
        let at_once = a.end(&campaign('a'), &person("ben"), day(1)).unwrap();
        assert_eq!(spans(&at_once), []);

        assert_eq!(spans(&a.without(&campaign('a'), day(1)).unwrap()), []);
        assert_eq!(a.without(&campaign('a'), day(2)), None);
        assert_eq!(a.without(&campaign('b'), day(1)), None);
    }
}
