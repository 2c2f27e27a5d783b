//! A kept delivery, read again by today's code.

use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::calls::{CallView, all_campaigns_of};
use shared::api::deliveries::{ReplayRequest, ReplayView};
use shared::call::{ArrivedBy, CallId};
use shared::delivery::{Event, Unparsed, VerifiedDelivery};
use shared::error::Error;
use shared::http::{Context, json_answer, path_parameter, read_json};
use shared::ingest::Arrival;
use shared::query::Query;
use shared::store::calls::{Head, Version};
use shared::store::deliveries::{Delivery, DeliveryId, DeliveryResult, KeptBody};

use crate::handler::State;

/// What a body comes to.
struct Replayed {
    result: DeliveryResult,
    reason: Option<String>,
    kind: Option<String>,
    conversation_id: Option<CallId>,
    before: Option<Head>,
    after: Option<Head>,
}

impl State {
    pub async fn replay(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let ReplayRequest { dry_run } = read_json(request)?;
        let id = DeliveryId::try_from(path_parameter(request, "id")?).map_err(|_| Error::NotFound {
            message: "there is no such delivery: check the id",
        })?;
        let delivery = self.deliveries.get(&id, context.received_at).await?;
        let body = self.kept_body(&delivery).await?;
        let replayed = self.read_again(&delivery, &body, dry_run, context).await?;
        if !dry_run && replayed.result != DeliveryResult::Unparsed {
            // What was taken in is taken in, whether the log knows or not.
            if let Err(error) = self.log(&delivery, &replayed, context).await {
                let request_id = &context.request_id;
                tracing::error!(request_id, %error, "a replay is missing in the log");
            }
        }
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

    async fn kept_body(&self, delivery: &Delivery) -> Result<Vec<u8>, Error> {
        let body = match (delivery.kept_body, &delivery.conversation_id) {
            (KeptBody::InLog, _) => Some(self.deliveries.body(delivery).await?),
            (KeptBody::WithCall, Some(id)) => self.calls.body(id, &delivery.body_sha256).await?,
            (KeptBody::WithCall, None) | (KeptBody::No, _) => None,
        };
        body.ok_or(Error::NotFound {
            message: "the body of this delivery is not kept, so it can't be replayed",
        })
    }

    async fn read_again(
        &self,
        delivery: &Delivery,
        body: &[u8],
        dry_run: bool,
        context: &Context,
    ) -> Result<Replayed, Error> {
        let signed_at = delivery.signed_at.unwrap_or(delivery.received_at);
        let kept = VerifiedDelivery::kept(body, signed_at);
        match kept.read(self.country) {
            Ok(Event::Call {
                kind,
                version_at,
                call,
            }) => {
                let conversation_id = call.id.clone();
                let arrival = Arrival {
                    call: *call,
                    version: Version {
                        at: version_at,
                        sha256: kept.sha256(),
                    },
                    body,
                    by: ArrivedBy::Webhook,
                    at: context.received_at,
                    read_again: true,
                    listed_as: None,
                };
                let foreseen = self.ingest.foresee(&arrival).await?;
                let taken = if dry_run {
                    foreseen.taken
                } else {
                    self.ingest.take_in(&arrival, |_| async {}).await?
                };
                let after = if dry_run {
                    foreseen.after
                } else {
                    self.calls.head(&conversation_id).await?
                };
                let (result, reason) = taken.result();
                Ok(Replayed {
                    result,
                    reason,
                    kind: Some(kind),
                    conversation_id: Some(conversation_id),
                    before: foreseen.before,
                    after,
                })
            }
            Ok(Event::NoCall {
                kind,
                conversation_id,
                ..
            }) => Ok(Replayed {
                result: DeliveryResult::Ignored,
                reason: Some("touches_no_call".to_owned()),
                kind: Some(kind),
                conversation_id,
                before: None,
                after: None,
            }),
            Err(Unparsed { kind, reason }) => Ok(Replayed {
                result: DeliveryResult::Unparsed,
                reason: Some(reason.to_owned()),
                kind,
                conversation_id: None,
                before: None,
                after: None,
            }),
        }
    }

    /// A replay that came to something is in the log like any delivery, and
    /// names the one that it repeats.
    async fn log(&self, delivery: &Delivery, replayed: &Replayed, context: &Context) -> Result<(), Error> {
        let entry = Delivery {
            id: DeliveryId::new(context.received_at),
            received_at: context.received_at,
            client_ip: context.source_address,
            status: StatusCode::OK.as_u16(),
            result: replayed.result,
            reason: Some(format!("replay of {}", delivery.id.as_str())),
            kind: replayed.kind.clone(),
            conversation_id: replayed.conversation_id.clone(),
            kept_body: match replayed.conversation_id {
                Some(_) if replayed.after.is_some() => KeptBody::WithCall,
                _ => KeptBody::No,
            },
            latency_ms: 0,
            ..delivery.clone()
        };
        self.deliveries.put(&entry).await
    }
}
