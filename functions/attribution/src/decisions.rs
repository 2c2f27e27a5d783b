//! What people decide about calls.

use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::calls::{CallView, all_campaigns_of};
use shared::api::decisions::{
    AssignCall, AssignCalls, ConvertCall, DecidedCall, Outcomes, ReattributeRequest, ReattributedView,
    UndoRequest, read_call_ids,
};
use shared::api::window;
use shared::call::CallId;
use shared::decide::{Decision, NO_ASSIGNMENT, Outcome, OutcomeResult, Target};
use shared::decision::AssignmentId;
use shared::error::Error;
use shared::http::{Context, json_answer, path_id, read_json};
use shared::query::Query;
use shared::store::calls::{CallList, Head, NO_CALL};

use crate::handler::State;

impl State {
    pub async fn assign_call(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let call_id: CallId = path_id(request, NO_CALL)?;
        let AssignCall { campaign_id, reason } = read_json(request)?;
        let target = self.decider.target(campaign_id).await?;
        self.assign_one(&call_id, &target, decision(context, reason, false)?)
            .await
    }

    pub async fn release_call(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let call_id: CallId = path_id(request, NO_CALL)?;
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
        let call_id: CallId = path_id(request, NO_CALL)?;
        let mut wanted: ConvertCall = read_json(request)?;
        let decision = decision(context, wanted.reason.take(), false)?;
        let converted = Some(wanted.into_converted()?);
        let (_, after) = self.decider.convert(&call_id, converted, None, &decision).await?;
        self.call_answer(&after, None).await
    }

    pub async fn unconvert_call(
        &self,
        request: &Request,
        context: &Context,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let decision = decision(context, None, false)?;
        let call_id: CallId = path_id(request, NO_CALL)?;
        let (_, after) = self.decider.convert(&call_id, None, None, &decision).await?;
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
                let target = self.decider.target(campaign_id).await?;
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
                let target = self.decider.target(campaign_id).await?;
                let filter = filter.into_filter(self.country);
                let calls = CallList::latest_first(filter.map_err(|error| error.within("filter"))?);
                let (id, page) = self
                    .decider
                    .assign_matching(&calls, cursor.as_deref(), &target, &decision)
                    .await?;
                outcomes_answer((!dry_run).then_some(&id), &page.entries, page.next_cursor)
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
        let id: AssignmentId = path_id(request, NO_ASSIGNMENT)?;
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
        let page = self.decider.undo(&id, cursor.as_deref(), &decision).await?;
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
        let (id, sum, next_cursor) = self
            .decider
            .reattribute((from, to), cursor.as_deref(), &decision)
            .await?;
        let answer = ReattributedView {
            reattribution_id: (!dry_run).then_some(&id),
            examined: sum.examined,
            moved: &sum.moved,
            manual_skipped: sum.manual_skipped,
            failed: &sum.failed,
            next_cursor,
        };
        json_answer(StatusCode::OK, &answer)
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
    Decision::new(context.caller()?, context.received_at, reason, dry_run)
}

fn outcomes_answer(
    id: Option<&AssignmentId>,
    outcomes: &[Outcome],
    next_cursor: Option<String>,
) -> Result<Response<Body>, Error> {
    json_answer(StatusCode::OK, &Outcomes::new(id, outcomes, next_cursor))
}
