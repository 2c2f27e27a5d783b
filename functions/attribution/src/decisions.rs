//! What people decide about calls.

use jiff::Timestamp;
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::calls::{CallView, all_campaigns_of};
use shared::api::decisions::{
    AssignCall, AssignCalls, ConvertCall, DecidedCall, MoneyRequest, Outcomes, ReattributeRequest,
    ReattributedView, UndoRequest,
};
use shared::api::window;
use shared::call::CallId;
use shared::campaign::CampaignId;
use shared::conversion::Money;
use shared::decide::{Decision, Outcome, OutcomeResult, Target};
use shared::decision::AssignmentId;
use shared::error::Error;
use shared::http::{Context, json_answer, path_parameter, read_json};
use shared::query::Query;
use shared::store::calls::{CallList, Head};
use shared::store::cursor;

use crate::handler::State;

/// Calls that one request names.
const MAX_CALL_IDS: usize = 100;
/// Calls that one request finds by a filter or a window.
const MAX_MATCHES: usize = 500;
const MAX_REASON_CHARACTERS: usize = 500;

impl State {
    pub async fn assign_call(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let call_id = call_id(request)?;
        let AssignCall { campaign_id, reason } = read_json(request)?;
        let target = Target::Campaign(self.campaign(campaign_id).await?);
        self.assign_one(&call_id, &target, decision(context, reason, false)?)
            .await
    }

    pub async fn release_call(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let call_id = call_id(request)?;
        self.assign_one(&call_id, &Target::Automatic, decision(context, None, false)?)
            .await
    }

    /// One call is an assignment, too, which can be undone.
    async fn assign_one(
        &self,
        call_id: &CallId,
        target: &Target,
        decision: Decision,
    ) -> Result<Response<Body>, Error> {
        let id = AssignmentId::new(decision.at);
        let (before, after) = self.decider.assign(call_id, target, &id, &decision).await?;
        let id = (before.revision != after.revision).then_some(id);
        self.call_answer(&after, id.as_ref()).await
    }

    pub async fn convert_call(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let call_id = call_id(request)?;
        let ConvertCall {
            converted,
            value,
            reason,
        } = read_json(request)?;
        if value.is_some() && !converted {
            return Err(Error::invalid(
                "value",
                "value must be null where converted is false",
            ));
        }
        let value = value.map(|MoneyRequest { amount, currency }| Money::new(amount, currency));
        let value = value.transpose().map_err(|(field, must)| {
            Error::invalid(format!("value.{field}"), format!("{field} must be {must}"))
        })?;
        let decision = decision(context, reason, false)?;
        let converted = Some((converted, value));
        let (_, after) = self.decider.convert(&call_id, converted, &decision).await?;
        self.call_answer(&after, None).await
    }

    pub async fn unconvert_call(
        &self,
        request: &Request,
        context: &Context,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let decision = decision(context, None, false)?;
        let (_, after) = self.decider.convert(&call_id(request)?, None, &decision).await?;
        self.call_answer(&after, None).await
    }

    pub async fn assign_many(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let AssignCalls {
            campaign_id,
            call_ids,
            filter,
            assignment_id,
            dry_run,
            reason,
            cursor,
        } = read_json(request)?;
        let decision = decision(context, reason, dry_run)?;
        let begun = assignment_id.map(AssignmentId::try_from).transpose();
        let begun = begun.map_err(|must| Error::invalid("assignment_id", must))?;
        match (call_ids, filter, cursor) {
            (Some(ids), None, None) => {
                let ids = read_call_ids(ids)?;
                let target = Target::Campaign(self.campaign(campaign_id).await?);
                let is_begun = begun.is_some();
                let id = begun.unwrap_or_else(|| AssignmentId::new(decision.at));
                let outcomes = self.decider.assign_all(&ids, &target, &id, &decision).await?;
                // One that changed nothing can't be undone.
                let is_one = is_begun
                    || outcomes
                        .iter()
                        .any(|outcome| outcome.result == OutcomeResult::Assigned);
                outcomes_answer((is_one && !dry_run).then_some(&id), &outcomes, None)
            }
            (None, Some(_), _) if begun.is_some() => Err(Error::invalid(
                "assignment_id",
                "assignment_id goes with call_ids only: a filter goes on by its cursor",
            )),
            (None, Some(filter), cursor) => {
                let target = Target::Campaign(self.campaign(campaign_id).await?);
                let filter = filter.into_filter(self.country);
                let calls = CallList::latest_first(filter.map_err(|error| error.within("filter"))?);
                let list = format!("assignment {target:?} {} {dry_run}", calls.name());
                let (id, cursor) = resumed(&list, cursor.as_deref(), decision.at)?;
                let page = self
                    .decider
                    .assign_matching(&calls, MAX_MATCHES, cursor.as_deref(), &target, &id, &decision)
                    .await?;
                let next = page.next_cursor.map(|next| suspended(&list, &id, &next));
                outcomes_answer((!dry_run).then_some(&id), &page.entries, next)
            }
            (Some(_), None, Some(_)) => Err(Error::invalid("cursor", "cursor goes with filter only")),
            (None, None, _) | (Some(_), Some(_), _) => Err(Error::invalid(
                "call_ids",
                "give either call_ids or filter: which calls to assign",
            )),
        }
    }

    pub async fn undo(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let id = AssignmentId::try_from(path_parameter(request, "id")?).map_err(|_| Error::NotFound {
            message: "there is no such assignment: check the id",
        })?;
        let UndoRequest {
            dry_run,
            reason,
            cursor,
        } = if request.body().is_empty() {
            UndoRequest::default()
        } else {
            read_json(request)?
        };
        let decision = decision(context, reason, dry_run)?;
        let page = self
            .decider
            .undo(&id, MAX_MATCHES, cursor.as_deref(), &decision)
            .await?;
        outcomes_answer(Some(&id), &page.entries, page.next_cursor)
    }

    pub async fn reattribute(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let ReattributeRequest {
            from,
            to,
            tz,
            dry_run,
            reason,
            cursor,
        } = read_json(request)?;
        let (from, to) = window(from, to, &tz.unwrap_or_default())?;
        let decision = decision(context, reason, dry_run)?;
        let list = format!("reattribution {from} {to} {dry_run}");
        let (id, cursor) = resumed(&list, cursor.as_deref(), decision.at)?;
        let (sum, next) = self
            .decider
            .reattribute((from, to), MAX_MATCHES, cursor.as_deref(), &id, &decision)
            .await?;
        let answer = ReattributedView {
            reattribution_id: (!dry_run).then_some(&id),
            examined: sum.examined,
            moved: &sum.moved,
            manual_skipped: sum.manual_skipped,
            failed: &sum.failed,
            next_cursor: next.map(|next| suspended(&list, &id, &next)),
        };
        json_answer(StatusCode::OK, &answer)
    }

    /// The campaign that calls are to be credited to; nobody where it is null.
    async fn campaign(&self, campaign_id: Option<Option<String>>) -> Result<Option<CampaignId>, Error> {
        let must = "campaign_id must be the id of a campaign, or null for none";
        let invalid = || Error::invalid("campaign_id", must);
        let Some(id) = campaign_id.ok_or_else(invalid)? else {
            return Ok(None);
        };
        let id = CampaignId::try_from(id).map_err(|_| invalid())?;
        if self.campaigns.exists(&id).await? {
            Ok(Some(id))
        } else {
            Err(Error::invalid("campaign_id", "there is no such campaign"))
        }
    }

    async fn call_answer(
        &self,
        head: &Head,
        assignment_id: Option<&AssignmentId>,
    ) -> Result<Response<Body>, Error> {
        let names = self.campaigns.names(all_campaigns_of(head)).await?;
        let answer = DecidedCall {
            call: CallView::with_evidence(head, &names),
            assignment_id,
        };
        json_answer(StatusCode::OK, &answer)
    }
}

fn decision(context: &Context, reason: Option<String>, dry_run: bool) -> Result<Decision, Error> {
    let fits = |reason: &String| {
        reason.chars().count() <= MAX_REASON_CHARACTERS && !reason.chars().any(char::is_control)
    };
    if reason.as_ref().is_some_and(|reason| !fits(reason)) {
        let must = format!("reason must be at most {MAX_REASON_CHARACTERS} characters, on one line");
        return Err(Error::invalid("reason", must));
    }
    Ok(Decision {
        by: context.caller()?.clone(),
        at: context.received_at,
        reason: reason.filter(|reason| !reason.trim().is_empty()),
        dry_run,
    })
}

/// An id that is none is the id of nothing.
fn call_id(request: &Request) -> Result<CallId, Error> {
    CallId::try_from(path_parameter(request, "id")?).map_err(|_| Error::NotFound {
        message: "there is no such call: check the id",
    })
}

fn read_call_ids(ids: Vec<String>) -> Result<Vec<CallId>, Error> {
    if !(1..=MAX_CALL_IDS).contains(&ids.len()) {
        let must = format!("call_ids must be 1 to {MAX_CALL_IDS} ids");
        return Err(Error::invalid("call_ids", must));
    }
    let ids = ids.into_iter().enumerate().map(|(index, id)| {
        CallId::try_from(id)
            .map_err(|must| Error::invalid(format!("call_ids[{index}]"), format!("this is no id: {must}")))
    });
    ids.collect()
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

fn outcomes_answer(
    id: Option<&AssignmentId>,
    outcomes: &[Outcome],
    next_cursor: Option<String>,
) -> Result<Response<Body>, Error> {
    json_answer(StatusCode::OK, &Outcomes::new(id, outcomes, next_cursor))
}
