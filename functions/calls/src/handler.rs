//! The routes that read calls, reports and the delivery log.

use std::sync::Arc;

use jiff::Timestamp;
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::calls::{
    CallFilterRequest, CallPage, CallView, CampaignNames, DetailedCall, SortRequest, TranscriptPage,
    all_campaigns_of, campaigns_of,
};
use shared::api::document;
use shared::details::Details;
use shared::error::Error;
use shared::http::{
    Context, NO_BODY, json_answer, large_json_answer, needs_compression, path_id, raw_answer,
};
use shared::phone_number::Country;
use shared::query::{Paging, Query};
use shared::report::Reporter;
use shared::runtime::{aws, default_country, setting};
use shared::store::calls::{CallList, CallRecord, CallStore, Head, NO_CALL};
use shared::store::campaigns::CampaignStore;
use shared::store::cursor;
use shared::store::deliveries::DeliveryStore;

/// All that outlives a request.
pub struct State {
    pub calls: CallStore,
    pub campaigns: CampaignStore,
    pub deliveries: DeliveryStore,
    pub reporter: Reporter,
    pub country: Option<Country>,
}

impl State {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws().await);
        let calls = CallStore::new(dynamodb.clone(), setting("CALLS_TABLE")?);
        Ok(Self {
            reporter: Reporter::new(calls.clone()),
            calls,
            campaigns: CampaignStore::new(dynamodb.clone(), setting("CAMPAIGNS_TABLE")?),
            deliveries: DeliveryStore::new(dynamodb, setting("DELIVERIES_TABLE")?),
            country: default_country(),
        })
    }
}

/// Answers one request.
pub async fn handle(state: Arc<State>, request: Request, context: Context) -> Result<Response<Body>, Error> {
    if context.route == document::ROUTE {
        Query::of(&request).finish()?;
        let answer = large_json_answer(request.headers(), document::document())?;
        return answer.ok_or_else(needs_compression);
    }
    context.caller()?;
    let now = context.received_at;
    match context.route.as_str() {
        "GET /api/calls" => state.list_calls(&request).await,
        "GET /api/calls/export" => state.export_calls(&request).await,
        "GET /api/calls/{id}" => state.read_call(&request, context.received_at).await,
        "GET /api/calls/{id}/raw" => state.read_raw_call(&request, context.received_at).await,
        "GET /api/calls/{id}/transcript" => state.read_transcript(&request, context.received_at).await,
        "GET /api/reports/summary" => state.summary(&request, now).await,
        "GET /api/reports/timeseries" => state.timeseries(&request, now).await,
        "GET /api/deliveries" => state.list_deliveries(&request, now).await,
        "GET /api/deliveries/{id}" => state.read_delivery(&request, now).await,
        "GET /api/deliveries/{id}/raw" => state.read_raw_delivery(&request, now).await,
        route => Err(Error::unexpected(format!("this function does not serve {route}"))),
    }
}

impl State {
    async fn list_calls(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let list = self.call_list(&mut query)?;
        let Paging { limit, cursor } = query.take()?;
        query.finish()?;
        let page = self.calls.list(&list, limit.get(), cursor.as_deref()).await?;
        let names = self.names_of(&page.entries).await?;
        let calls = page.entries.iter().map(|record| CallView::new(record, &names));
        let answer = CallPage {
            calls: calls.collect(),
            next_cursor: page.next_cursor,
        };
        json_answer(StatusCode::OK, &answer)
    }

    /// The list that the parameters of a request name.
    pub fn call_list(&self, query: &mut Query) -> Result<CallList, Error> {
        let filter: CallFilterRequest = query.take()?;
        let SortRequest { sort, order } = query.take()?;
        let filter = filter.into_filter(self.country)?;
        Ok(CallList { filter, sort, order })
    }

    /// The names of the campaigns that calls are credited to.
    pub async fn names_of(&self, records: &[CallRecord]) -> Result<CampaignNames, Error> {
        self.campaigns
            .names(records.iter().filter_map(campaigns_of))
            .await
    }

    async fn read_call(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let head = self.head(request).await?;
        let id = &head.record.call.id;
        let (body, history, names) = tokio::try_join!(
            self.calls.body(id, &head.version.sha256, now),
            self.calls.history(id),
            self.campaigns.names(all_campaigns_of(&head)),
        )?;
        // Where the body is still on its way, the facts are here without details.
        let body = body.unwrap_or_default();
        let details = Details::read(&body);
        for with_transcript in [true, false] {
            let call = DetailedCall::new(&head, &names, &history, &details, with_transcript);
            if let Some(answer) = large_json_answer(request.headers(), &call)? {
                return Ok(answer);
            }
        }
        Err(needs_compression())
    }

    async fn read_raw_call(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let head = self.head(request).await?;
        let body = self
            .calls
            .body(&head.record.call.id, &head.version.sha256, now)
            .await?;
        raw_answer(request.headers(), body.ok_or(NO_BODY)?)
    }

    async fn read_transcript(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let Paging { limit, cursor } = query.take()?;
        query.finish()?;
        let head = self.head(request).await?;
        // A newer version has another transcript, in which the position means another turn.
        let list = format!("transcript {}", hex::encode(head.version.sha256));
        let skipped = match cursor {
            Some(cursor) => cursor::decode(&list, &cursor)?
                .parse()
                .map_err(|_| cursor::invalid())?,
            None => 0,
        };
        let body = self
            .calls
            .body(&head.record.call.id, &head.version.sha256, now)
            .await?;
        let body = body.unwrap_or_default();
        let transcript = Details::read(&body).transcript;
        let turns: Vec<_> = transcript.iter().skip(skipped).take(limit.get()).collect();
        let end = skipped + turns.len();
        let next_cursor = (end < transcript.len()).then(|| cursor::encode(&list, &end.to_string()));
        let answer = TranscriptPage { turns, next_cursor };
        large_json_answer(request.headers(), &answer)?.ok_or_else(needs_compression)
    }

    async fn head(&self, request: &Request) -> Result<Head, Error> {
        let id = path_id(request, NO_CALL)?;
        self.calls.head(&id).await?.ok_or(NO_CALL)
    }
}
