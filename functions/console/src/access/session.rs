//! Who is signed in, for how long.

use aws_config::SdkConfig;
use jiff::{SignedDuration, Timestamp};
use lambda_http::http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::error::Error;
use shared::runtime::{SettingError, setting};
use shared::secrets::SecretCache;
use shared::store::sessions::EndedSessionStore;
use uuid::Uuid;

use crate::access::id_token::Person;
use crate::access::seal::{Seal, Sealed};

/// A working day; then the provider is asked again who somebody is.
const LIFETIME: SignedDuration = SignedDuration::from_hours(8);

/// A person who signed in, as the sealed cookie holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    id: String,
    /// The person.
    pub person: Person,
    /// When it ends by itself.
    pub expires_at: Timestamp,
}

impl Session {
    /// A session that begins now.
    pub fn new(person: Person, now: Timestamp) -> Self {
        Self {
            id: Uuid::new_v4().to_string(),
            person,
            expires_at: now + LIFETIME,
        }
    }
}

impl Sealed for Session {
    const NAME: &'static str = "__Host-session";

    fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// What tells a session that counts from one that does not.
pub struct Sessions {
    key: SecretCache,
    ended: EndedSessionStore,
}

impl Sessions {
    /// With the key and the table of the environment.
    ///
    /// # Errors
    /// When a setting is missing.
    pub fn from_environment(aws: &SdkConfig) -> Result<Self, SettingError> {
        Ok(Self {
            key: SecretCache::new(
                aws_sdk_secretsmanager::Client::new(aws),
                setting("SESSION_KEY_SECRET_ID")?,
            ),
            ended: EndedSessionStore::new(aws_sdk_dynamodb::Client::new(aws), setting("SESSIONS_TABLE")?),
        })
    }

    /// What seals cookies.
    ///
    /// # Errors
    /// When its key is out of reach.
    pub async fn seal(&self, now: Timestamp) -> Result<Seal, Error> {
        let known = self.key.both(now).await.ok_or_else(|| {
            let reason = std::io::Error::other("the session key is out of reach");
            Error::unavailable("sealing a session", reason)
        })?;
        let keys: Vec<String> = known.current.into_iter().chain(known.previous).collect();
        Seal::new(&keys)
    }

    /// The session of a request: ours, not expired, not ended.
    ///
    /// # Errors
    /// When that can't be known; nobody is let in then.
    pub async fn of(&self, headers: &HeaderMap, now: Timestamp) -> Result<Option<Session>, Error> {
        let Some(session) = self.seal(now).await?.open::<Session>(headers, now) else {
            return Ok(None);
        };
        let ended = self.ended.is_ended(&session.id).await?;
        Ok((!ended).then_some(session))
    }

    /// Ends a session for good, also where a copy of its cookie is kept.
    ///
    /// # Errors
    /// When the store fails: the session goes on.
    pub async fn end(&self, session: &Session) -> Result<(), Error> {
        self.ended.end(&session.id, session.expires_at).await
    }
}
