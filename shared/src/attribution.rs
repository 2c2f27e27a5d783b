//! The credit of a call to a campaign: a pure decision with its evidence.

use std::collections::BTreeSet;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::campaign::{AssignmentHistory, CampaignId, Contact};
use crate::phone_number::PhoneNumber;

/// Candidates that are kept with a call, whoever else claims it.
const MAX_CANDIDATES: usize = 20;

/// The rule that named the campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The conversation's dynamic variables name it.
    DynamicVariable,
    /// An assignment of our number covers the start of the call.
    TrackingNumber,
    /// It had reached out to the customer.
    Contact,
    /// The agent works for it.
    Agent,
}

/// Why a rule named a campaign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Evidence {
    /// What a dynamic variable says.
    Variable {
        /// `campaign_id` or `utm_campaign`.
        variable: String,
        /// Its value.
        value: String,
    },
    /// An assignment of our number, or a contact, that covers the start of the call.
    Number {
        /// Our number, or the customer's.
        number: PhoneNumber,
        /// Since when; since always where `None`.
        from: Option<Timestamp>,
        /// Until when; open where `None`.
        to: Option<Timestamp>,
    },
    /// An assignment of the agent that covers the start of the call.
    Agent {
        /// The agent.
        agent_id: String,
        /// Start of the assignment.
        from: Timestamp,
        /// Its end; open where `None`.
        to: Option<Timestamp>,
    },
}

/// A campaign that a rule named.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidate {
    /// The campaign.
    pub campaign_id: CampaignId,
    /// The rule.
    pub method: Method,
    /// Why.
    pub evidence: Evidence,
}

/// What the rules say about a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribution {
    /// No rule names a campaign.
    Unattributed,
    /// The first rule that names any names one; those that later rules would
    /// have named lost.
    Attributed {
        /// Whom the call is credited to.
        winner: Candidate,
        /// Other campaigns, in the order of the rules.
        losers: Vec<Candidate>,
    },
    /// The first rule that names any names several: a person has to choose.
    Ambiguous(Vec<Candidate>),
}

/// Where a call stands with regard to campaigns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Credited to one campaign.
    Attributed,
    /// Credited to none.
    Unattributed,
    /// Several campaigns claim it.
    Ambiguous,
}

impl Status {
    /// As in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attributed => "attributed",
            Self::Unattributed => "unattributed",
            Self::Ambiguous => "ambiguous",
        }
    }
}

/// The layer of the rules: what they said when they were asked last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleResult {
    /// Where the call stands.
    pub status: Status,
    /// The campaign, of an attributed call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub campaign_id: Option<CampaignId>,
    /// The rule that named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<Method>,
    /// When the rules were asked.
    pub at: Timestamp,
}

impl Attribution {
    /// What lists show of it, as decided at an instant.
    #[must_use]
    pub fn rule_result(&self, at: Timestamp) -> RuleResult {
        let (status, named) = match self {
            Self::Unattributed => (Status::Unattributed, None),
            Self::Attributed { winner, .. } => (Status::Attributed, Some(winner)),
            Self::Ambiguous(_) => (Status::Ambiguous, None),
        };
        RuleResult {
            status,
            campaign_id: named.map(|candidate| candidate.campaign_id.clone()),
            method: named.map(|candidate| candidate.method),
            at,
        }
    }

    /// Why the campaign was named, of an attributed call.
    #[must_use]
    pub fn evidence(&self) -> Option<&Evidence> {
        match self {
            Self::Attributed { winner, .. } => Some(&winner.evidence),
            Self::Unattributed | Self::Ambiguous(_) => None,
        }
    }

    /// The other campaigns that claim the call: those that lost, or all among
    /// which a person has to choose.
    #[must_use]
    pub fn candidates(&self) -> &[Candidate] {
        match self {
            Self::Unattributed => &[],
            Self::Attributed { losers, .. } => losers,
            Self::Ambiguous(candidates) => candidates,
        }
    }
}

/// The campaign data that can bear on one call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Candidates {
    /// Campaigns that take no credit any more.
    pub archived: BTreeSet<CampaignId>,
    /// The campaign whose id the variable `campaign_id` is.
    pub by_variable_id: Option<CampaignId>,
    /// The campaign whose code the variable `utm_campaign` is.
    pub by_variable_code: Option<CampaignId>,
    /// Who had the call's tracking number when.
    pub tracking_number: AssignmentHistory,
    /// Who reached out to the customer when.
    pub contacts: Vec<Contact>,
    /// Whom the agent worked for when.
    pub agent: AssignmentHistory,
}

/// Credits a call: the first rule that names any campaign decides.
///
/// A call is judged by its own start; archived campaigns are named by no rule.
#[must_use]
pub fn attribute(call: &Call, candidates: &Candidates) -> Attribution {
    let rules = [by_dynamic_variable, by_tracking_number, by_contact, by_agent];
    let mut named = rules.into_iter().filter_map(|rule| {
        let mut named = rule(call, candidates);
        named.retain(|candidate| !candidates.archived.contains(&candidate.campaign_id));
        named.sort_by(|a, b| a.campaign_id.cmp(&b.campaign_id));
        named.dedup_by(|a, b| a.campaign_id == b.campaign_id);
        named.truncate(MAX_CANDIDATES);
        (!named.is_empty()).then_some(named)
    });
    let Some(mut first) = named.next() else {
        return Attribution::Unattributed;
    };
    if first.len() > 1 {
        return Attribution::Ambiguous(first);
    }
    let winner = first.remove(0);
    let mut losers: Vec<Candidate> = Vec::new();
    for candidate in named.flatten() {
        let claims = |other: &Candidate| other.campaign_id == candidate.campaign_id;
        if !claims(&winner) && !losers.iter().any(claims) && losers.len() < MAX_CANDIDATES {
            losers.push(candidate);
        }
    }
    Attribution::Attributed { winner, losers }
}

fn by_dynamic_variable(call: &Call, candidates: &Candidates) -> Vec<Candidate> {
    let variables = &call.campaign_variables;
    let named = [
        ("campaign_id", &variables.campaign_id, &candidates.by_variable_id),
        (
            "utm_campaign",
            &variables.utm_campaign,
            &candidates.by_variable_code,
        ),
    ];
    named
        .into_iter()
        .filter_map(|(variable, value, campaign_id)| {
            Some(Candidate {
                campaign_id: campaign_id.clone()?,
                method: Method::DynamicVariable,
                evidence: Evidence::Variable {
                    variable: variable.to_owned(),
                    value: value.clone()?,
                },
            })
        })
        .collect()
}

fn by_tracking_number(call: &Call, candidates: &Candidates) -> Vec<Candidate> {
    let Some(number) = &call.tracking_number else {
        return Vec::new();
    };
    let covering = candidates.tracking_number.at(call.started_at);
    covering
        .map(|assignment| Candidate {
            campaign_id: assignment.campaign_id.clone(),
            method: Method::TrackingNumber,
            evidence: Evidence::Number {
                number: number.clone(),
                from: Some(assignment.from),
                to: assignment.to,
            },
        })
        .collect()
}

fn by_contact(call: &Call, candidates: &Candidates) -> Vec<Candidate> {
    let contacts = candidates.contacts.iter();
    contacts
        .filter(|contact| Some(&contact.number) == call.customer_number.as_ref())
        .filter(|contact| contact.covers(call.started_at))
        .map(|contact| Candidate {
            campaign_id: contact.campaign_id.clone(),
            method: Method::Contact,
            evidence: Evidence::Number {
                number: contact.number.clone(),
                from: contact.from,
                to: contact.to,
            },
        })
        .collect()
}

fn by_agent(call: &Call, candidates: &Candidates) -> Vec<Candidate> {
    let Some(agent_id) = &call.agent_id else {
        return Vec::new();
    };
    let covering = candidates.agent.at(call.started_at);
    covering
        .map(|assignment| Candidate {
            campaign_id: assignment.campaign_id.clone(),
            method: Method::Agent,
            evidence: Evidence::Agent {
                agent_id: agent_id.clone(),
                from: assignment.from,
                to: assignment.to,
            },
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{CallId, CampaignVariables, Channel, Outcome};
    use crate::campaign::{Sharing, Wanted};
    use crate::identity::Identity;

    fn campaign(digit: char) -> CampaignId {
        CampaignId::try_from(format!("cmp_{}", digit.to_string().repeat(32))).unwrap()
    }

    fn person() -> Identity {
        Identity::of_claims(|_| Some("anna")).unwrap()
    }

    fn day(day: i8) -> Timestamp {
        format!("2026-11-{day:02}T00:00:00Z").parse().unwrap()
    }

    fn number(text: &str) -> PhoneNumber {
        PhoneNumber::parse(text, None).unwrap()
    }

    /// A call of the 10th that every rule can say something about.
    fn call() -> Call {
        Call {
            id: CallId::try_from("conv_1".to_owned()).unwrap(),
            agent_id: Some("agent_1".to_owned()),
            agent_name: None,
            channel: Channel::Phone,
            direction: None,
            customer_number: Some(number("+16125550187")),
            tracking_number: Some(number("+16125550142")),
            started_at: day(10),
            duration_seconds: 0,
            outcome: Outcome::Unknown,
            termination_reason: None,
            language: None,
            has_transcript: false,
            campaign_variables: CampaignVariables {
                campaign_id: Some("some id".to_owned()),
                utm_campaign: Some("some-code".to_owned()),
            },
        }
    }

    fn history(whose: &[char], sharing: Sharing) -> AssignmentHistory {
        whose.iter().fold(AssignmentHistory::default(), |history, who| {
            let wanted = Wanted {
                campaign_id: campaign(*who),
                from: Some(day(1)),
                to: None,
                take_over: false,
                by: person(),
            };
            history.assign(wanted, sharing, day(1)).unwrap()
        })
    }

    fn contact(who: char, from: Option<i8>, to: Option<i8>) -> Contact {
        Contact {
            campaign_id: campaign(who),
            number: number("+16125550187"),
            from: from.map(day),
            to: to.map(day),
            by: person(),
            at: day(1),
        }
    }

    /// Whom each rule names, as letters: variable id, code, number, contacts, agents.
    fn candidates(id: &str, code: &str, tracking: &str, contacts: &str, agents: &str) -> Candidates {
        let letters = |text: &str| text.chars().collect::<Vec<_>>();
        Candidates {
            archived: BTreeSet::new(),
            by_variable_id: id.chars().next().map(campaign),
            by_variable_code: code.chars().next().map(campaign),
            tracking_number: history(&letters(tracking), Sharing::Exclusive),
            contacts: contacts.chars().map(|who| contact(who, None, None)).collect(),
            agent: history(&letters(agents), Sharing::Shared),
        }
    }

    /// The winner with its rule, then all other candidates, as letters.
    fn told(attribution: &Attribution) -> (String, String) {
        let letter = |candidate: &Candidate| candidate.campaign_id.as_str().chars().last().unwrap();
        let others = attribution.candidates().iter().map(letter).collect();
        let winner = match attribution {
            Attribution::Unattributed => "none".to_owned(),
            Attribution::Ambiguous(_) => "ambiguous".to_owned(),
            Attribution::Attributed { winner, .. } => format!("{} {:?}", letter(winner), winner.method),
        };
        (winner, others)
    }

    #[test]
    fn the_first_rule_that_names_any_campaign_decides() {
        for (candidates, winner, others) in [
            (candidates("", "", "", "", ""), "none", ""),
            (candidates("a", "", "b", "c", "d"), "a DynamicVariable", "bcd"),
            (candidates("", "a", "b", "c", "d"), "a DynamicVariable", "bcd"),
            (candidates("a", "a", "", "", ""), "a DynamicVariable", ""),
            (candidates("a", "b", "c", "", ""), "ambiguous", "ab"),
            (candidates("", "", "b", "c", "d"), "b TrackingNumber", "cd"),
            (candidates("", "", "b", "bc", "b"), "b TrackingNumber", "c"),
            (candidates("", "", "", "c", "d"), "c Contact", "d"),
            (candidates("", "", "", "dc", "e"), "ambiguous", "cd"),
            (candidates("", "", "", "", "d"), "d Agent", ""),
            (candidates("", "", "", "", "de"), "ambiguous", "de"),
        ] {
            let attribution = attribute(&call(), &candidates);
            assert_eq!(told(&attribution), (winner.to_owned(), others.to_owned()));
        }
    }

    #[test]
    fn archived_campaigns_are_named_by_no_rule() {
        let mut all = candidates("a", "", "b", "cd", "e");
        all.archived = ['a', 'b', 'c'].map(campaign).into();
        let attribution = attribute(&call(), &all);
        assert_eq!(told(&attribution), ("d Contact".to_owned(), "e".to_owned()));
    }

    #[test]
    fn a_call_is_judged_by_its_own_start() {
        for (from, to, counts) in [
            (None, None, true),
            (Some(10), None, true),
            (Some(11), None, false),
            (None, Some(10), false),
            (None, Some(11), true),
            (Some(10), Some(11), true),
        ] {
            let mut data = Candidates::default();
            data.contacts.push(contact('a', from, to));
            let attribution = attribute(&call(), &data);
            assert_eq!(
                attribution != Attribution::Unattributed,
                counts,
                "{from:?} {to:?}"
            );
        }
    }

    #[test]
    fn a_call_that_nothing_is_known_of_is_credited_to_nobody() {
        let bare = Call {
            agent_id: None,
            customer_number: None,
            tracking_number: None,
            campaign_variables: CampaignVariables::default(),
            ..call()
        };
        let all = candidates("a", "b", "c", "d", "e");
        assert_eq!(attribute(&bare, &all), Attribution::Unattributed);
    }

    #[test]
    fn the_number_of_candidates_is_bounded() {
        let mut data = Candidates::default();
        for index in 0..100 {
            let mut contact = contact('a', None, None);
            contact.campaign_id = CampaignId::try_from(format!("cmp_{index:032x}")).unwrap();
            data.contacts.push(contact);
        }
        assert_eq!(attribute(&call(), &data).candidates().len(), MAX_CANDIDATES);
    }
}
