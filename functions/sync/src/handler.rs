//! The routes of sync, and the clock.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request, RequestExt};
use shared::api::sync::{LedgerRequest, SyncStatus, SyncView};
use shared::completeness::Trigger;
use shared::error::Error;
use shared::http::{Context, SCHEDULE, json_answer};
use shared::query::Query;

use crate::run::{Begun, Stopwatch, Sync};

/// Work that somebody waits for: the gateway gives up after 30 seconds.
const BUDGET_OF_A_REQUEST: Duration = Duration::from_secs(20);
/// What is left of the function's time when the work of a scheduled run ends.
const RESERVE: Duration = Duration::from_secs(30);

/// All that outlives a request.
pub struct State {
    sync: Sync,
}

impl State {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let sync = Sync::from_environment().await?;
        Ok(Self { sync })
    }
}

/// Answers one request, or the clock.
pub async fn handle(state: Arc<State>, request: Request, context: Context) -> Result<Response<Body>, Error> {
    match context.route.as_str() {
        "GET /api/sync" => state.read(&request, &context).await,
        "POST /api/sync" => {
            context.caller()?;
            Query::of(&request).finish()?;
            state.run_now(&context).await
        }
        SCHEDULE => state.run_by_the_clock(&request, &context).await,
        route => Err(Error::unexpected(format!("this function does not serve {route}"))),
    }
}

impl State {
    async fn read(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        context.caller()?;
        let mut query = Query::of(request);
        let wanted: LedgerRequest = query.take()?;
        query.finish()?;
        let now = context.received_at;
        let (from, to) = wanted.days(now)?;
        let (configured, state, rows) = tokio::try_join!(
            self.sync.is_configured(now),
            self.sync.store.state(),
            self.sync.store.ledger(from, to),
        )?;
        let status = SyncStatus::new(&state, configured, now);
        json_answer(StatusCode::OK, &SyncView::new(status, &state, &rows)?)
    }

    async fn run_now(&self, context: &Context) -> Result<Response<Body>, Error> {
        let stopwatch = Stopwatch::start(context.received_at);
        let run = self.sync.run(
            Trigger::Request,
            &context.request_id,
            stopwatch,
            BUDGET_OF_A_REQUEST,
        );
        let conflict = |code, message: &str| {
            Err(Error::Conflict {
                code,
                field: None,
                message: message.to_owned(),
            })
        };
        match run.await? {
            Begun::Ended(state) => {
                let status = SyncStatus::new(&state, true, stopwatch.now());
                json_answer(StatusCode::OK, &status)
            }
            Begun::NotConfigured => conflict(
                "not_configured",
                "there is no key of the ElevenLabs API: store one in the secret ElevenLabsApiKey, and wait a minute",
            ),
            Begun::Busy => conflict(
                "sync_running",
                "another run is under way: GET /api/sync tells when it has ended",
            ),
        }
    }

    async fn run_by_the_clock(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        let left = request
            .lambda_context()
            .deadline()
            .duration_since(SystemTime::now());
        let budget = left.unwrap_or_default().saturating_sub(RESERVE);
        let stopwatch = Stopwatch::start(context.received_at);
        let run = self
            .sync
            .run(Trigger::Schedule, &context.request_id, stopwatch, budget);
        match run.await? {
            Begun::Ended(_) => {}
            Begun::NotConfigured => tracing::info!("there is no API key: nothing is compared"),
            Begun::Busy => tracing::info!("another run is under way"),
        }
        Ok(Response::new(Body::Empty))
    }
}
