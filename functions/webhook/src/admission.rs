//! Whether a delivery may come in: by its form, its origin and its signature.

use std::net::IpAddr;

use aws_config::SdkConfig;
use jiff::{SignedDuration, Timestamp};
use lambda_http::Request;
use lambda_http::http::{HeaderMap, Method, header};
use shared::delivery::{SignatureError, SigningSecrets, VerifiedDelivery};
use shared::runtime::{SettingError, list_setting, setting};
use shared::secrets::SecretCache;

use crate::client_address::{AddressRange, contains};
use crate::refusals::Refusal;

const SIGNATURE_HEADER: &str = "elevenlabs-signature";

/// The rules of admission.
pub struct Admission {
    /// Empty: deliveries are accepted from anywhere.
    allowed_addresses: Vec<AddressRange>,
    signature_max_age: SignedDuration,
    allow_unsigned: bool,
    secrets: SecretCache,
}

/// A refusal, and the delivery where it was genuine all the same.
pub struct Refused<'a> {
    pub refusal: Refusal,
    pub genuine: Option<VerifiedDelivery<'a>>,
}

impl From<Refusal> for Refused<'_> {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            genuine: None,
        }
    }
}

impl Admission {
    pub fn from_environment(aws: &SdkConfig) -> Result<Self, SettingError> {
        let allow_unsigned = setting("ALLOW_UNSIGNED_DELIVERIES")?;
        if allow_unsigned {
            tracing::warn!("deliveries without a signature are accepted: anyone can write calls");
        }
        Ok(Self {
            allowed_addresses: list_setting("ELEVENLABS_WEBHOOK_IP_WHITELIST")?,
            signature_max_age: SignedDuration::from_secs(setting("SIGNATURE_MAX_AGE_SECONDS")?),
            allow_unsigned,
            secrets: SecretCache::new(
                aws_sdk_secretsmanager::Client::new(aws),
                setting("WEBHOOK_SECRET_ID")?,
            ),
        })
    }

    /// Lets a delivery in, or says why not.
    pub async fn admit<'a>(
        &self,
        request: &'a Request,
        from: IpAddr,
        now: Timestamp,
    ) -> Result<VerifiedDelivery<'a>, Refused<'a>> {
        if request.method() != Method::POST {
            return Err(Refusal::MethodNotAllowed.into());
        }
        if !is_json(request.headers()) {
            return Err(Refusal::UnsupportedMediaType.into());
        }
        let verified = self.verify(request, now).await;
        if self.allowed_addresses.is_empty() || contains(&self.allowed_addresses, from) {
            return verified.map_err(Refused::from);
        }
        match verified {
            // It may be genuine: the sender is to try again, which it does not after a 403.
            Err(refusal @ (Refusal::NotConfigured | Refusal::Unavailable)) => Err(refusal.into()),
            verified => Err(Refused {
                refusal: Refusal::AddressNotAllowed,
                genuine: verified.ok().filter(VerifiedDelivery::is_signed),
            }),
        }
    }

    async fn verify<'a>(
        &self,
        request: &'a Request,
        now: Timestamp,
    ) -> Result<VerifiedDelivery<'a>, Refusal> {
        let body = request.body().as_ref();
        let signature = request.headers().get(SIGNATURE_HEADER);
        if self.allow_unsigned && signature.is_none() {
            return Ok(VerifiedDelivery::unsigned(body, now));
        }
        let signature = signature
            .map(|header| header.to_str())
            .transpose()
            .map_err(|_| Refusal::Signature(SignatureError::Invalid))?;
        let verify = |secrets: &SigningSecrets| {
            let at = |now| VerifiedDelivery::verify(body, signature, secrets, self.signature_max_age, now);
            match at(now) {
                // An event that somebody kept and invokes by hand has an old stamp.
                Err(SignatureError::Stale) => at(Timestamp::now()),
                verified => verified,
            }
        };
        let known = self.secrets.current(now).await.ok_or(Refusal::Unavailable)?;
        let current = SigningSecrets::new(known.current);
        match verify(&current) {
            Err(SignatureError::Invalid) => {}
            verified if !current.is_empty() => return verified.map_err(Refusal::Signature),
            _ => {}
        }
        // Only around a rotation does anybody sign with the secret before.
        let known = self.secrets.both(now).await.ok_or(Refusal::Unavailable)?;
        let previous = SigningSecrets::new(known.previous);
        if current.is_empty() && previous.is_empty() {
            return Err(Refusal::NotConfigured);
        }
        match verify(&previous) {
            // It may be signed with a secret that we could not learn of.
            Err(SignatureError::Invalid) if known.outdated => Err(Refusal::Unavailable),
            verified => verified.map_err(Refusal::Signature),
        }
    }
}

/// `application/json`, with or without parameters such as a charset.
fn is_json(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}
