//! The identity provider that knows the people: an OpenID provider.
//!
//! <https://openid.net/specs/openid-connect-discovery-1_0.html>

use std::pin::Pin;
use std::time::Duration;

use aws_config::SdkConfig;
use jiff::{SignedDuration, Timestamp};
use jsonwebtoken::jwk::JwkSet;
use oauth2::basic::{
    BasicErrorResponse, BasicErrorResponseType, BasicRevocationErrorResponse,
    BasicTokenIntrospectionResponse, BasicTokenType,
};
use oauth2::{
    AsyncHttpClient, AuthUrl, AuthorizationCode, Client, ClientId, ClientSecret, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeVerifier, RedirectUrl, RequestTokenError,
    StandardRevocableToken, StandardTokenResponse, TokenUrl,
};
use reqwest::redirect::Policy;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use shared::error::Error;
use shared::runtime::setting;
use shared::secrets::SecretCache;
use tokio::sync::Mutex;
use url::Url;

use crate::access::id_token::{self, Expected, Person, Refused};

/// How long what the provider publishes is used without asking again.
const FRESH: SignedDuration = SignedDuration::from_hours(1);
/// How long an unknown key does not make us ask for keys again.
const KEYS_PAUSE: SignedDuration = SignedDuration::from_secs(60);
/// How long one answer of the provider may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long one may be, in bytes.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;

/// The provider, and who we are there.
pub struct Provider {
    issuer: String,
    client: SecretCache,
    http: reqwest::Client,
    published: Mutex<Option<Published>>,
}

/// What the provider says of itself.
#[derive(Clone)]
struct Published {
    metadata: Metadata,
    keys: JwkSet,
    asked_at: Timestamp,
}

#[derive(Clone, Deserialize)]
struct Metadata {
    issuer: String,
    authorization_endpoint: AuthUrl,
    token_endpoint: TokenUrl,
    jwks_uri: Url,
    end_session_endpoint: Option<Url>,
}

/// Our registration, as the secret holds it.
#[derive(Deserialize)]
struct Registration {
    client_id: ClientId,
    client_secret: ClientSecret,
}

/// The token endpoint's answer has an ID token, too.
#[derive(Serialize, Deserialize)]
pub struct IdTokenField {
    id_token: String,
}

impl std::fmt::Debug for IdTokenField {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdTokenField(hidden)")
    }
}

impl ExtraTokenFields for IdTokenField {}

/// The OAuth client, ready for the code flow.
pub type CodeFlow = Client<
    BasicErrorResponse,
    StandardTokenResponse<IdTokenField, BasicTokenType>,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

impl Provider {
    /// The provider of the environment.
    ///
    /// # Errors
    /// When a setting is missing, or this machine has no certificates to trust.
    pub fn from_environment(aws: &SdkConfig) -> Result<Self, lambda_http::Error> {
        Ok(Self {
            issuer: setting("OIDC_ISSUER")?,
            client: SecretCache::new(
                aws_sdk_secretsmanager::Client::new(aws),
                setting("CONSOLE_CLIENT_SECRET_ID")?,
            ),
            // What a provider answers is never a way to somewhere else.
            http: reqwest::Client::builder()
                .timeout(TIMEOUT)
                .redirect(Policy::none())
                .build()?,
            published: Mutex::new(None),
        })
    }

    /// The client of the code flow that comes back to a URL of ours.
    ///
    /// # Errors
    /// When the provider or our registration is out of reach.
    pub async fn code_flow(&self, redirect_url: Url, now: Timestamp) -> Result<CodeFlow, Error> {
        let registration = self.registration(now).await?;
        let Metadata {
            authorization_endpoint,
            token_endpoint,
            ..
        } = self.published(now, FRESH).await?.metadata;
        Ok(Client::new(registration.client_id)
            .set_client_secret(registration.client_secret)
            .set_auth_uri(authorization_endpoint)
            .set_token_uri(token_endpoint)
            .set_redirect_uri(RedirectUrl::from_url(redirect_url)))
    }

    /// Who signed in, for a code that the provider gave the browser.
    ///
    /// # Errors
    /// `sign_in_failed` where the provider does not stand by it.
    pub async fn person(
        &self,
        flow: &CodeFlow,
        code: String,
        pkce_verifier: PkceCodeVerifier,
        nonce: &str,
        now: Timestamp,
    ) -> Result<Person, Error> {
        let answer = flow
            .exchange_code(AuthorizationCode::new(code))
            .set_pkce_verifier(pkce_verifier)
            .request_async(&Http(&self.http))
            .await;
        let token = match answer {
            Ok(answer) => answer.extra_fields().id_token.clone(),
            Err(RequestTokenError::ServerResponse(refusal)) => {
                let error = refusal.error();
                return Err(match error {
                    BasicErrorResponseType::InvalidGrant => failed(),
                    _ => Error::unexpected(format!("the identity provider answers {error}")),
                });
            }
            Err(RequestTokenError::Request(error)) => return Err(error),
            Err(RequestTokenError::Parse(error, _)) => return Err(out_of_reach(error)),
            Err(RequestTokenError::Other(reason)) => return Err(out_of_reach(std::io::Error::other(reason))),
        };
        let expected = Expected {
            issuer: &self.issuer,
            client_id: flow.client_id(),
            nonce,
            now,
        };
        let mut keys = self.published(now, FRESH).await?.keys;
        if id_token::person(&token, &keys, &expected) == Err(Refused::UnknownKey) {
            keys = self.published(now, KEYS_PAUSE).await?.keys;
        }
        id_token::person(&token, &keys, &expected).map_err(|refused| {
            tracing::warn!(?refused, "an ID token was refused");
            failed()
        })
    }

    /// Where a browser ends its session with the provider, to come back to a
    /// URL of ours; `None` where the provider has no such place.
    ///
    /// Both the parameters of OpenID and those of Cognito are given:
    /// <https://openid.net/specs/openid-connect-rpinitiated-1_0.html>,
    /// <https://docs.aws.amazon.com/cognito/latest/developerguide/logout-endpoint.html>
    ///
    /// # Errors
    /// When the provider or our registration is out of reach.
    pub async fn sign_out_url(&self, back_to: &Url, now: Timestamp) -> Result<Option<Url>, Error> {
        let registration = self.registration(now).await?;
        let metadata = self.published(now, FRESH).await?.metadata;
        Ok(metadata.end_session_endpoint.map(|mut url| {
            url.query_pairs_mut()
                .append_pair("client_id", &registration.client_id)
                .append_pair("logout_uri", back_to.as_str())
                .append_pair("post_logout_redirect_uri", back_to.as_str());
            url
        }))
    }

    async fn registration(&self, now: Timestamp) -> Result<Registration, Error> {
        let known = self
            .client
            .current(now)
            .await
            .ok_or_else(|| out_of_reach(std::io::Error::other("our registration is out of reach")))?;
        let current = known
            .current
            .ok_or_else(|| Error::unexpected("the secret of the console's client has no value"))?;
        serde_json::from_str(&current).map_err(|_| {
            Error::unexpected("the secret of the console's client is not {\"client_id\",\"client_secret\"}")
        })
    }

    /// What the provider publishes, as of no longer ago than this.
    async fn published(&self, now: Timestamp, max_age: SignedDuration) -> Result<Published, Error> {
        let mut published = self.published.lock().await;
        if let Some(known) = &*published {
            let age = now.duration_since(known.asked_at);
            if !age.is_negative() && age < max_age {
                return Ok(known.clone());
            }
        }
        let url = format!(
            "{}/.well-known/openid-configuration",
            self.issuer.trim_end_matches('/')
        );
        let metadata: Metadata = self.fetch(&url).await?;
        if metadata.issuer != self.issuer {
            return Err(Error::unexpected(
                "the provider calls itself otherwise than OIDC_ISSUER",
            ));
        }
        let keys = self.fetch(metadata.jwks_uri.as_str()).await?;
        let fetched = Published {
            metadata,
            keys,
            asked_at: now,
        };
        *published = Some(fetched.clone());
        Ok(fetched)
    }

    async fn fetch<T: DeserializeOwned>(&self, url: &str) -> Result<T, Error> {
        let answer = self.http.get(url).send().await.map_err(out_of_reach)?;
        let answer = answer.error_for_status().map_err(out_of_reach)?;
        let body = read_whole(answer).await?;
        serde_json::from_slice(&body).map_err(out_of_reach)
    }
}

/// How the OAuth client reaches the provider.
struct Http<'a>(&'a reqwest::Client);

impl<'c> AsyncHttpClient<'c> for Http<'_> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, Error>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(async move {
            let request = reqwest::Request::try_from(request).map_err(out_of_reach)?;
            let answer = self.0.execute(request).await.map_err(out_of_reach)?;
            let mut response = HttpResponse::new(Vec::new());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            *response.body_mut() = read_whole(answer).await?;
            Ok(response)
        })
    }
}

/// The body of an answer, up to [`MAX_ANSWER_BYTES`].
async fn read_whole(mut answer: reqwest::Response) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(out_of_reach)? {
        body.extend_from_slice(&chunk);
        if body.len() > MAX_ANSWER_BYTES {
            return Err(out_of_reach(std::io::Error::other("its answer is too long")));
        }
    }
    Ok(body)
}

/// A sign-in that can't be completed; how it failed is nobody's business.
pub fn failed() -> Error {
    Error::Invalid {
        code: "sign_in_failed",
        field: None,
        message: "this sign-in is over, or was not begun in this browser: sign in again".to_owned(),
    }
}

fn out_of_reach(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::unavailable("asking the identity provider", error)
}
