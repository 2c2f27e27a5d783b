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
    /// The current value; none where nothing is configured.
    pub current: Option<String>,
    /// The value before, when it was last asked for; none where there was none, or where nobody
    /// asked for it yet.
    pub previous: Option<String>,
    /// Whether they could not be asked for again when they should have been.
    pub outdated: bool,
}

struct Cached {
    /// `None`: it could not be fetched, and never was.
    known: Option<Known>,
    /// Whether nothing more can be learned for as long as this is fresh.
    is_whole: bool,
    asked_at: Timestamp,
    fresh_for: SignedDuration,
}

impl Cached {
    fn is_fresh(&self, now: Timestamp) -> bool {
        let age = now.duration_since(self.asked_at);
        !age.is_negative() && age < self.fresh_for
    }
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

    /// Its current value, and the previous one where that is known by the way; `None`
    /// where it is out of reach. Where it can't be fetched again, what was known before
    /// goes on: a secret outlives an outage.
    pub async fn current(&self, now: Timestamp) -> Option<Known> {
        self.get(now, false).await
    }

    /// Its current value and the previous one, otherwise as [`current`](Self::current).
    pub async fn both(&self, now: Timestamp) -> Option<Known> {
        self.get(now, true).await
    }

    async fn get(&self, now: Timestamp, both: bool) -> Option<Known> {
        let mut cached = self.cached.lock().await;
        let fresh = cached.as_ref().filter(|cached| cached.is_fresh(now));
        if let Some(cached) = fresh.filter(|cached| cached.is_whole || !both) {
            return cached.known.clone();
        }
        let asked_at = fresh.map_or(now, |cached| cached.asked_at);
        let is_fresh = fresh.is_some();
        let before = cached.as_ref().and_then(|cached| cached.known.clone());
        let next = match self.fetch(before.as_ref(), is_fresh, both).await {
            Ok(known) => Cached {
                known: Some(known),
                is_whole: both,
                asked_at,
                fresh_for: FRESH,
            },
            Err(error) => {
                tracing::error!(secret_id = self.secret_id, %error, "a secret could not be fetched");
                let outdated = before.map(|known| Known {
                    outdated: true,
                    ..known
                });
                Cached {
                    known: outdated,
                    is_whole: true,
                    asked_at: now,
                    fresh_for: PAUSE,
                }
            }
        };
        let known = next.known.clone();
        *cached = Some(next);
        known
    }

    /// What is to be known, the current version first: whatever rotation happens in between,
    /// the version that was current at the beginning is then among the two. A previous one that
    /// nobody needs now is remembered: it may be needed while it can't be asked for.
    async fn fetch(&self, before: Option<&Known>, is_fresh: bool, both: bool) -> Result<Known, Error> {
        let current = match before.filter(|_| is_fresh) {
            Some(known) => known.current.clone(),
            None => self.fetch_version("AWSCURRENT").await?,
        };
        let previous = match both {
            true => self.fetch_version("AWSPREVIOUS").await?,
            false => before.and_then(|known| known.previous.clone()),
        };
        Ok(Known {
            current,
            previous,
            outdated: false,
        })
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
