//! What a walk over a window has met so far, and what that comes to.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use shared::call::CallId;
use shared::completeness::{AgentDay, Pass, Standing, Tally};
use shared::listing::Listed;
use shared::store::calls::CallRecord;

/// Stands in for an agent that the listing does not name.
const UNKNOWN_AGENT: &str = "unknown";

/// What a window comes to.
pub type Tallies = BTreeMap<AgentDay, Tally>;

/// What a walk has met.
#[derive(Default)]
pub struct Met {
    /// The ids that were listed.
    listed: HashSet<CallId>,
    /// How what was listed stands.
    standings: Vec<(AgentDay, Timestamp, Standing)>,
    /// The calls that are here and were not asked for yet.
    held: HashMap<CallId, CallRecord>,
    /// The start of the earliest conversation up to which everything was settled.
    settled_to: Option<Timestamp>,
}

impl Met {
    /// The entries of a page that belong to what is left of the window, each once.
    pub fn fresh(&mut self, entries: Vec<Listed>, pass: &Pass) -> Vec<Listed> {
        let belongs = |entry: &Listed| pass.from <= entry.started_at && entry.started_at < pass.before;
        let mut fresh = entries;
        fresh.retain(|entry| belongs(entry) && self.listed.insert(entry.id.clone()));
        fresh
    }

    /// Learns of a call that is here.
    pub fn hold(&mut self, record: CallRecord) {
        self.held.insert(record.call.id.clone(), record);
    }

    /// The call of an entry, where it is known to be here.
    pub fn held(&mut self, id: &CallId) -> Option<CallRecord> {
        self.held.remove(id)
    }

    /// Notes how an entry stands; one that is gone stands no how.
    pub fn note(&mut self, entry: &Listed, standing: Option<Standing>) {
        let agent = entry.agent_id.as_deref().unwrap_or(UNKNOWN_AGENT);
        if let Some(standing) = standing {
            let agent_day = AgentDay::of(agent, entry.started_at);
            self.standings.push((agent_day, entry.started_at, standing));
        }
    }

    /// Notes that all entries down to a start are settled.
    pub fn settle_to(&mut self, earliest: Timestamp) {
        let earliest = self.settled_to.map_or(earliest, |before| before.min(earliest));
        self.settled_to = Some(earliest);
    }

    /// The agents of calls that are here and that the provider did not list.
    pub fn unlisted_agents(&self) -> impl Iterator<Item = &str> {
        self.unlisted()
            .filter_map(|record| record.call.agent_id.as_deref())
    }

    fn unlisted(&self) -> impl Iterator<Item = &CallRecord> {
        let calls = self.held.values();
        calls.filter(|record| !self.listed.contains(&record.call.id))
    }

    /// What is left of the window, with what was counted so far. Of the second in which
    /// the earliest settled conversation began, others may still be to come.
    pub fn left_of(&self, pass: &Pass) -> Pass {
        let Some(earliest) = self.settled_to else {
            return pass.clone();
        };
        let second = Timestamp::from_second(earliest.as_second()).unwrap_or(earliest);
        let before = pass.before.min(second + SignedDuration::from_secs(1));
        Pass {
            counted: self.tallies(pass, before).into_iter().collect(),
            before,
            ..pass.clone()
        }
    }

    /// What the window comes to, counted from an instant on, together with what was
    /// counted before.
    pub fn tallies(&self, pass: &Pass, from: Timestamp) -> Tallies {
        let mut tallies = Tallies::new();
        for (agent_day, tally) in &pass.counted {
            tallies.entry(agent_day.clone()).or_default().add(*tally);
        }
        for (agent_day, started_at, standing) in &self.standings {
            if *started_at >= from {
                tallies
                    .entry(agent_day.clone())
                    .or_default()
                    .add_listed(*standing);
            }
        }
        for record in self.unlisted() {
            let call = &record.call;
            if let Some(agent_id) = call.agent_id.as_deref().filter(|_| call.started_at >= from) {
                let agent_day = AgentDay::of(agent_id, call.started_at);
                tallies
                    .entry(agent_day)
                    .or_default()
                    .add_unlisted(record.arrived_by);
            }
        }
        tallies
    }
}
