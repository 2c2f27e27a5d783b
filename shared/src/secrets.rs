//! A secret of Secrets Manager, for a minute at a time.

use aws_sdk_secretsmanager::Client;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

use crate::error::Error;

/// How long an answer is used, whatever is asked of it meanwhile: a flood of bad
/// signatures must not become a flood of fetches.
const FRESH: SignedDuration = SignedDuration::from_secs(60);
/// How long a failed fetch is not tried again.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);

/// The current and the previous version of a secret, both valid, so that it can
/// be rotated without a gap.
pub struct SecretCache {
    client: Client,
    secret_id: String,
    cached: Mutex<Option<Cached>>,
}

/// What is known of a secret.
#[derive(Clone)]
pub struct Known {
    /// The current value, then the previous one; none where nothing is configured.
    pub values: Vec<String>,
    /// Whether they could not be asked for again when they should have been.
    pub outdated: bool,
}

struct Cached {
    /// `None`: it could not be fetched, and never was.
    known: Option<Known>,
    asked_at: Timestamp,
    fresh_for: SignedDuration,
}

impl SecretCache {
    /// The secret of a name or an ARN, fetched when it is first asked for.
    #[must_use]
    pub fn new(client: Client, secret_id: String) -> Self {
        Self {
            client,
            secret_id,
            cached: Mutex::new(None),
        }
    }

    /// Its values; `None` where they are out of reach. Where they can't be
    /// fetched again, those of before go on: a secret outlives an outage.
    pub async fn get(&self, now: Timestamp) -> Option<Known> {
        let mut cached = self.cached.lock().await;
        if let Some(Cached {
            known,
            asked_at,
            fresh_for,
        }) = &*cached
        {
            let age = now.duration_since(*asked_at);
            if !age.is_negative() && age < *fresh_for {
                return known.clone();
            }
        }
        let (known, fresh_for) = match self.fetch().await {
            Ok(values) => (
                Some(Known {
                    values,
                    outdated: false,
                }),
                FRESH,
            ),
            Err(error) => {
                tracing::error!(secret_id = self.secret_id, %error, "a secret could not be fetched");
                let before = cached.take().and_then(|cached| cached.known);
                let outdated = before.map(|known| Known {
                    outdated: true,
                    ..known
                });
                (outdated, PAUSE)
            }
        };
        *cached = Some(Cached {
            known: known.clone(),
            asked_at: now,
            fresh_for,
        });
        known
    }

    /// The current version first: whatever rotation happens in between, the
    /// version that was current at the beginning is then among the two.
    async fn fetch(&self) -> Result<Vec<String>, Error> {
        let current = self.fetch_version("AWSCURRENT").await?;
        let previous = self.fetch_version("AWSPREVIOUS").await?;
        Ok(current.into_iter().chain(previous).collect())
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
            Err(error) => Err(Error::unavailable("fetching a secret", error)),
        }
    }
}
