//! One delivery, from the request to the answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use lambda_http::http::{Method, Response, StatusCode};
use lambda_http::{Body, Request};
use sha2::{Digest, Sha256};
use shared::api::deliveries::{Accepted, WebhookStatus};
use shared::call::{ArrivedBy, CallId};
use shared::delivery::{Event, SignatureError, Unparsed, VerifiedDelivery};
use shared::error::Error;
use shared::http::{Context, json_answer};
use shared::ingest::{Arrival, Ingest, Taken};
use shared::metrics::{
    DELIVERIES_ACCEPTED, DELIVERIES_FAILED, DELIVERIES_REFUSED, DELIVERIES_TO_REPLAY, Metrics,
    SIGNATURES_REFUSED,
};
use shared::phone_number::Country;
use shared::runtime::{aws, default_country, setting};
use shared::store::calls::{CallStore, Version};
use shared::store::campaigns::CampaignStore;
use shared::store::deliveries::{Delivery, DeliveryId, DeliveryResult, DeliveryStore, KeptBody};
use shared::store::rate_limits::RateLimitStore;

use crate::admission::{Admission, Refused};
use crate::client_address::ClientAddresses;
use crate::refusals::{Refusal, RefusalLimiter, Standing, seconds_left_in_minute};

/// How long storing may take in all; then the sender is to try again, which it
/// learns before the gateway gives up.
const DEADLINE: Duration = Duration::from_secs(15);
/// How long it may take to learn whether the log may name a conversation whose call was not
/// stored; both and writing the log end before the function is stopped.
const NAMING_DEADLINE: Duration = Duration::from_secs(3);

/// The answer to `GET`.
const ACTIVE: WebhookStatus = WebhookStatus {
    success: true,
    message: "ElevenLabs webhook endpoint is active",
    endpoint: "/api/webhooks/elevenlabs",
    methods: ["POST"],
    version: "1.0.0",
};

/// All that outlives a request.
pub struct State {
    clients: ClientAddresses,
    admission: Admission,
    limiter: RefusalLimiter,
    metrics: Metrics,
    country: Option<Country>,
    ingest: Ingest,
    log: DeliveryStore,
}

impl State {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let aws = aws().await;
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
        let body_retention = setting("BODY_RETENTION_DAYS")?;
        Ok(Self {
            clients: ClientAddresses::from_environment()?,
            admission: Admission::from_environment(&aws)?,
            limiter: RefusalLimiter::new(
                RateLimitStore::new(dynamodb.clone(), setting("RATE_LIMITS_TABLE")?),
                setting("REFUSALS_PER_MINUTE")?,
            ),
            metrics: Metrics::new(setting("AWS_LAMBDA_FUNCTION_NAME")?),
            country: default_country(),
            ingest: Ingest::new(
                CallStore::new(dynamodb.clone(), setting("CALLS_TABLE")?).keeping_bodies(body_retention),
                CampaignStore::new(dynamodb.clone(), setting("CAMPAIGNS_TABLE")?),
            ),
            log: DeliveryStore::new(dynamodb, setting("DELIVERIES_TABLE")?).keeping_bodies(body_retention),
        })
    }
}

/// Answers one request to the webhook.
pub async fn handle(state: Arc<State>, request: Request, context: Context) -> Result<Response<Body>, Error> {
    if request.method() == Method::GET {
        return json_answer(StatusCode::OK, &ACTIVE);
    }
    let received = Received {
        id: DeliveryId::new(context.received_at),
        at: context.received_at,
        began: Instant::now(),
        from: state.clients.address(context.source_address, request.headers()),
        body: request.body().as_ref(),
    };
    match state.admission.admit(&request, received.from, received.at).await {
        Ok(delivery) => state.take(&received, &delivery, &context.request_id).await,
        Err(refused) => Ok(state.refuse(&received, refused, &context.request_id).await),
    }
}

/// One delivery as it came.
struct Received<'a> {
    id: DeliveryId,
    at: Timestamp,
    began: Instant,
    from: IpAddr,
    body: &'a [u8],
}

impl State {
    /// Counts and logs a refusal. Neither changes it when it fails.
    async fn refuse(
        &self,
        received: &Received<'_>,
        refused: Refused<'_>,
        request_id: &str,
    ) -> Response<Body> {
        let Refused { mut refusal, genuine } = refused;
        if let Some(delivery) = genuine {
            return self
                .refuse_genuine(received, refusal, &delivery, request_id)
                .await;
        }
        if refusal.status().is_server_error() {
            // Our fault, not the sender's: nothing to count.
            tracing::error!(
                request_id,
                reason = refusal.code(),
                "a delivery could not be verified"
            );
            self.metrics.count(received.at, &[DELIVERIES_FAILED]);
            let mut entry = received.refused(refusal);
            entry.result = DeliveryResult::Failed;
            self.write_log(&entry, request_id).await;
            return refusal.answer(request_id);
        }
        let counted: &[_] = match refusal {
            Refusal::Signature(SignatureError::Invalid | SignatureError::Stale) => {
                &[DELIVERIES_REFUSED, SIGNATURES_REFUSED]
            }
            _ => &[DELIVERIES_REFUSED],
        };
        self.metrics.count(received.at, counted);
        let standing = self.limiter.count(received.from, received.at).await;
        let standing = standing.unwrap_or_else(|error| {
            tracing::error!(request_id, %error, "a refusal was not counted");
            Standing::Within
        });
        let unauthorized = matches!(refusal, Refusal::Signature(_) | Refusal::AddressNotAllowed);
        if standing != Standing::Within && unauthorized {
            refusal = Refusal::RateLimited {
                retry_after_seconds: seconds_left_in_minute(received.at),
            };
        }
        tracing::warn!(request_id, client_ip = %received.from, reason = refusal.code(), "refused");
        if standing != Standing::Over {
            let mut entry = received.refused(refusal);
            if standing == Standing::WentOver {
                entry.reason = Some("rate_limited".to_owned());
            }
            self.write_log(&entry, request_id).await;
        }
        refusal.answer(request_id)
    }

    /// A genuine delivery from an address that is not on the list: kept, so
    /// that a new address of the sender costs no call.
    async fn refuse_genuine(
        &self,
        received: &Received<'_>,
        refusal: Refusal,
        delivery: &VerifiedDelivery<'_>,
        request_id: &str,
    ) -> Response<Body> {
        tracing::error!(
            request_id,
            client_ip = %received.from,
            reason = refusal.code(),
            "refused a genuine delivery: extend the list of addresses and replay it"
        );
        let mut entry = received.refused(refusal);
        entry.signed_at = Some(delivery.signed_at());
        entry.kept_body = KeptBody::InLog;
        if let Err(error) = self.keep(&entry, delivery.body()).await {
            tracing::error!(request_id, %error, "a genuine delivery could not be kept");
            self.metrics.count(received.at, &[DELIVERIES_FAILED]);
            return Refusal::Unavailable.answer(request_id);
        }
        self.metrics
            .count(received.at, &[DELIVERIES_REFUSED, DELIVERIES_TO_REPLAY]);
        refusal.answer(request_id)
    }

    /// Takes a verified delivery in. The answer is 200 only once it is durable.
    async fn take(
        &self,
        received: &Received<'_>,
        delivery: &VerifiedDelivery<'_>,
        request_id: &str,
    ) -> Result<Response<Body>, Error> {
        let mut entry = received.entry(StatusCode::OK, DeliveryResult::Stored, delivery.sha256());
        entry.signed_at = Some(delivery.signed_at());
        let taken = match delivery.read(self.country) {
            Ok(Event::Call {
                kind,
                version_at,
                call,
            }) => {
                entry.kind = Some(kind);
                entry.conversation_id = Some(call.id.clone());
                entry.kept_body = KeptBody::WithCall;
                let arrival = Arrival {
                    call: *call,
                    version: Version {
                        at: version_at,
                        sha256: delivery.sha256(),
                    },
                    body: delivery.body(),
                    by: ArrivedBy::Webhook,
                    at: received.at,
                    body_came_at: received.at,
                    read_again: false,
                    listed_as: None,
                };
                self.take_call(received, &arrival, &mut entry, request_id).await
            }
            Ok(Event::NoCall {
                kind,
                conversation_id,
                keep_body,
            }) => {
                entry.kind = Some(kind);
                entry.result = DeliveryResult::Ignored;
                self.take_other(
                    conversation_id,
                    keep_body,
                    delivery.body(),
                    &mut entry,
                    request_id,
                )
                .await
            }
            Err(Unparsed { kind, reason }) => {
                tracing::error!(
                    request_id,
                    reason,
                    "a genuine delivery was not understood: its body is kept"
                );
                entry.kind = kind;
                entry.result = DeliveryResult::Unparsed;
                entry.reason = Some(reason.to_owned());
                entry.kept_body = KeptBody::InLog;
                self.keep(&entry, delivery.body()).await
            }
        };
        match taken {
            Ok(()) => {
                tracing::info!(
                    request_id,
                    result = entry.result.as_str(),
                    bytes = entry.bytes,
                    "took a delivery"
                );
                let counted: &[_] = match entry.result {
                    DeliveryResult::Unparsed => &[DELIVERIES_ACCEPTED, DELIVERIES_TO_REPLAY],
                    _ => &[DELIVERIES_ACCEPTED],
                };
                self.metrics.count(received.at, counted);
                let answer = Accepted {
                    success: true,
                    result: entry.result,
                    conversation_id: entry.conversation_id.as_ref(),
                };
                json_answer(StatusCode::OK, &answer)
            }
            Err(error) => {
                entry = failed(&entry);
                entry.conversation_id = self.unless_erased(entry.conversation_id).await;
                entry.latency_ms = received.latency_ms();
                self.write_log(&entry, request_id).await;
                tracing::error!(request_id, %error, "a delivery was not stored");
                self.metrics.count(received.at, &[DELIVERIES_FAILED]);
                Ok(Refusal::Unavailable.answer(request_id))
            }
        }
    }

    async fn take_call(
        &self,
        received: &Received<'_>,
        arrival: &Arrival<'_>,
        entry: &mut Delivery,
        request_id: &str,
    ) -> Result<(), Error> {
        let logged = |taken: Taken| {
            let mut entry = entry.clone();
            entry.latency_ms = received.latency_ms();
            (entry.result, entry.reason) = taken.result();
            if taken == Taken::Erased {
                entry.conversation_id = None;
                entry.kept_body = KeptBody::No;
            }
            entry
        };
        let storing = self.ingest.take_in(arrival, |taken| {
            let entry = logged(taken);
            async move { self.write_log(&entry, request_id).await }
        });
        let taken = within_deadline(storing).await?;
        *entry = logged(taken);
        Ok(())
    }

    /// Takes a delivery that touches no call.
    async fn take_other(
        &self,
        conversation_id: Option<CallId>,
        keep_body: bool,
        body: &[u8],
        entry: &mut Delivery,
        request_id: &str,
    ) -> Result<(), Error> {
        if let Some(id) = &conversation_id
            && within_deadline(self.ingest.was_erased(id)).await?
        {
            (entry.result, entry.reason) = Taken::Erased.result();
            self.write_log(entry, request_id).await;
            return Ok(());
        }
        entry.conversation_id = conversation_id;
        entry.reason = Some("touches_no_call".to_owned());
        if keep_body {
            entry.kept_body = KeptBody::InLog;
            return self.keep(entry, body).await;
        }
        self.write_log(entry, request_id).await;
        Ok(())
    }

    /// Keeps a body in the log, and then an entry that says so. Before there is one that says
    /// that this failed, so that no body is anywhere that no entry tells of.
    async fn keep(&self, entry: &Delivery, body: &[u8]) -> Result<(), Error> {
        within_deadline(async {
            self.log.put(&failed(entry)).await?;
            self.log.put_body(entry, body).await?;
            self.log.put(entry).await
        })
        .await
    }

    /// A conversation, where the store says that its call was not erased: an erasure that is over
    /// would not find an entry that names it. Without an answer of the store it is not named.
    async fn unless_erased(&self, conversation_id: Option<CallId>) -> Option<CallId> {
        let id = conversation_id?;
        let asking = tokio::time::timeout(NAMING_DEADLINE, self.ingest.was_erased(&id));
        matches!(asking.await, Ok(Ok(false))).then_some(id)
    }

    /// Writes the log; where that fails, the answer stands all the same.
    async fn write_log(&self, entry: &Delivery, request_id: &str) {
        if let Err(error) = self.log.put(entry).await {
            tracing::error!(request_id, %error, "a delivery is missing in the log");
        }
    }
}

impl Received<'_> {
    fn latency_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The entry of a refusal, of a body that nobody has hashed yet.
    fn refused(&self, refusal: Refusal) -> Delivery {
        let sha256 = Sha256::digest(self.body).into();
        Delivery {
            reason: Some(refusal.code().to_owned()),
            ..self.entry(refusal.status(), DeliveryResult::Refused, sha256)
        }
    }

    fn entry(&self, status: StatusCode, result: DeliveryResult, body_sha256: [u8; 32]) -> Delivery {
        Delivery {
            id: self.id.clone(),
            received_at: self.at,
            signed_at: None,
            client_ip: self.from,
            status: status.as_u16(),
            result,
            reason: None,
            kind: None,
            conversation_id: None,
            bytes: self.body.len() as u64,
            body_sha256,
            latency_ms: self.latency_ms(),
            kept_body: KeptBody::No,
        }
    }
}

/// The entry of a delivery that could not be stored; what is kept in the log may be there.
fn failed(entry: &Delivery) -> Delivery {
    Delivery {
        status: Refusal::Unavailable.status().as_u16(),
        result: DeliveryResult::Failed,
        reason: Some(Refusal::Unavailable.code().to_owned()),
        kept_body: match entry.kept_body {
            KeptBody::InLog => KeptBody::InLog,
            KeptBody::WithCall | KeptBody::Leaving | KeptBody::No => KeptBody::No,
        },
        ..entry.clone()
    }
}

/// Storing, or the word that it took too long; what was half written is
/// completed by the next attempt.
async fn within_deadline<T>(storing: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(DEADLINE, storing)
        .await
        .unwrap_or_else(|elapsed| Err(Error::unavailable("storing a delivery", elapsed)))
}
