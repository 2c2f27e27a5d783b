//! The routes of the console, and the one guard before its pages.

use std::sync::Arc;

use lambda_http::http::{HeaderValue, Method, Response, StatusCode, header};
use lambda_http::{Body, Request};
use serde::Deserialize;
use shared::error::Error;
use shared::http::{Context, path_parameter};
use shared::query::Query;
use shared::runtime::{aws, log_failure};
use url::form_urlencoded;

use crate::origin::{MAX_PATH_BYTES, Origin};
use crate::pages;
use crate::provider::Provider;
use crate::seal::forget_cookie;
use crate::session::{Session, Sessions};
use crate::sign_in::{self, PendingSignIn};

/// All that outlives a request.
pub struct State {
    provider: Provider,
    sessions: Sessions,
}

#[derive(Deserialize)]
struct SignInRequest {
    /// Where to go afterwards.
    return_to: Option<String>,
}

/// <https://www.rfc-editor.org/rfc/rfc6749#section-4.1.2>
#[derive(Deserialize)]
struct CallbackRequest {
    state: Option<String>,
    code: Option<String>,
}

impl State {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let aws = aws().await;
        Ok(Self {
            provider: Provider::from_environment(&aws)?,
            sessions: Sessions::from_environment(&aws)?,
        })
    }
}

/// Answers one request: with pages for browsers, errors included.
pub async fn handle(state: Arc<State>, request: Request, context: Context) -> Result<Response<Body>, Error> {
    match state.answer(&request, &context).await {
        Err(error) if takes_html(&request) => {
            log_failure(&error, &context.route, &context.request_id);
            pages::error(&error, &context.request_id)
        }
        answer => answer,
    }
}

impl State {
    /// What is matched before the guard is open to everybody; nothing else is.
    async fn answer(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        let origin = Origin::of(request)?;
        origin.expect_same_origin(request.method(), request.headers())?;
        match context.route.as_str() {
            "GET /assets/{name}" => return pages::asset(&path_parameter(request, "name")?),
            "GET /sign-in" => return self.begin_sign_in(request, context, &origin).await,
            "GET /sign-in/callback" => return self.complete_sign_in(request, context, &origin).await,
            "GET /sign-out" => return pages::sign_out(self.session(request, context).await?.as_ref()),
            "POST /sign-out" => return self.sign_out(request, context, &origin).await,
            _ => {}
        }
        let Some(session) = self.session(request, context).await? else {
            return turned_away(request);
        };
        match context.route.as_str() {
            "GET /" => pages::home(&session),
            route => Err(Error::unexpected(format!("this function does not serve {route}"))),
        }
    }

    async fn session(&self, request: &Request, context: &Context) -> Result<Option<Session>, Error> {
        self.sessions.of(request.headers(), context.received_at).await
    }

    async fn begin_sign_in(
        &self,
        request: &Request,
        context: &Context,
        origin: &Origin,
    ) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let SignInRequest { return_to } = query.take()?;
        query.finish()?;
        let own_path = |text: String| {
            let must = "return_to must be a path of this site, such as /";
            origin
                .own_path(&text)
                .ok_or_else(|| Error::invalid("return_to", must))
        };
        let now = context.received_at;
        let return_to = return_to.map_or_else(|| Ok("/".to_owned()), own_path)?;
        let (url, pending) = sign_in::begin(&self.provider, origin, return_to, now).await?;
        let cookie = self.sessions.seal(now).await?.set_cookie(&pending, now)?;
        see_other(url.as_str(), [cookie])
    }

    async fn complete_sign_in(
        &self,
        request: &Request,
        context: &Context,
        origin: &Origin,
    ) -> Result<Response<Body>, Error> {
        // Providers may send more than we ask for, so nothing is refused here.
        let CallbackRequest { state, code } = Query::of(request).take()?;
        let now = context.received_at;
        let seal = self.sessions.seal(now).await?;
        let pending: Option<PendingSignIn> = seal.open(request.headers(), now);
        let (session, return_to) =
            sign_in::complete(&self.provider, origin, pending, state, code, now).await?;
        // The browser forgets it now, so nobody could sign it out any more.
        if let Some(before) = self.session(request, context).await? {
            self.sessions.end(&before).await?;
        }
        tracing::info!(request_id = context.request_id, "somebody signed in");
        let cookies = [seal.set_cookie(&session, now)?, forget_cookie::<PendingSignIn>()?];
        see_other(&return_to, cookies)
    }

    /// Signs out here, then at the provider, or the next person at this browser
    /// would be let in without a question.
    async fn sign_out(
        &self,
        request: &Request,
        context: &Context,
        origin: &Origin,
    ) -> Result<Response<Body>, Error> {
        let forgotten = forget_cookie::<Session>()?;
        if let Some(session) = self.session(request, context).await? {
            self.sessions.end(&session).await?;
        }
        let back_to = origin.url("/sign-out");
        let sign_out_url = self.provider.sign_out_url(&back_to, context.received_at).await;
        let sign_out_url = sign_out_url.unwrap_or_else(|error| {
            tracing::error!(request_id = context.request_id, %error, "somebody stays signed in at the provider");
            None
        });
        let mut answer = match sign_out_url {
            None => return see_other("/sign-out", [forgotten]),
            Some(url) => pages::leaving(url.as_str())?,
        };
        answer.headers_mut().append(header::SET_COOKIE, forgotten);
        Ok(answer)
    }
}

/// For a visitor without a session: to sign-in, and back to the page asked for;
/// a script is told.
fn turned_away(request: &Request) -> Result<Response<Body>, Error> {
    if !takes_html(request) {
        return Err(Error::Unauthenticated);
    }
    let asked_for = request
        .uri()
        .path_and_query()
        .filter(|_| request.method() == Method::GET);
    let target = match asked_for.map(|target| target.as_str()) {
        Some(path) if path != "/" && path.len() <= MAX_PATH_BYTES => {
            let encoded: String = form_urlencoded::byte_serialize(path.as_bytes()).collect();
            format!("/sign-in?return_to={encoded}")
        }
        _ => "/sign-in".to_owned(),
    };
    see_other(&target, [])
}

fn takes_html(request: &Request) -> bool {
    request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|accept| accept.contains("text/html"))
}

fn see_other(target: &str, cookies: impl IntoIterator<Item = HeaderValue>) -> Result<Response<Body>, Error> {
    let target =
        HeaderValue::try_from(target).map_err(|error| Error::internal("writing a redirect", error))?;
    let mut answer = Response::new(Body::Empty);
    *answer.status_mut() = StatusCode::SEE_OTHER;
    answer.headers_mut().insert(header::LOCATION, target);
    for cookie in cookies {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    Ok(answer)
}
