//! The routes of the console, and the one guard before its pages.

use std::sync::Arc;

use lambda_http::http::{HeaderValue, Method, Response, StatusCode, header};
use lambda_http::{Body, Request};
use serde::Deserialize;
use shared::decide::Decider;
use shared::erasure::Eraser;
use shared::error::Error;
use shared::http::{Context, path_id, path_parameter};
use shared::ingest::Ingest;
use shared::phone_number::Country;
use shared::query::Query;
use shared::replay::Replayer;
use shared::report::Reporter;
use shared::runtime::{aws, default_country, log_failure, setting};
use shared::store::calls::CallStore;
use shared::store::campaigns::{CampaignStore, NO_CAMPAIGN};
use shared::store::deliveries::DeliveryStore;
use shared::store::sync::SyncStore;
use url::form_urlencoded;

use crate::access::origin::{MAX_PATH_BYTES, Origin};
use crate::access::provider::Provider;
use crate::access::seal::forget_cookie;
use crate::access::session::{Session, Sessions};
use crate::access::sign_in::{self, PendingSignIn};
use crate::address::Address;
use crate::pages::{self, numbers::numbers_path};
use crate::visit::{Notice, Visit};

/// All that outlives a request.
pub struct State {
    provider: Provider,
    sessions: Sessions,
    pub calls: CallStore,
    pub campaigns: CampaignStore,
    pub deliveries: DeliveryStore,
    pub sync: SyncStore,
    pub decider: Decider,
    pub replayer: Replayer,
    pub eraser: Eraser,
    pub log_retention_days: u32,
    pub reporter: Reporter,
    pub country: Option<Country>,
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
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws);
        let calls = CallStore::new(dynamodb.clone(), setting("CALLS_TABLE")?);
        let body_retention = setting("BODY_RETENTION_DAYS")?;
        let calls = calls.keeping_bodies(body_retention);
        let campaigns = CampaignStore::new(dynamodb.clone(), setting("CAMPAIGNS_TABLE")?);
        let deliveries = DeliveryStore::new(dynamodb.clone(), setting("DELIVERIES_TABLE")?);
        let deliveries = deliveries.keeping_bodies(body_retention);
        let country = default_country();
        let ingest = Ingest::new(calls.clone(), campaigns.clone());
        Ok(Self {
            provider: Provider::from_environment(&aws)?,
            sessions: Sessions::from_environment(&aws)?,
            sync: SyncStore::new(dynamodb, setting("SYNC_TABLE")?),
            decider: Decider::new(calls.clone(), campaigns.clone()),
            replayer: Replayer::new(calls.clone(), deliveries.clone(), ingest, country),
            eraser: Eraser::new(calls.clone(), campaigns.clone(), deliveries.clone(), country),
            log_retention_days: setting("LOG_RETENTION_DAYS")?,
            reporter: Reporter::new(calls.clone()),
            calls,
            campaigns,
            deliveries,
            country,
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
            "GET /assets/{name}" => {
                let name = path_parameter(request, "name")?;
                return pages::asset(&name, Address::of(request).value("v"), request.headers());
            }
            "GET /sign-in" => return self.begin_sign_in(request, context, &origin).await,
            "GET /sign-in/callback" => return self.complete_sign_in(request, context, &origin).await,
            "GET /sign-out" => return pages::sign_out(self.session(request, context).await?.as_ref()),
            "POST /sign-out" => return self.sign_out(request, context, &origin).await,
            _ => {}
        }
        let Some(session) = self.session(request, context).await? else {
            return turned_away(request);
        };
        let seal = self.sessions.seal(context.received_at).await?;
        let visit = Visit::new(request, context, origin, session, &seal);
        let answer = if request.method().is_safe() || visit.may_change() {
            self.page(request, context, &visit).await
        } else {
            Err(Error::Forbidden {
                code: "read_only",
                message: "you may look at everything here, but change nothing: ask an administrator",
            })
        };
        match answer {
            Err(error) if takes_html(request) => {
                log_failure(&error, &context.route, &context.request_id);
                pages::error_on_visit(&error, &context.request_id, &visit)
            }
            answer => answer,
        }
    }

    /// The pages, behind the guard.
    async fn page(
        &self,
        request: &Request,
        context: &Context,
        visit: &Visit,
    ) -> Result<Response<Body>, Error> {
        match context.route.as_str() {
            "GET /" => see_other("/calls", []),
            "GET /calls" => self.all_calls(visit).await,
            "GET /calls.csv" => self.calls_as_csv(visit).await,
            "GET /calls/{id}" => self.call(request, visit).await,
            "GET /calls/{id}/raw" => self.raw_call(request, visit).await,
            "POST /calls/{id}/conversion" => self.convert_call(request, visit).await,
            "POST /calls/{id}/attribution" => self.assign_call(request, visit).await,
            // Where a form has left its address and nothing is to be sent again.
            "GET /assignments/preview"
            | "GET /reattributions/preview"
            | "GET /erasures/preview"
            | "GET /erasures" => see_other("/calls", []),
            "GET /campaigns/{id}/contacts" => see_other(&numbers_path(&path_id(request, NO_CAMPAIGN)?), []),
            "GET /unattributed" => self.unattributed_calls(visit).await,
            "POST /assignments/preview" => self.preview_assignment(request, visit).await,
            "POST /assignments" => self.assign_calls(request, visit).await,
            "POST /assignments/{id}/undo" => self.undo_assignment(request, visit).await,
            "POST /reattributions/preview" => self.preview_reattribution(request, visit).await,
            "POST /reattributions" => self.reattribute_calls(request, visit).await,
            "POST /erasures/preview" => self.preview_erasure(request, visit).await,
            "POST /erasures" => self.erase_customer(request, visit).await,
            "GET /campaigns" => self.list_campaigns(visit).await,
            "POST /campaigns" => self.create_campaign(request, visit).await,
            "GET /campaigns/{id}" => self.campaign_overview(request, visit).await,
            "POST /campaigns/{id}" => self.change_campaign(request, visit).await,
            "GET /campaigns/{id}/calls" => self.calls_of_campaign(request, visit).await,
            "GET /campaigns/{id}/numbers" => self.campaign_numbers(request, visit).await,
            "POST /campaigns/{id}/numbers" => self.assign_number(request, visit).await,
            "POST /campaigns/{id}/agents" => self.assign_agent(request, visit).await,
            "POST /campaigns/{id}/contacts" => self.upload_contacts(request, visit).await,
            "POST /campaigns/{id}/contacts/remove" => self.remove_contacts(request, visit).await,
            "GET /campaigns/{id}/settings" => self.campaign_settings(request, visit).await,
            "GET /deliveries" => self.list_deliveries(visit).await,
            "GET /deliveries/{id}" => self.delivery(request, visit).await,
            "GET /deliveries/{id}/raw" => self.raw_delivery(request, visit).await,
            "POST /deliveries/{id}/replay" => self.replay_delivery(request, context, visit).await,
            "GET /sync" => self.sync_page(visit).await,
            route => Err(Error::unexpected(format!("this function does not serve {route}"))),
        }
    }

    /// Back to a page, which says what was done.
    pub async fn done(&self, visit: &Visit, target: &str, notice: Notice) -> Result<Response<Body>, Error> {
        let seal = self.sessions.seal(visit.now).await?;
        see_other(target, [seal.set_cookie(&notice, visit.now)?])
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
    // Our module is told, too: it can't follow to another site.
    let is_by_the_module = request
        .headers()
        .get("sec-fetch-dest")
        .is_some_and(|destination| destination == "empty");
    if !takes_html(request) || is_by_the_module {
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
