//! A kept delivery, read again by today's code.

use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::calls::{CallView, all_campaigns_of};
use shared::api::deliveries::{ReplayRequest, ReplayView};
use shared::error::Error;
use shared::http::{Context, json_answer, path_id, read_json};
use shared::query::Query;
use shared::store::deliveries::NO_DELIVERY;

use crate::handler::State;

impl State {
    pub async fn replay(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let ReplayRequest { dry_run } = read_json(request)?;
        let id = path_id(request, NO_DELIVERY)?;
        let delivery = self.deliveries.get(&id, context.received_at).await?;
        let replayed = self.replayer.replay(&delivery, dry_run, context).await?;
        let named = [&replayed.before, &replayed.after];
        let named = named.into_iter().flatten().flat_map(all_campaigns_of);
        let names = self.campaigns.names(named).await?;
        let answer = ReplayView {
            delivery_id: &delivery.id,
            dry_run,
            result: replayed.result,
            reason: replayed.reason.as_deref(),
            kind: replayed.kind.as_deref(),
            conversation_id: replayed.conversation_id.as_ref(),
            before: (replayed.before.as_ref()).map(|head| CallView::with_evidence(head, &names)),
            after: (replayed.after.as_ref()).map(|head| CallView::with_evidence(head, &names)),
        };
        json_answer(StatusCode::OK, &answer)
    }
}
