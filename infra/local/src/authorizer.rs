//! The HTTP API's JWT authorizer.
//!
//! <https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-jwt-authorizer.html>

use anyhow::{Context, Result};
use jiff::Timestamp;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;

use crate::template;

/// Why a request is turned away before it reaches a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// No token, or none that counts.
    Unauthorized,
    /// A token that is not for this.
    Forbidden,
}

/// One authorizer of the template.
pub struct Authorizer {
    definition: template::Authorizer,
    client: reqwest::Client,
    keys: Mutex<JwkSet>,
}

impl Authorizer {
    /// As the template defines it; keys are fetched when the first token comes.
    ///
    /// # Errors
    /// When no HTTP client can be made.
    pub fn new(definition: template::Authorizer) -> Result<Self> {
        Ok(Self {
            definition,
            client: reqwest::Client::builder().no_proxy().build()?,
            keys: Mutex::new(JwkSet { keys: Vec::new() }),
        })
    }

    /// The claims of a token that is right for a route with these scopes.
    ///
    /// RSA signatures only; issuer, audience (or `client_id` where there is no
    /// `aud`), expiry and not-before; one of the scopes, where there are any.
    ///
    /// # Errors
    /// [`Denied`], as the gateway answers it.
    pub async fn authorize(
        &self,
        authorization: Option<&str>,
        scopes: &[String],
        now: Timestamp,
    ) -> Result<Value, Denied> {
        let header = authorization.ok_or(Denied::Unauthorized)?;
        let token = header.strip_prefix("Bearer ").unwrap_or(header);
        let claims = self.verified_claims(token).await.ok_or(Denied::Unauthorized)?;
        if !self.is_for_us(&claims) || !is_valid_at(&claims, now) {
            return Err(Denied::Unauthorized);
        }
        let granted = claims
            .get("scope")
            .or(claims.get("scp"))
            .cloned()
            .unwrap_or_default();
        let granted: Vec<&str> = match &granted {
            Value::String(scopes) => scopes.split(' ').collect(),
            Value::Array(scopes) => scopes.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        if !scopes.is_empty() && !scopes.iter().any(|scope| granted.contains(&scope.as_str())) {
            return Err(Denied::Forbidden);
        }
        Ok(json!({ "claims": as_strings(claims), "scopes": scopes }))
    }

    async fn verified_claims(&self, token: &str) -> Option<Map<String, Value>> {
        let header = jsonwebtoken::decode_header(token).ok()?;
        if !matches!(header.alg, Algorithm::RS256 | Algorithm::RS384 | Algorithm::RS512) {
            return None;
        }
        let key = self.key(&header.kid?).await?;
        let mut validation = Validation::new(header.alg);
        // Times are judged by the gateway's clock, the audience by two claims.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        jsonwebtoken::decode(token, &key, &validation)
            .ok()
            .map(|token| token.claims)
    }

    async fn key(&self, kid: &str) -> Option<DecodingKey> {
        let mut keys = self.keys.lock().await;
        if keys.find(kid).is_none() {
            match self.fetch_keys().await {
                Ok(fetched) => *keys = fetched,
                Err(error) => eprintln!("the issuer's keys could not be fetched: {error:#}"),
            }
        }
        DecodingKey::from_jwk(keys.find(kid)?).ok()
    }

    async fn fetch_keys(&self) -> Result<JwkSet> {
        let url = format!("{}/.well-known/openid-configuration", self.definition.issuer);
        let configuration: Value = self.client.get(url).send().await?.json().await?;
        let url = configuration["jwks_uri"].as_str().context("no jwks_uri")?;
        Ok(self.client.get(url).send().await?.json().await?)
    }

    fn is_for_us(&self, claims: &Map<String, Value>) -> bool {
        let audience = claims.get("aud").or(claims.get("client_id"));
        let named: Vec<&str> = match audience {
            Some(Value::String(name)) => vec![name],
            Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        claims.get("iss").and_then(Value::as_str) == Some(&self.definition.issuer)
            && named
                .iter()
                .any(|name| self.definition.audience.iter().any(|ours| ours == name))
    }
}

fn is_valid_at(claims: &Map<String, Value>, now: Timestamp) -> bool {
    let seconds = |name: &str| claims.get(name).and_then(Value::as_i64);
    let now = now.as_second();
    seconds("exp").is_some_and(|exp| now < exp)
        && seconds("nbf").is_none_or(|nbf| nbf <= now)
        && seconds("iat").is_none_or(|iat| iat <= now)
}

/// Claims reach the function as texts.
fn as_strings(claims: Map<String, Value>) -> Map<String, Value> {
    claims
        .into_iter()
        .map(|(name, value)| match value {
            Value::String(_) => (name, value),
            other => (name, Value::String(other.to_string())),
        })
        .collect()
}
