//! What people decide about calls, and what the rules say when they are asked
//! again: the one way in which anything but the facts of a call changes.
//!
//! A decision is made from the head as it was read and written on condition that
//! it still is, with its entry in the history and what is needed to undo it, all
//! or nothing; where somebody else was faster it is made again.

use futures_util::future::join_all;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use crate::attribution::{Status, attribute};
use crate::call::CallId;
use crate::campaign::CampaignId;
use crate::conversion::Money;
use crate::decision::{Assigned, AssignmentId, Change, Converted, Credit, HistoryEntry};
use crate::error::Error;
use crate::identity::Identity;
use crate::store::calls::{Before, CallFilter, CallList, CallStore, Decided, Head, Member, NO_CALL, Written};
use crate::store::campaigns::CampaignStore;
use crate::store::{Page, WRITE_ATTEMPTS, cursor, pause_before};

/// Calls that are decided about at the same time. All members of an assignment
/// are written under one key, which takes 1,000 write units a second.
const CONCURRENCY: usize = 8;
/// Calls that one page of an assignment by filter, of an undo or of a
/// re-attribution decides about.
const MAX_MATCHES: usize = 500;
const MAX_REASON_CHARACTERS: usize = 500;

/// What is said of an assignment that is not there.
pub const NO_ASSIGNMENT: Error = Error::NotFound {
    message: "there is no such assignment, or it changed nothing: check the id",
};

/// Who decides, when and why.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The person.
    pub by: Identity,
    /// When.
    pub at: Timestamp,
    /// Why, in the person's words.
    pub reason: Option<String>,
    /// Only tells what would happen.
    pub dry_run: bool,
}

impl Decision {
    /// By somebody, now.
    ///
    /// # Errors
    /// Where the reason is too long, or not on one line.
    pub fn new(by: &Identity, at: Timestamp, reason: Option<String>, dry_run: bool) -> Result<Self, Error> {
        let fits = |reason: &String| {
            reason.chars().count() <= MAX_REASON_CHARACTERS && !reason.chars().any(char::is_control)
        };
        if reason.as_ref().is_some_and(|reason| !fits(reason)) {
            let must = format!("reason must be at most {MAX_REASON_CHARACTERS} characters, on one line");
            return Err(Error::invalid("reason", must));
        }
        Ok(Self {
            by: by.clone(),
            at,
            reason: reason.filter(|reason| !reason.trim().is_empty()),
            dry_run,
        })
    }
}

/// Whom a call is to be credited to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A campaign, or nobody.
    Campaign(Option<CampaignId>),
    /// Whom the rules name.
    Automatic,
}

/// What a decision about one call came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "AssignmentOutcome")]
pub struct Outcome {
    /// The call.
    pub call_id: CallId,
    /// What became of it.
    pub result: OutcomeResult,
    /// The campaign that it was credited to before.
    pub from: Option<CampaignId>,
}

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutcomeResult {
    /// It is as decided.
    Assigned,
    /// It was so before.
    Unchanged,
    /// There is no such call.
    NotFound,
    /// A later decision touched it, so it is left as it is.
    ChangedSince,
    /// It could not be decided about just now; asking again for it helps.
    Failed,
}

/// A call that a re-attribution moves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Moved {
    /// The call.
    pub call_id: CallId,
    /// The campaign that it was credited to.
    pub from: Option<CampaignId>,
    /// The campaign that it is credited to.
    pub to: Option<CampaignId>,
    /// Where it stands now.
    pub status: Status,
    /// Whether it reached its goal, so that a conversion moves with it.
    pub converted: bool,
}

/// What a re-attribution came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reattributed {
    /// Calls that the rules were asked about, or a person has decided about.
    pub examined: usize,
    /// Calls that move.
    pub moved: Vec<Moved>,
    /// Calls that a person has decided about, which stay.
    pub manual_skipped: usize,
    /// Calls about which the rules could not be asked just now.
    pub failed: Vec<CallId>,
}

impl Reattributed {
    fn add(&mut self, before: &Head, after: Head) {
        if before.record.decisions.assigned.is_some() {
            self.manual_skipped += 1;
        } else if is_elsewhere(&before.credit(), &after.credit()) {
            let credit = after.credit();
            self.moved.push(Moved {
                from: before.credit().campaign_id,
                to: credit.campaign_id,
                status: credit.status,
                converted: after.record.decisions.conversion(&after.record.call).converted,
                call_id: after.record.call.id,
            });
        }
    }
}

/// A step from one head to the next; `None` where there is nothing to decide.
type Step = Option<Decided>;

/// Decides about calls.
#[derive(Debug, Clone)]
pub struct Decider {
    calls: CallStore,
    campaigns: CampaignStore,
}

impl Decider {
    /// About the calls of a store.
    #[must_use]
    pub fn new(calls: CallStore, campaigns: CampaignStore) -> Self {
        Self { calls, campaigns }
    }

    /// The campaign that calls are to be credited to, as a request names it;
    /// nobody where that is null.
    ///
    /// # Errors
    /// Where nothing is named, or what is no campaign.
    pub async fn target(&self, campaign_id: Option<Option<String>>) -> Result<Target, Error> {
        let must = "campaign_id must be the id of a campaign, or null for none";
        let invalid = || Error::invalid("campaign_id", must);
        let Some(id) = campaign_id.ok_or_else(invalid)? else {
            return Ok(Target::Campaign(None));
        };
        let id = CampaignId::try_from(id).map_err(|_| invalid())?;
        if self.campaigns.exists(&id).await? {
            Ok(Target::Campaign(Some(id)))
        } else {
            Err(Error::invalid("campaign_id", "there is no such campaign"))
        }
    }

    /// Credits one call; its head before and after.
    ///
    /// # Errors
    /// Not found where there is no such call.
    pub async fn assign(
        &self,
        call_id: &CallId,
        target: &Target,
        assignment_id: &AssignmentId,
        decision: &Decision,
    ) -> Result<(Head, Head), Error> {
        let step = |head: &Head| assigned(head, target, assignment_id, decision);
        self.decide(call_id, decision, step).await?.ok_or(NO_CALL)
    }

    /// Credits calls, one outcome for each id in the order given; an id that is
    /// given again is unchanged by then.
    ///
    /// # Errors
    /// Where not one call could be decided about.
    pub async fn assign_all(
        &self,
        call_ids: &[CallId],
        target: &Target,
        assignment_id: &AssignmentId,
        decision: &Decision,
    ) -> Result<Vec<Outcome>, Error> {
        let anything = |_: &Head| true;
        self.assign_those(call_ids, target, assignment_id, decision, anything)
            .await
    }

    /// Credits a page of a list, and gives the assignment: the cursor of the next
    /// page goes on with it.
    ///
    /// # Errors
    /// As [`assign_all`](Self::assign_all), and when the cursor is not of this filter.
    pub async fn assign_matching(
        &self,
        list: &CallList,
        cursor: Option<&str>,
        target: &Target,
        decision: &Decision,
    ) -> Result<(AssignmentId, Page<Outcome>), Error> {
        let name = format!("assignment {target:?} {} {}", list.name(), decision.dry_run);
        let (assignment_id, cursor) = resumed(&name, cursor, decision.at)?;
        let page = self.calls.list(list, MAX_MATCHES, cursor.as_deref()).await?;
        let ids: Vec<CallId> = page.entries.into_iter().map(|record| record.call.id).collect();
        // The list may be a moment old: what does not match any more is left alone.
        let matches = |head: &Head| list.filter.matches(&head.record);
        let entries = self
            .assign_those(&ids, target, &assignment_id, decision, matches)
            .await?;
        let next_cursor = page
            .next_cursor
            .map(|next| suspended(&name, &assignment_id, &next));
        Ok((assignment_id, Page { entries, next_cursor }))
    }

    async fn assign_those(
        &self,
        call_ids: &[CallId],
        target: &Target,
        assignment_id: &AssignmentId,
        decision: &Decision,
        matches: impl Fn(&Head) -> bool + Copy,
    ) -> Result<Vec<Outcome>, Error> {
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(call_ids.len());
        for (start, chunk) in (0..).step_by(CONCURRENCY).zip(call_ids.chunks(CONCURRENCY)) {
            let decided = chunk.iter().enumerate().map(async |(index, call_id)| {
                let again = call_ids[..start + index].contains(call_id);
                let step = |head: &Head| match matches(head) && !again {
                    true => assigned(head, target, assignment_id, decision),
                    false => None,
                };
                outcome(call_id, self.decide(call_id, decision, step).await)
            });
            outcomes.extend(join_all(decided).await);
        }
        unless_all_failed(outcomes)
    }

    /// Undoes a page of an assignment or a re-attribution.
    ///
    /// # Errors
    /// Not found where there is no such assignment, and as
    /// [`assign_all`](Self::assign_all).
    pub async fn undo(
        &self,
        assignment_id: &AssignmentId,
        cursor: Option<&str>,
        decision: &Decision,
    ) -> Result<Page<Outcome>, Error> {
        let page = self.calls.members(assignment_id, MAX_MATCHES, cursor).await?;
        if page.entries.is_empty() && cursor.is_none() {
            return Err(NO_ASSIGNMENT);
        }
        let mut outcomes = Vec::with_capacity(page.entries.len());
        for chunk in page.entries.chunks(CONCURRENCY) {
            let undone = chunk.iter().map(async |member| {
                let step = |head: &Head| match is_as_left_by(head, member) {
                    true => undone(head, member, decision),
                    false => None,
                };
                let decided = self.decide(&member.call_id, decision, step).await;
                let mut outcome = outcome(&member.call_id, decided);
                if outcome.result == OutcomeResult::Unchanged && !member.undone {
                    outcome.result = OutcomeResult::ChangedSince;
                }
                outcome
            });
            outcomes.extend(join_all(undone).await);
        }
        Ok(Page {
            entries: unless_all_failed(outcomes)?,
            next_cursor: page.next_cursor,
        })
    }

    /// Says whether a call reached its goal; `None` leaves that to the outcome.
    /// Its head before and after, the same where it has another revision than
    /// `seen`.
    ///
    /// # Errors
    /// Not found where there is no such call.
    pub async fn convert(
        &self,
        call_id: &CallId,
        converted: Option<(bool, Option<Money>)>,
        seen: Option<u64>,
        decision: &Decision,
    ) -> Result<(Head, Head), Error> {
        let step = |head: &Head| match seen.is_none_or(|seen| seen == head.revision) {
            true => converted_as(head, converted.clone(), decision),
            false => None,
        };
        self.decide(call_id, decision, step).await?.ok_or(NO_CALL)
    }

    /// Asks the rules again about a page of the calls that began in a window; what
    /// that came to, by which assignment, and the cursor of the next page, which
    /// goes on with it.
    ///
    /// # Errors
    /// When the cursor is not of this window, or the store fails; what was
    /// decided by then stays.
    pub async fn reattribute(
        &self,
        (from, to): (Timestamp, Timestamp),
        cursor: Option<&str>,
        decision: &Decision,
    ) -> Result<(AssignmentId, Reattributed, Option<String>), Error> {
        let name = format!("reattribution {from} {to} {}", decision.dry_run);
        let (assignment_id, cursor) = resumed(&name, cursor, decision.at)?;
        let list = CallList::latest_first(CallFilter {
            from: Some(from),
            to: Some(to),
            ..CallFilter::default()
        });
        let page = self.calls.list(&list, MAX_MATCHES, cursor.as_deref()).await?;
        let mut sum = Reattributed {
            examined: page.entries.len(),
            ..Reattributed::default()
        };
        for chunk in page.entries.chunks(CONCURRENCY) {
            let asked = chunk
                .iter()
                .map(|record| self.ask_again(&record.call.id, &assignment_id, decision));
            for (record, asked) in chunk.iter().zip(join_all(asked).await) {
                match asked {
                    Ok(Some((before, after))) => sum.add(&before, after),
                    Ok(None) => {}
                    Err(error) => {
                        tracing::error!(%error, "the rules could not be asked again");
                        sum.failed.push(record.call.id.clone());
                    }
                }
            }
        }
        let next = page
            .next_cursor
            .map(|next| suspended(&name, &assignment_id, &next));
        Ok((assignment_id, sum, next))
    }

    /// Asks the rules about one call as it is now; its head before and after.
    async fn ask_again(
        &self,
        call_id: &CallId,
        assignment_id: &AssignmentId,
        decision: &Decision,
    ) -> Result<Option<(Head, Head)>, Error> {
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let Some(before) = self.calls.head(call_id).await? else {
                return Ok(None);
            };
            // The rules can't be asked about what they were told and we know no more.
            if before.record.decisions.assigned.is_some() || call_id.is_erased() {
                return Ok(Some((before.clone(), before)));
            }
            let candidates = self.campaigns.candidates(&before.record.call).await?;
            let attribution = attribute(&before.record.call, &candidates);
            let mut after = before.clone();
            after.set_attribution(&attribution, Some(assignment_id.clone()), decision.at);
            if is_the_same_rule_layer(&before, &after) {
                return Ok(Some((before.clone(), before)));
            }
            let member = (before.reattributed_by.as_ref() != Some(assignment_id)).then(|| Member {
                assignment_id: assignment_id.clone(),
                call_id: call_id.clone(),
                before: Before::Rules(Box::new(before.rule_layer())),
                undone: false,
            });
            let kind = Some("reattribution");
            let decided = attribution_step(&before, after, assignment_id, member, decision, kind);
            if decision.dry_run {
                return Ok(Some((before, decided.head)));
            }
            if self.calls.put_decided(&decided).await? == Written::Done {
                return Ok(Some((before, decided.head)));
            }
        }
        Err(busy(call_id))
    }

    /// Takes a step from the head as it is; before and after, the same where
    /// there was nothing to decide; `None` where there is no such call.
    async fn decide(
        &self,
        call_id: &CallId,
        decision: &Decision,
        step: impl Fn(&Head) -> Step,
    ) -> Result<Option<(Head, Head)>, Error> {
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let Some(before) = self.calls.head(call_id).await? else {
                return Ok(None);
            };
            let Some(decided) = step(&before) else {
                return Ok(Some((before.clone(), before)));
            };
            if decision.dry_run || self.calls.put_decided(&decided).await? == Written::Done {
                return Ok(Some((before, decided.head)));
            }
        }
        Err(busy(call_id))
    }
}

/// What a cursor goes on with: the assignment that was begun, and the place in
/// the list; without a cursor a new one, from the start.
fn resumed(
    list: &str,
    cursor: Option<&str>,
    now: Timestamp,
) -> Result<(AssignmentId, Option<String>), Error> {
    let Some(cursor) = cursor else {
        return Ok((AssignmentId::new(now), None));
    };
    let position = cursor::decode(list, cursor)?;
    let (id, next) = position.split_once('/').ok_or_else(cursor::invalid)?;
    let id = AssignmentId::try_from(id.to_owned()).map_err(|_| cursor::invalid())?;
    Ok((id, Some(next.to_owned())))
}

fn suspended(list: &str, id: &AssignmentId, next: &str) -> String {
    cursor::encode(list, &format!("{id}/{next}"))
}

fn busy(call_id: &CallId) -> Error {
    Error::unavailable(
        format!("deciding about call {call_id}"),
        std::io::Error::other("others kept writing the same call"),
    )
}

fn outcome(call_id: &CallId, decided: Result<Option<(Head, Head)>, Error>) -> Outcome {
    let (result, from) = match decided {
        Err(error) => {
            tracing::error!(%error, "a call could not be decided about");
            (OutcomeResult::Failed, None)
        }
        Ok(None) => (OutcomeResult::NotFound, None),
        Ok(Some((before, after))) if before.revision == after.revision => {
            (OutcomeResult::Unchanged, before.credit().campaign_id)
        }
        Ok(Some((before, _))) => (OutcomeResult::Assigned, before.credit().campaign_id),
    };
    Outcome {
        call_id: call_id.clone(),
        result,
        from,
    }
}

/// What was done; but where nothing could be, that is no answer.
fn unless_all_failed(outcomes: Vec<Outcome>) -> Result<Vec<Outcome>, Error> {
    let failed = |outcome: &Outcome| outcome.result == OutcomeResult::Failed;
    if !outcomes.is_empty() && outcomes.iter().all(failed) {
        let reason = std::io::Error::other("every single one failed");
        return Err(Error::unavailable("deciding about calls", reason));
    }
    Ok(outcomes)
}

// ------------------------------------------------------------- pure steps

fn assigned(head: &Head, target: &Target, assignment_id: &AssignmentId, decision: &Decision) -> Step {
    let decisions = &head.record.decisions;
    let is_so = match (target, &decisions.assigned) {
        (Target::Automatic, None) => true,
        (Target::Campaign(wanted), Some(assigned)) => assigned.campaign_id == *wanted,
        _ => false,
    };
    if is_so {
        return None;
    }
    let mut after = head.clone();
    after.record.decisions.assigned = match target {
        Target::Automatic => None,
        Target::Campaign(campaign_id) => Some(Assigned {
            campaign_id: campaign_id.clone(),
            by: decision.by.clone(),
            at: decision.at,
        }),
    };
    after.record.decisions.assignment_id = Some(assignment_id.clone());
    // What was before the assignment is known where it decides twice.
    let member = (decisions.assignment_id.as_ref() != Some(assignment_id)).then(|| Member {
        assignment_id: assignment_id.clone(),
        call_id: head.record.call.id.clone(),
        before: Before::Assigned {
            assigned: decisions.assigned.clone(),
            assignment_id: decisions.assignment_id.clone(),
        },
        undone: false,
    });
    Some(attribution_step(
        head,
        after,
        assignment_id,
        member,
        decision,
        None,
    ))
}

/// Whether a call is as an assignment left it, so that it can be undone.
fn is_as_left_by(head: &Head, member: &Member) -> bool {
    let id = Some(&member.assignment_id);
    match &member.before {
        _ if member.undone => false,
        Before::Assigned { .. } => head.record.decisions.assignment_id.as_ref() == id,
        Before::Rules(_) => head.reattributed_by.as_ref() == id && head.record.decisions.assigned.is_none(),
    }
}

fn undone(head: &Head, member: &Member, decision: &Decision) -> Step {
    let mut after = head.clone();
    match member.before.clone() {
        Before::Assigned {
            assigned,
            assignment_id,
        } => {
            after.record.decisions.assigned = assigned;
            after.record.decisions.assignment_id = assignment_id;
        }
        Before::Rules(layer) => after.set_rule_layer(*layer),
    }
    let member = Member {
        undone: true,
        ..member.clone()
    };
    let id = member.assignment_id.clone();
    Some(attribution_step(
        head,
        after,
        &id,
        Some(member),
        decision,
        Some("undo"),
    ))
}

/// A step of the credit, counted and told in the history.
fn attribution_step(
    before: &Head,
    mut after: Head,
    assignment_id: &AssignmentId,
    member: Option<Member>,
    decision: &Decision,
    kind: Option<&str>,
) -> Decided {
    let (from, to) = (before.credit(), after.credit());
    let entry = HistoryEntry {
        at: decision.at,
        by: decision.by.clone(),
        change: Change::Attribution { from, to },
        reason: decision.reason.clone().or(kind.map(str::to_owned)),
        assignment_id: Some(assignment_id.clone()),
    };
    after.revision += 1;
    after.record.updated_at = decision.at;
    Decided {
        head: after,
        entry,
        member,
    }
}

fn converted_as(head: &Head, converted: Option<(bool, Option<Money>)>, decision: &Decision) -> Step {
    let is_so = match (&converted, &head.record.decisions.converted) {
        (None, None) => true,
        (Some((converted, value)), Some(now)) => now.converted == *converted && now.value == *value,
        _ => false,
    };
    if is_so {
        return None;
    }
    let conversion = |head: &Head| head.record.decisions.conversion(&head.record.call).into();
    let mut after = head.clone();
    after.record.decisions.converted = converted.map(|(converted, value)| Converted {
        converted,
        value,
        by: decision.by.clone(),
        at: decision.at,
    });
    after.revision += 1;
    after.record.updated_at = decision.at;
    let entry = HistoryEntry {
        at: decision.at,
        by: decision.by.clone(),
        change: Change::Conversion {
            from: conversion(head),
            to: conversion(&after),
        },
        reason: decision.reason.clone(),
        assignment_id: None,
    };
    Some(Decided {
        head: after,
        entry,
        member: None,
    })
}

fn is_elsewhere(before: &Credit, after: &Credit) -> bool {
    (before.status, &before.campaign_id) != (after.status, &after.campaign_id)
}

/// Whether the rules said the same, whenever they were asked.
fn is_the_same_rule_layer(before: &Head, after: &Head) -> bool {
    let (old, new) = (&before.record.rule_result, &after.record.rule_result);
    (old.status, &old.campaign_id, old.method) == (new.status, &new.campaign_id, new.method)
        && before.evidence == after.evidence
        && before.candidates == after.candidates
}
