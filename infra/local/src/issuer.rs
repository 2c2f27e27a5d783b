//! The stand-in for the identity provider: a small OIDC issuer whose key is made
//! at its start. Its tokens look like those of a Cognito user pool.
//!
//! Discovery: <https://openid.net/specs/openid-connect-discovery-1_0.html>, flows:
//! <https://www.rfc-editor.org/rfc/rfc6749>, PKCE: <https://www.rfc-editor.org/rfc/rfc7636>,
//! claims: <https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-tokens-with-identity-providers.html>

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use aws_lc_rs::signature::KeyPair as _;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use jiff::Timestamp;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::clock::Clock;
use crate::gateway::query_parameters;
use crate::sender::unanswered;

/// Where the issuer is, below the gateway's base URL.
pub const ISSUER_PATH: &str = "/local-issuer";
/// The scope that reads.
pub const READ: &str = "ringmark/read";
/// The scope that changes things.
pub const WRITE: &str = "ringmark/write";
/// The people who can sign in, with one click.
pub const PEOPLE: [&str; 3] = ["anna@example.com", "ben@example.com", VIEWER];
/// The one of them who may look and change nothing.
pub const VIEWER: &str = "vera@example.com";

/// Of scripts; also the audience of the API.
pub(crate) const SCRIPT: Client = Client {
    id: "local-script",
    secret: "local-script-secret",
};
/// Of the console.
pub(crate) const CONSOLE: Client = Client {
    id: "local-console",
    secret: "local-console-secret",
};

const TOKEN_SECONDS: i64 = 3600;
const CODE_SECONDS: i64 = 60;

/// A client as it is registered; its secret guards nothing but this machine.
#[derive(PartialEq, Eq)]
pub(crate) struct Client {
    pub(crate) id: &'static str,
    pub(crate) secret: &'static str,
}

/// A running issuer.
pub struct Issuer {
    /// The gateway's base URL, where the console is, too.
    base: String,
    clock: Clock,
    key: EncodingKey,
    jwk: Jwk,
    public_key_pem: String,
    /// What codes stand for, each until it is used.
    grants: Mutex<BTreeMap<String, Grant>>,
    /// Whatever it gave or was given in confidence.
    confided: Mutex<Vec<String>>,
}

/// What a person agreed to on the sign-in page.
struct Grant {
    person: String,
    redirect_uri: String,
    nonce: Option<String>,
    code_challenge: String,
    expires_at: Timestamp,
}

impl Issuer {
    /// An issuer below a base URL, with a new key.
    ///
    /// # Errors
    /// When the key can't be made.
    pub fn new(base: &str, clock: Clock) -> Result<Self> {
        let pair = KeyPair::generate(KeySize::Rsa2048)?;
        let private = AsDer::<Pkcs8V1Der>::as_der(&pair)?;
        let public = AsDer::<PublicKeyX509Der>::as_der(pair.public_key())?;
        let key = EncodingKey::from_rsa_pem(pem("PRIVATE KEY", private.as_ref()).as_bytes())?;
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::RS256)?;
        jwk.common.key_id = Some(Uuid::now_v7().to_string());
        Ok(Self {
            base: base.to_owned(),
            clock,
            key,
            jwk,
            public_key_pem: pem("PUBLIC KEY", public.as_ref()),
            grants: Mutex::default(),
            confided: Mutex::default(),
        })
    }

    /// Its `iss`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}{ISSUER_PATH}", self.base)
    }

    /// The key that checks its signatures.
    #[must_use]
    pub fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    /// The name of its key in [`Header`]s.
    #[must_use]
    pub fn key_id(&self) -> &str {
        self.jwk.common.key_id.as_deref().unwrap_or_default()
    }

    /// The claims of a script's access token with these scopes, as of now.
    #[must_use]
    pub fn access_claims(&self, scopes: &[&str]) -> Value {
        let mut claims = self.claims(SCRIPT.id);
        claims["client_id"] = json!(SCRIPT.id);
        claims["token_use"] = json!("access");
        claims["scope"] = json!(scopes.join(" "));
        claims["version"] = json!(2);
        claims
    }

    /// The claims of a person's ID token, as of now.
    #[must_use]
    pub fn id_claims(&self, person: &str, nonce: Option<&str>) -> Value {
        let mut claims = self.claims(person);
        claims["aud"] = json!(CONSOLE.id);
        claims["token_use"] = json!("id");
        claims["cognito:username"] = json!(person);
        claims["email"] = json!(person);
        claims["email_verified"] = json!(true);
        if let Some(nonce) = nonce {
            claims["nonce"] = json!(nonce);
        }
        if person == VIEWER {
            claims["cognito:groups"] = json!(["ringmark-viewers"]);
        }
        claims
    }

    fn claims(&self, subject: &str) -> Value {
        let now = self.clock.now().as_second();
        json!({
            "iss": self.url(),
            "sub": subject,
            "iat": now,
            "auth_time": now,
            "exp": now + TOKEN_SECONDS,
            "jti": Uuid::now_v7().to_string(),
        })
    }

    /// Any claims, signed.
    ///
    /// # Errors
    /// When they can't be signed.
    pub fn sign(&self, claims: &Value) -> Result<String> {
        let mut header = Header::new(Algorithm::RS256);
        header.kid = Some(self.key_id().to_owned());
        let token = jsonwebtoken::encode(&header, claims, &self.key).context("signing a token")?;
        self.confide(&token);
        Ok(token)
    }

    /// The clients' secrets, and every token, code and verifier so far: what no
    /// log may show.
    #[must_use]
    pub fn confided(&self) -> Vec<String> {
        let mut confided = self
            .confided
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        confided.extend([SCRIPT.secret, CONSOLE.secret].map(str::to_owned));
        confided
    }

    fn confide(&self, text: &str) {
        let mut confided = self.confided.lock().unwrap_or_else(PoisonError::into_inner);
        confided.push(text.to_owned());
    }

    /// Serves discovery, keys, sign-in, sign-out and tokens below [`ISSUER_PATH`].
    pub fn router(self: Arc<Self>) -> Router {
        Router::new()
            .route("/.well-known/openid-configuration", get(configuration))
            .route("/.well-known/jwks.json", get(keys))
            .route("/oauth2/authorize", get(sign_in_page).post(sign_in))
            .route("/oauth2/token", post(token))
            .route("/logout", get(sign_out))
            .with_state(self)
    }

    /// Whether a URL is registered: a path of the console, by either name of
    /// this machine.
    fn is_registered(&self, url: Option<&String>, path: &str) -> bool {
        let by_name = self.base.replace("127.0.0.1", "localhost");
        let bases = [&self.base, &by_name];
        url.is_some_and(|url| bases.iter().any(|base| *url == format!("{base}{path}")))
    }

    /// What a request for sign-in asks for, if it is one of the console's.
    fn authorization_request(&self, query: &str) -> Result<BTreeMap<String, String>, &'static str> {
        let request = query_parameters(query);
        let has = |name: &str, value: &str| request.get(name).is_some_and(|given| given == value);
        if !has("client_id", CONSOLE.id) {
            return Err("unknown client_id");
        }
        if !self.is_registered(request.get("redirect_uri"), "/sign-in/callback") {
            return Err("this redirect_uri is not registered");
        }
        if !has("response_type", "code") || !has("code_challenge_method", "S256") {
            return Err("only response_type=code with code_challenge_method=S256 is served");
        }
        if !request.contains_key("code_challenge") {
            return Err("code_challenge is missing");
        }
        Ok(request)
    }

    /// Exchanges a code, once.
    fn take_grant(&self, form: &BTreeMap<String, String>) -> Option<Grant> {
        let field = |name: &str| form.get(name).map_or("", String::as_str);
        let grant = self
            .grants
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(field("code"))?;
        let challenge = BASE64_URL.encode(Sha256::digest(field("code_verifier")));
        (grant.redirect_uri == field("redirect_uri")
            && grant.code_challenge == challenge
            && self.clock.now() < grant.expires_at)
            .then_some(grant)
    }
}

fn pem(kind: &str, der: &[u8]) -> String {
    let base64 = BASE64.encode(der);
    format!("-----BEGIN {kind}-----\n{base64}\n-----END {kind}-----\n")
}

async fn configuration(State(issuer): State<Arc<Issuer>>) -> Json<Value> {
    let url = issuer.url();
    Json(json!({
        "issuer": url,
        "jwks_uri": format!("{url}/.well-known/jwks.json"),
        "authorization_endpoint": format!("{url}/oauth2/authorize"),
        "token_endpoint": format!("{url}/oauth2/token"),
        "end_session_endpoint": format!("{url}/logout"),
        "response_types_supported": ["code"],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "subject_types_supported": ["public"],
        "scopes_supported": ["openid", "email", READ, WRITE],
    }))
}

async fn keys(State(issuer): State<Arc<Issuer>>) -> Json<JwkSet> {
    Json(JwkSet {
        keys: vec![issuer.jwk.clone()],
    })
}

async fn sign_in_page(State(issuer): State<Arc<Issuer>>, RawQuery(query): RawQuery) -> Response {
    if let Err(reason) = issuer.authorization_request(query.as_deref().unwrap_or_default()) {
        return (StatusCode::BAD_REQUEST, reason).into_response();
    }
    let buttons: String = PEOPLE
        .iter()
        .map(|person| {
            format!("<p><button name=\"person\" value=\"{person}\">Sign in as {person}</button></p>")
        })
        .collect();
    // The form goes to the address of this page, query and all.
    Html(format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Local sign-in</title>\
         <body style=\"font: 1.1rem system-ui; margin: 4rem auto; max-width: 30rem\">\
         <h1>Local sign-in</h1><p>Stands in for the identity provider on this machine.</p>\
         <form method=\"post\">{buttons}</form>"
    ))
    .into_response()
}

async fn sign_in(State(issuer): State<Arc<Issuer>>, RawQuery(query): RawQuery, form: String) -> Response {
    let mut request = match issuer.authorization_request(query.as_deref().unwrap_or_default()) {
        Ok(request) => request,
        Err(reason) => return (StatusCode::BAD_REQUEST, reason).into_response(),
    };
    let person = query_parameters(&form).remove("person").unwrap_or_default();
    if !PEOPLE.contains(&person.as_str()) {
        return (StatusCode::BAD_REQUEST, "nobody of that name can sign in").into_response();
    }
    let code = Uuid::new_v4().to_string();
    issuer.confide(&code);
    let state = request.remove("state").unwrap_or_default();
    let redirect_uri = request.remove("redirect_uri").unwrap_or_default();
    let target = format!("{redirect_uri}?code={code}&state={}", encoded(&state));
    let grant = Grant {
        person,
        redirect_uri,
        nonce: request.remove("nonce"),
        code_challenge: request.remove("code_challenge").unwrap_or_default(),
        expires_at: issuer.clock.now() + jiff::SignedDuration::from_secs(CODE_SECONDS),
    };
    let mut grants = issuer.grants.lock().unwrap_or_else(PoisonError::into_inner);
    grants.insert(code, grant);
    Redirect::to(&target).into_response()
}

/// <https://docs.aws.amazon.com/cognito/latest/developerguide/logout-endpoint.html>
async fn sign_out(State(issuer): State<Arc<Issuer>>, RawQuery(query): RawQuery) -> Response {
    let query = query_parameters(query.as_deref().unwrap_or_default());
    match query.get("logout_uri") {
        Some(uri) if issuer.is_registered(Some(uri), "/sign-out") => Redirect::to(uri).into_response(),
        _ => (StatusCode::BAD_REQUEST, "this logout_uri is not registered").into_response(),
    }
}

async fn token(State(issuer): State<Arc<Issuer>>, headers: HeaderMap, body: String) -> Response {
    let form = query_parameters(&body);
    let field = |name: &str| form.get(name).map_or("", String::as_str);
    issuer.confide(field("code_verifier"));
    let client = basic_credentials(&headers)
        .unwrap_or_else(|| (field("client_id").to_owned(), field("client_secret").to_owned()));
    let is = |known: Client| client.0 == known.id && client.1 == known.secret;
    let tokens = match field("grant_type") {
        "client_credentials" if is(SCRIPT) => {
            let scopes: Vec<&str> = match field("scope") {
                "" => vec![READ, WRITE],
                scopes => scopes.split(' ').collect(),
            };
            if scopes.iter().any(|scope| ![READ, WRITE].contains(scope)) {
                return oauth_error("invalid_scope");
            }
            issuer
                .sign(&issuer.access_claims(&scopes))
                .map(|access| json!({ "access_token": access }))
        }
        "authorization_code" if is(CONSOLE) => {
            let Some(grant) = issuer.take_grant(&form) else {
                return oauth_error("invalid_grant");
            };
            issuer.tokens_of(&grant)
        }
        "client_credentials" | "authorization_code" => return oauth_error("invalid_client"),
        _ => return oauth_error("unsupported_grant_type"),
    };
    match tokens {
        Ok(mut tokens) => {
            tokens["token_type"] = json!("Bearer");
            tokens["expires_in"] = json!(TOKEN_SECONDS);
            Json(tokens).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

impl Issuer {
    fn tokens_of(&self, grant: &Grant) -> Result<Value> {
        let mut access = self.claims(&grant.person);
        access["client_id"] = json!(CONSOLE.id);
        access["token_use"] = json!("access");
        access["scope"] = json!("openid email");
        access["username"] = json!(grant.person);
        let id = self.id_claims(&grant.person, grant.nonce.as_deref());
        Ok(json!({ "access_token": self.sign(&access)?, "id_token": self.sign(&id)? }))
    }
}

/// <https://www.rfc-editor.org/rfc/rfc6749#section-2.3.1>
fn basic_credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let decoded = BASE64.decode(value.strip_prefix("Basic ")?).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (id, secret) = decoded.split_once(':')?;
    let decode = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    Some((decode(id), decode(secret)))
}

fn oauth_error(code: &str) -> Response {
    (StatusCode::BAD_REQUEST, Json(json!({ "error": code }))).into_response()
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// Asks the issuer of a running stack for an access token.
///
/// # Errors
/// When no stack runs there.
pub async fn fetch_token(client: &reqwest::Client, base_url: &str, scopes: &[&str]) -> Result<String> {
    let url = format!("{base_url}{ISSUER_PATH}/oauth2/token");
    let form = format!(
        "grant_type=client_credentials&client_id={}&client_secret={}&scope={}",
        SCRIPT.id,
        SCRIPT.secret,
        encoded(&scopes.join(" "))
    );
    let answer: Value = client
        .post(&url)
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form)
        .send()
        .await
        .with_context(|| unanswered(&url))?
        .error_for_status()?
        .json()
        .await?;
    answer["access_token"]
        .as_str()
        .map(str::to_owned)
        .context("the issuer answered without a token")
}
