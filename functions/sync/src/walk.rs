//! What a walk over a window has met so far, and what that comes to.

use std::collections::{BTreeMap, HashMap, HashSet};

use jiff::{SignedDuration, Timestamp};
use shared::call::CallId;
use shared::completeness::{AgentDay, Pass, Standing, Tally};
use shared::listing::Listed;
use shared::store::calls::{CallRecord, ErasureKey};

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
    /// By what calls of erased customers are found; `None` where there are none.
    erasure_key: Option<ErasureKey>,
}

impl Met {
    /// Nothing yet.
    pub fn new(erasure_key: Option<ErasureKey>) -> Self {
        Self {
            erasure_key,
            ..Self::default()
        }
    }

    /// The entries of a page that belong to what is left of the window, each once.
    pub fn fresh(&mut self, entries: Vec<Listed>, pass: &Pass) -> Vec<Listed> {
        let belongs = |entry: &Listed| pass.from <= entry.started_at && entry.started_at < pass.before;
        let mut fresh = entries;
        fresh.retain(|entry| belongs(entry) && self.listed.insert(entry.id.clone()));
        if let Some(key) = &self.erasure_key {
            self.listed.extend(fresh.iter().map(|entry| key.id_of(&entry.id)));
        }
        fresh
    }

    /// Learns of a call that is here.
    pub fn hold(&mut self, record: CallRecord) {
        self.held.insert(record.call.id.clone(), record);
    }

    /// The call of an entry, where it is known to be here.
    pub fn held(&mut self, id: &CallId) -> Option<CallRecord> {
        let erased = self.erasure_key.as_ref().map(|key| key.id_of(id));
        let held = self.held.remove(id);
        held.or_else(|| self.held.remove(&erased?))
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

    /// What is left of the window, and what the days behind it came to, which are whole.
    /// Of the second in which the earliest settled conversation began, others may still
    /// be to come.
    pub fn left_of(&self, pass: &Pass) -> (Pass, Tallies) {
        let Some(earliest) = self.settled_to else {
            return (pass.clone(), Tallies::new());
        };
        let second = Timestamp::from_second(earliest.as_second()).unwrap_or(earliest);
        let mut left = Pass {
            before: pass.before.min(second + SignedDuration::from_secs(1)),
            ..pass.clone()
        };
        let last = left.last_day();
        let counted = self.tallies(pass, left.before).into_iter();
        let (whole, in_part): (Tallies, Tallies) = counted.partition(|(agent_day, _)| agent_day.day > last);
        left.counted = in_part.into_iter().collect();
        (left, whole)
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

#[cfg(test)]
mod tests {
    use shared::call::{ArrivedBy, Call};
    use shared::completeness::Standing;
    use shared::conversation::Fetched;
    use shared::listing::ListingPage;

    use shared::attribution::Attribution;
    use shared::decision::Decisions;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn pass() -> Pass {
        Pass::new(at("2026-11-20T00:00:00Z"), at("2026-11-22T00:00:00Z"))
    }

    fn entries(starts: &[(&str, &str)]) -> Vec<Listed> {
        let entries: Vec<String> = starts
            .iter()
            .map(|(id, start)| {
                let start = at(start).as_second();
                format!(r#"{{"conversation_id":"{id}","agent_id":"a","start_time_unix_secs":{start},"status":"done"}}"#)
            })
            .collect();
        let page = format!(r#"{{"conversations":[{}]}}"#, entries.join(","));
        ListingPage::read(page.as_bytes()).unwrap().entries
    }

    /// Walks a page on which everything is held.
    fn walk(met: &mut Met, pass: &Pass, starts: &[(&str, &str)]) -> usize {
        let fresh = met.fresh(entries(starts), pass);
        for entry in &fresh {
            met.note(entry, Some(Standing::Held(ArrivedBy::Sync)));
        }
        if let Some(earliest) = fresh.iter().map(|entry| entry.started_at).min() {
            met.settle_to(earliest);
        }
        fresh.len()
    }

    fn held(id: &str, start: &str) -> CallRecord {
        let body = format!(r#"{{"conversation_id":"{id}","agent_id":"a"}}"#);
        let call: Call = Fetched::read(body.as_bytes(), at(start), None).unwrap().call;
        CallRecord {
            call,
            rule_result: Attribution::Unattributed.rule_result(at(start)),
            decisions: Decisions::default(),
            arrived_by: ArrivedBy::Webhook,
            received_at: at(start),
            updated_at: at(start),
        }
    }

    fn provider(tallies: &Tallies) -> u64 {
        tallies.values().map(|tally| tally.provider).sum()
    }

    #[test]
    fn each_entry_counts_once_wherever_the_walk_is_interrupted() {
        let starts = [
            ("a", "2026-11-21T10:00:02Z"),
            ("b", "2026-11-21T10:00:01Z"),
            ("c", "2026-11-21T10:00:01Z"),
            ("d", "2026-11-21T10:00:01Z"),
            ("e", "2026-11-21T10:00:00Z"),
        ];
        for interrupted_at in 0..=starts.len() {
            let mut met = Met::default();
            walk(&mut met, &pass(), &starts[..interrupted_at]);
            let (left, _) = met.left_of(&pass());
            // The listing begins a second too late, and tells of what was settled again.
            let mut met = Met::default();
            walk(&mut met, &left, &starts);
            let tallies = met.tallies(&left, left.from);
            assert_eq!(provider(&tallies), 5, "interrupted behind {interrupted_at}");
        }
    }

    #[test]
    fn days_behind_what_is_left_are_whole() {
        let mut met = Met::default();
        let starts = [("a", "2026-11-21T10:00:00Z"), ("b", "2026-11-20T10:00:00Z")];
        walk(&mut met, &pass(), &starts);
        let (left, whole) = met.left_of(&pass());
        let days: Vec<String> = whole.keys().map(|agent_day| agent_day.day.to_string()).collect();
        assert_eq!(days, ["2026-11-21"]);
        let days: Vec<String> = left
            .counted
            .iter()
            .map(|(agent_day, _)| agent_day.day.to_string())
            .collect();
        assert_eq!(days, [""; 0], "the second of the earliest is counted again");
        walk(&mut met, &pass(), &[("c", "2026-11-20T09:00:00Z")]);
        let (left, whole) = met.left_of(&pass());
        assert_eq!(
            (provider(&whole), left.counted.len(), left.counted[0].1.provider),
            (1, 1, 1)
        );
    }

    #[test]
    fn what_does_not_belong_to_the_window_or_came_before_is_passed_over() {
        let mut met = Met::default();
        let page = [
            ("late", "2026-11-22T00:00:00Z"),
            ("last", "2026-11-21T23:59:59Z"),
            ("first", "2026-11-20T00:00:00Z"),
            ("early", "2026-11-19T23:59:59Z"),
        ];
        assert_eq!(walk(&mut met, &pass(), &page), 2);
        assert_eq!(walk(&mut met, &pass(), &page), 0, "the same on another page");
        assert_eq!(provider(&met.tallies(&pass(), pass().from)), 2);
    }

    #[test]
    fn a_call_that_is_here_counts_once_whether_it_is_listed_or_not() {
        let mut met = Met::default();
        for (id, start) in [
            ("listed", "2026-11-21T10:00:00Z"),
            ("unlisted", "2026-11-21T11:00:00Z"),
        ] {
            met.hold(held(id, start));
        }
        let fresh = met.fresh(entries(&[("listed", "2026-11-21T10:00:00Z")]), &pass());
        assert_eq!(met.held(&fresh[0].id).unwrap().arrived_by, ArrivedBy::Webhook);
        met.note(&fresh[0], Some(Standing::Held(ArrivedBy::Webhook)));
        // By our own start it belongs to a page that comes later.
        met.hold(held("listed", "2026-11-20T10:00:00Z"));
        assert_eq!(met.unlisted_agents().count(), 1);
        let tallies = met.tallies(&pass(), pass().from);
        let expected = Tally {
            provider: 1,
            by_webhook: 2,
            ..Tally::default()
        };
        assert_eq!(tallies.into_values().collect::<Vec<_>>(), [expected]);
    }
}
