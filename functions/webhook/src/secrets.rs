//! The signing secrets, from Secrets Manager, for a minute at a time.

use aws_sdk_secretsmanager::Client;
use jiff::{SignedDuration, Timestamp};
use shared::delivery::SigningSecrets;
use shared::error::Error;
use tokio::sync::Mutex;

/// How long an answer is used, whatever is signed with what meanwhile: a flood
/// of bad signatures must not become a flood of fetches.
const FRESH: SignedDuration = SignedDuration::from_secs(60);
/// How long a failed fetch is not tried again.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// The current and the previous version of the secret, both valid, so that it
/// can be rotated without a gap.
pub struct SecretCache {
    client: Client,
    secret_id: String,
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    /// `None`: it could not be fetched, and never was.
    secrets: Option<SigningSecrets>,
    fresh_until: Timestamp,
}

impl SecretCache {
    pub fn new(client: Client, secret_id: String) -> Self {
        Self {
            client,
            secret_id,
            cached: Mutex::new(None),
        }
    }

    /// The secrets, possibly none. Where they can't be fetched, those of before
    /// go on: a secret outlives an outage, a call may not.
    pub async fn get(&self, now: Timestamp) -> Result<SigningSecrets, Error> {
        let mut cached = self.cached.lock().await;
        if let Some(Cached { secrets, fresh_until }) = &*cached
            && now < *fresh_until
        {
            return secrets.clone().ok_or_else(out_of_reach);
        }
        let (secrets, fresh_until) = match self.fetch().await {
            Ok(secrets) => (Some(secrets), now + FRESH),
            Err(error) => {
                tracing::error!(%error, "the signing secret could not be fetched");
                (cached.take().and_then(|old| old.secrets), now + PAUSE)
            }
        };
        *cached = Some(Cached {
            secrets: secrets.clone(),
            fresh_until,
        });
        secrets.ok_or_else(out_of_reach)
    }

    async fn fetch(&self) -> Result<SigningSecrets, Error> {
        let (current, previous) = tokio::try_join!(
            self.fetch_version("AWSCURRENT"),
            self.fetch_version("AWSPREVIOUS")
        )?;
        Ok(SigningSecrets::new(current.into_iter().chain(previous)))
    }

    async fn fetch_version(&self, stage: &str) -> Result<Option<String>, Error> {
        let answer = self
            .client
            .get_secret_value()
            .secret_id(&self.secret_id)
            .version_stage(stage)
            .send()
            .await;
        match answer {
            Ok(answer) => Ok(answer.secret_string),
            // A secret that was made without a value, or never rotated.
            Err(error)
                if error
                    .as_service_error()
                    .is_some_and(|error| error.is_resource_not_found_exception()) =>
            {
                Ok(None)
            }
            Err(error) => Err(Error::unavailable("fetching the signing secret", error)),
        }
    }
}

fn out_of_reach() -> Error {
    Error::unavailable(
        "fetching the signing secret",
        std::io::Error::other("it could not be fetched a moment ago"),
    )
}
