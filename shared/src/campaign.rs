//! Campaigns, and the numbers that belong to them from a time to a time.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::identity::Identity;
use crate::time_id;

/// The id of a campaign: `cmp_` and 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
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
        match text.strip_prefix("cmp_") {
            Some(digits)
                if digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) =>
            {
                Ok(Self(text))
            }
            _ => Err("a campaign id is cmp_ and 32 hexadecimal digits"),
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
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
}

/// A tracking number that belongs to a campaign for a while.
///
/// It covers `from` and every instant up to, but without, `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NumberAssignment {
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

impl NumberAssignment {
    fn covers(&self, instant: Timestamp) -> bool {
        self.from <= instant && self.to.is_none_or(|to| instant < to)
    }

    fn says_the_same_as(&self, other: &Self) -> bool {
        (&self.campaign_id, self.from, self.to) == (&other.campaign_id, other.from, other.to)
    }

    fn overlaps(&self, other: &Self) -> bool {
        self.to.is_none_or(|to| other.from < to) && other.to.is_none_or(|to| self.from < to)
    }
}

/// All assignments of one tracking number, past, present and to come.
///
/// Ordered by their start, none overlaps another.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NumberHistory(Vec<NumberAssignment>);

/// What a person asks for with a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignNumber {
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

/// Why a number can't be assigned as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AssignNumberError {
    /// It would end before it starts.
    EndsBeforeStart,
    /// Another campaign has it for part of that time.
    Overlap(NumberAssignment),
}

impl NumberHistory {
    /// The assignment that covers an instant.
    #[must_use]
    pub fn at(&self, instant: Timestamp) -> Option<&NumberAssignment> {
        self.0.iter().find(|assignment| assignment.covers(instant))
    }

    /// The assignments to one campaign, the earliest first.
    pub fn of<'a>(&'a self, campaign_id: &'a CampaignId) -> impl Iterator<Item = &'a NumberAssignment> {
        self.0
            .iter()
            .filter(move |assignment| &assignment.campaign_id == campaign_id)
    }

    /// The history with the number assigned as asked.
    ///
    /// A campaign that has the number at `from` already goes on having it, so
    /// that asking twice changes nothing, an end can be set or lifted, and no
    /// history is lost; what it would get later is replaced. With `take_over`,
    /// another campaign that has the number at `from` has it until then; it is
    /// never taken from one that would get it only later.
    ///
    /// # Errors
    /// [`AssignNumberError`]; nothing is changed then.
    pub fn assign(&self, wanted: AssignNumber, now: Timestamp) -> Result<Self, AssignNumberError> {
        let AssignNumber {
            campaign_id,
            from,
            to,
            take_over,
            by,
        } = wanted;
        let from = from.unwrap_or(now);
        if to.is_some_and(|to| to <= from) {
            return Err(AssignNumberError::EndsBeforeStart);
        }
        let from = match self.at(from) {
            Some(current) if current.campaign_id == campaign_id => current.from,
            _ => from,
        };
        let new = NumberAssignment {
            campaign_id,
            from,
            to,
            by,
            at: now,
        };
        if self.0.iter().any(|old| old.says_the_same_as(&new)) {
            return Ok(self.clone());
        }
        let mut assignments = Vec::with_capacity(self.0.len() + 1);
        for old in &self.0 {
            if !old.overlaps(&new) {
                assignments.push(old.clone());
            } else if old.campaign_id == new.campaign_id {
                continue;
            } else if take_over && old.covers(new.from) {
                if old.from < new.from {
                    assignments.push(NumberAssignment {
                        to: Some(new.from),
                        by: new.by.clone(),
                        at: now,
                        ..old.clone()
                    });
                }
            } else {
                return Err(AssignNumberError::Overlap(old.clone()));
            }
        }
        assignments.push(new);
        assignments.sort_by_key(|assignment| assignment.from);
        Ok(Self(assignments))
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
        history: &NumberHistory,
        who: char,
        from: Option<i8>,
        to: Option<i8>,
        take_over: bool,
    ) -> Result<NumberHistory, AssignNumberError> {
        let wanted = AssignNumber {
            campaign_id: campaign(who),
            from: from.map(day),
            to: to.map(day),
            take_over,
            by: person("anna"),
        };
        history.assign(wanted, day(15))
    }

    fn spans(history: &NumberHistory) -> Vec<(char, Timestamp, Option<Timestamp>)> {
        let who = |assignment: &NumberAssignment| assignment.campaign_id.as_str().chars().last().unwrap();
        history.0.iter().map(|a| (who(a), a.from, a.to)).collect()
    }

    #[test]
    fn a_number_moves_in_one_step_and_keeps_its_history() {
        let a = assign(&NumberHistory::default(), 'a', Some(1), None, false).unwrap();
        let moved = assign(&a, 'b', Some(10), None, true).unwrap();
        assert_eq!(
            spans(&moved),
            [('a', day(1), Some(day(10))), ('b', day(10), None)]
        );
        assert_eq!(moved.at(day(9)).unwrap().campaign_id, campaign('a'));
        assert_eq!(moved.at(day(10)).unwrap().campaign_id, campaign('b'));
        assert_eq!(moved.at("2026-10-31T00:00:00Z".parse().unwrap()), None);
    }

    #[test]
    fn an_overlap_names_the_other_assignment_and_changes_nothing() {
        let a = assign(&NumberHistory::default(), 'a', Some(5), Some(10), false).unwrap();
        for (from, to) in [
            (Some(1), None),
            (Some(5), Some(10)),
            (Some(9), Some(20)),
            (Some(1), Some(6)),
        ] {
            let Err(AssignNumberError::Overlap(other)) = assign(&a, 'b', from, to, false) else {
                panic!("{from:?} to {to:?} was accepted");
            };
            assert_eq!(other.campaign_id, campaign('a'));
        }
        assert!(assign(&a, 'b', Some(10), None, false).is_ok());
        assert!(assign(&a, 'b', Some(1), Some(5), false).is_ok());
    }

    #[test]
    fn a_number_is_not_taken_from_a_campaign_that_gets_it_later() {
        let a = assign(&NumberHistory::default(), 'a', Some(20), None, false).unwrap();
        assert!(matches!(
            assign(&a, 'b', Some(10), None, true),
            Err(AssignNumberError::Overlap(_))
        ));
        assert!(assign(&a, 'b', Some(10), Some(20), true).is_ok());
    }

    #[test]
    fn asking_twice_changes_nothing() {
        let once = assign(&NumberHistory::default(), 'a', None, None, false).unwrap();
        let twice = once
            .assign(
                AssignNumber {
                    campaign_id: campaign('a'),
                    from: None,
                    to: None,
                    take_over: false,
                    by: person("ben"),
                },
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
        let none = NumberHistory::default();
        for to in [4, 5] {
            assert_eq!(
                assign(&none, 'a', Some(5), Some(to), false),
                Err(AssignNumberError::EndsBeforeStart)
            );
        }
    }
}
