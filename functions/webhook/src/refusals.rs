//! Refusals, and the limit on how many a client may cause.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use lambda_http::http::{HeaderValue, Response, StatusCode, header};
use lambda_http::{Body, http::HeaderName};
use shared::delivery::SignatureError;
use shared::error::Error;
use shared::http::error_response;
use shared::store::rate_limits::RateLimitStore;

use crate::client_address::client_name;

/// Why a delivery was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    MethodNotAllowed,
    UnsupportedMediaType,
    AddressNotAllowed,
    Signature(SignatureError),
    NotConfigured,
    Unavailable,
    RateLimited { retry_after_seconds: i64 },
}

impl Refusal {
    /// What programs match on; also the reason in the log.
    pub fn code(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "method_not_allowed",
            Self::UnsupportedMediaType => "unsupported_media_type",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::Signature(SignatureError::Missing) => "missing_signature",
            Self::Signature(SignatureError::Invalid) => "invalid_signature",
            Self::Signature(SignatureError::Stale) => "stale_signature",
            Self::NotConfigured => "not_configured",
            Self::Unavailable => "unavailable",
            Self::RateLimited { .. } => "rate_limited",
        }
    }

    pub fn status(self) -> StatusCode {
        match self {
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::AddressNotAllowed => StatusCode::FORBIDDEN,
            Self::Signature(_) => StatusCode::UNAUTHORIZED,
            // The sender tries again after a 503, and after no 4xx but 408 and 429.
            Self::NotConfigured | Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        }
    }

    fn message(self) -> &'static str {
        match self {
            Self::MethodNotAllowed => "post deliveries to this address",
            Self::UnsupportedMediaType => "send content-type: application/json",
            Self::AddressNotAllowed => {
                "deliveries are not accepted from this address: add it to the list of allowed addresses"
            }
            Self::Signature(SignatureError::Missing) => "sign the delivery: ElevenLabs-Signature is missing",
            Self::Signature(SignatureError::Invalid) => {
                "the signature does not match the body and the secret"
            }
            Self::Signature(SignatureError::Stale) => {
                "the signature is too old or from the future: check the clock and sign anew"
            }
            Self::NotConfigured => "no signing secret is configured: store the webhook's secret",
            Self::Unavailable => "temporarily out of service: try again",
            Self::RateLimited { .. } => "too many refused requests: wait and mend the request",
        }
    }

    pub fn answer(self, request_id: &str) -> Response<Body> {
        let mut answer = error_response(self.status(), self.code(), self.message(), None, request_id);
        let extra: Option<(HeaderName, HeaderValue)> = match self {
            Self::MethodNotAllowed => Some((header::ALLOW, HeaderValue::from_static("GET, POST"))),
            Self::RateLimited { retry_after_seconds } => {
                Some((header::RETRY_AFTER, HeaderValue::from(retry_after_seconds)))
            }
            _ => None,
        };
        answer.headers_mut().extend(extra);
        answer
    }
}

/// What one more refusal means for its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Within the limit.
    Within,
    /// This one went over.
    WentOver,
    /// It was over before.
    Over,
}

/// Counts refusals for each client and minute, in the store, so that all
/// instances agree. An instance that knows a client is over asks no more.
pub struct RefusalLimiter {
    store: RateLimitStore,
    per_minute: u64,
    known_over: Mutex<KnownOver>,
}

#[derive(Default)]
struct KnownOver {
    minute: i64,
    clients: HashSet<String>,
}

impl RefusalLimiter {
    pub fn new(store: RateLimitStore, per_minute: u64) -> Self {
        Self {
            store,
            per_minute,
            known_over: Mutex::default(),
        }
    }

    /// Counts one refusal. Where the count can't be had, the client is within.
    pub async fn count(&self, client: IpAddr, now: Timestamp) -> Result<Standing, Error> {
        let client = client_name(client);
        let minute = now.as_second().div_euclid(60);
        {
            let mut known = self.known_over.lock().unwrap_or_else(PoisonError::into_inner);
            if known.minute != minute {
                *known = KnownOver {
                    minute,
                    clients: HashSet::new(),
                };
            }
            if known.clients.contains(&client) {
                return Ok(Standing::Over);
            }
        }
        let refusals = self.store.count(&client, now).await?;
        if refusals <= self.per_minute {
            return Ok(Standing::Within);
        }
        let mut known = self.known_over.lock().unwrap_or_else(PoisonError::into_inner);
        known.clients.insert(client);
        Ok(if refusals == self.per_minute + 1 {
            Standing::WentOver
        } else {
            Standing::Over
        })
    }
}

/// Seconds until the count starts anew.
pub fn seconds_left_in_minute(now: Timestamp) -> i64 {
    60 - now.as_second().rem_euclid(60)
}
