//! Signing in: the authorization-code flow with PKCE, state and nonce.
//!
//! <https://openid.net/specs/openid-connect-core-1_0.html#CodeFlowAuth>

use jiff::{SignedDuration, Timestamp};
use oauth2::{CsrfToken, PkceCodeChallenge, PkceCodeVerifier, Scope};
use serde::{Deserialize, Serialize};
use shared::error::Error;
use url::Url;

use crate::access::origin::Origin;
use crate::access::provider::{Provider, failed};
use crate::access::seal::Sealed;
use crate::access::session::Session;

/// Where the provider sends the browser back to; registered there.
pub const CALLBACK_PATH: &str = "/sign-in/callback";
/// How long a person may take at the provider.
const LIFETIME: SignedDuration = SignedDuration::from_mins(15);

/// A sign-in that is under way, as the sealed cookie holds it: it binds the
/// answer of the provider to the browser that asked.
#[derive(Serialize, Deserialize)]
pub struct PendingSignIn {
    state: String,
    nonce: String,
    pkce_verifier: PkceCodeVerifier,
    /// A path of ours.
    return_to: String,
    expires_at: Timestamp,
}

impl Sealed for PendingSignIn {
    const NAME: &'static str = "__Host-sign-in";

    fn expires_at(&self) -> Timestamp {
        self.expires_at
    }
}

/// Begins a sign-in: where to send the browser, and what it must bring back.
///
/// # Errors
/// When the provider is out of reach.
pub async fn begin(
    provider: &Provider,
    origin: &Origin,
    return_to: String,
    now: Timestamp,
) -> Result<(Url, PendingSignIn), Error> {
    let flow = provider.code_flow(origin.url(CALLBACK_PATH), now).await?;
    let (challenge, pkce_verifier) = PkceCodeChallenge::new_random_sha256();
    let nonce = CsrfToken::new_random().into_secret();
    let (url, state) = flow
        .authorize_url(CsrfToken::new_random)
        .add_scope(Scope::new("openid".to_owned()))
        .add_scope(Scope::new("email".to_owned()))
        .add_extra_param("nonce", &nonce)
        .set_pkce_challenge(challenge)
        .url();
    let pending = PendingSignIn {
        state: state.into_secret(),
        nonce,
        pkce_verifier,
        return_to,
        expires_at: now + LIFETIME,
    };
    Ok((url, pending))
}

/// Completes a sign-in with what the provider sent the browser back with: the
/// session, and the path of ours to go on to.
///
/// # Errors
/// `sign_in_failed` where this browser began no such sign-in, or the provider
/// does not stand by it.
pub async fn complete(
    provider: &Provider,
    origin: &Origin,
    pending: Option<PendingSignIn>,
    state: Option<String>,
    code: Option<String>,
    now: Timestamp,
) -> Result<(Session, String), Error> {
    let pending = pending
        .filter(|pending| state.as_ref() == Some(&pending.state))
        .ok_or_else(failed)?;
    let code = code.ok_or_else(failed)?;
    let flow = provider.code_flow(origin.url(CALLBACK_PATH), now).await?;
    let person = provider
        .person(&flow, code, pending.pkce_verifier, &pending.nonce, now)
        .await?;
    Ok((Session::new(person, now), pending.return_to))
}
