//! Kept deliveries: their bodies, and what today's code makes of them.

use jiff::Timestamp;
use lambda_http::http::StatusCode;

use crate::call::{ArrivedBy, CallId};
use crate::delivery::{Event, Unparsed, VerifiedDelivery};
use crate::error::Error;
use crate::http::Context;
use crate::ingest::{Arrival, Ingest, Taken};
use crate::phone_number::Country;
use crate::store::calls::{CallStore, Head, Version};
use crate::store::deliveries::{Delivery, DeliveryId, DeliveryResult, DeliveryStore, KeptBody};

/// What a body comes to, or would.
#[derive(Debug)]
pub struct Replayed {
    /// What comes of it.
    pub result: DeliveryResult,
    /// Why, in one word.
    pub reason: Option<String>,
    /// The provider's name for the kind of event.
    pub kind: Option<String>,
    /// The conversation that it names.
    pub conversation_id: Option<CallId>,
    /// The call as it was; `None` where there was none.
    pub before: Option<Head>,
    /// The call as it is, or would be.
    pub after: Option<Head>,
}

/// Reads kept deliveries again.
#[derive(Debug, Clone)]
pub struct Replayer {
    calls: CallStore,
    deliveries: DeliveryStore,
    ingest: Ingest,
    country: Option<Country>,
}

impl Replayer {
    /// The deliveries of a store.
    #[must_use]
    pub fn new(
        calls: CallStore,
        deliveries: DeliveryStore,
        ingest: Ingest,
        country: Option<Country>,
    ) -> Self {
        Self {
            calls,
            deliveries,
            ingest,
            country,
        }
    }

    /// Takes a delivery in again, or only tells what would come of it.
    ///
    /// # Errors
    /// Not found where its body is not kept; when the store fails.
    pub async fn replay(
        &self,
        delivery: &Delivery,
        dry_run: bool,
        context: &Context,
    ) -> Result<Replayed, Error> {
        let now = context.received_at;
        let body = kept_body(&self.calls, &self.deliveries, delivery, now).await?;
        let body = body.ok_or(Error::NotFound {
            message: "the body of this delivery is not kept, so it can't be replayed",
        })?;
        let replayed = self.read_again(delivery, &body, dry_run, context).await?;
        if !dry_run && replayed.result != DeliveryResult::Unparsed {
            // What was taken in is taken in, whether the log knows or not.
            if let Err(error) = self.log(delivery, &replayed, context).await {
                let request_id = &context.request_id;
                tracing::error!(request_id, %error, "a replay is missing in the log");
            }
        }
        Ok(replayed)
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
                    body_came_at: delivery.received_at,
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
                    conversation_id: (taken != Taken::Erased).then_some(conversation_id),
                    before: foreseen.before,
                    after,
                })
            }
            Ok(Event::NoCall {
                kind,
                conversation_id,
                ..
            }) => {
                let was_erased = match &conversation_id {
                    Some(id) => self.ingest.was_erased(id).await?,
                    None => false,
                };
                let reason = if was_erased { "erased" } else { "touches_no_call" };
                Ok(Replayed {
                    result: DeliveryResult::Ignored,
                    reason: Some(reason.to_owned()),
                    kind: Some(kind),
                    conversation_id: conversation_id.filter(|_| !was_erased),
                    before: None,
                    after: None,
                })
            }
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

/// The body of a delivery, byte for byte; `None` where it is not kept, not any more, or is
/// still on its way.
///
/// # Errors
/// When the store fails.
pub async fn kept_body(
    calls: &CallStore,
    deliveries: &DeliveryStore,
    delivery: &Delivery,
    now: Timestamp,
) -> Result<Option<Vec<u8>>, Error> {
    match (delivery.kept_body, &delivery.conversation_id) {
        (KeptBody::InLog, _) => deliveries.body(delivery).await,
        (KeptBody::WithCall, Some(id)) => calls.body(id, &delivery.body_sha256, now).await,
        (KeptBody::WithCall, None) | (KeptBody::Leaving | KeptBody::No, _) => Ok(None),
    }
}
