//! The routes that read calls and the delivery log.

use std::sync::Arc;

use jiff::Timestamp;
use lambda_http::http::{HeaderMap, Response, StatusCode};
use lambda_http::{Body, Request};
use serde_json::json;
use shared::attribution::Status;
use shared::call::CallId;
use shared::campaign::CampaignId;
use shared::details::Details;
use shared::error::Error;
use shared::http::{Context, Query, json_answer, large_answer, large_json_answer, path_parameter};
use shared::runtime::{aws, setting};
use shared::store::calls::{CallFilter, CallStore, CreditFilter, Head};
use shared::store::campaigns::CampaignStore;
use shared::store::cursor;
use shared::store::deliveries::{DeliveryId, DeliveryStore, KeptBody};
use shared::view::{CallView, all_campaigns_of, campaigns_of};

use crate::render;

const NO_BODY: Error = Error::NotFound {
    message: "the body is not kept, or is still on its way",
};

/// All that outlives a request.
pub struct State {
    calls: CallStore,
    campaigns: CampaignStore,
    deliveries: DeliveryStore,
}

impl State {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws().await);
        Ok(Self {
            calls: CallStore::new(dynamodb.clone(), setting("CALLS_TABLE")?),
            campaigns: CampaignStore::new(dynamodb.clone(), setting("CAMPAIGNS_TABLE")?),
            deliveries: DeliveryStore::new(dynamodb, setting("DELIVERIES_TABLE")?),
        })
    }
}

/// Answers one request.
pub async fn handle(state: Arc<State>, request: Request, context: Context) -> Result<Response<Body>, Error> {
    context.caller()?;
    let now = context.received_at;
    match context.route.as_str() {
        "GET /api/calls" => state.list_calls(&request).await,
        "GET /api/calls/{id}" => state.read_call(&request).await,
        "GET /api/calls/{id}/raw" => state.read_raw_call(&request).await,
        "GET /api/calls/{id}/transcript" => state.read_transcript(&request).await,
        "GET /api/deliveries" => state.list_deliveries(&request, now).await,
        "GET /api/deliveries/{id}" => state.read_delivery(&request, now).await,
        "GET /api/deliveries/{id}/raw" => state.read_raw_delivery(&request, now).await,
        route => Err(Error::unexpected(format!("this function does not serve {route}"))),
    }
}

impl State {
    async fn list_calls(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let campaign = query.take("campaign_id", |text| {
            CampaignId::try_from(text.to_owned()).map_err(|_| "the id of a campaign")
        })?;
        let status = query.take("attribution", |text| match text {
            "attributed" => Ok(Status::Attributed),
            "unattributed" => Ok(Status::Unattributed),
            "ambiguous" => Ok(Status::Ambiguous),
            _ => Err("attributed, unattributed or ambiguous"),
        })?;
        let limit = query.take_limit()?;
        let cursor = query.take("cursor", |text| Ok(text.to_owned()))?;
        query.finish()?;
        let credit = match (campaign, status) {
            (None, None) => CreditFilter::All,
            (None, Some(status)) => CreditFilter::Status(status),
            (Some(campaign), None | Some(Status::Attributed)) => CreditFilter::Campaign(campaign),
            // A call without one campaign is not a campaign's: one empty page, and no cursor ever.
            (Some(_), Some(Status::Unattributed | Status::Ambiguous)) if cursor.is_some() => {
                return Err(cursor::invalid());
            }
            (Some(_), Some(Status::Unattributed | Status::Ambiguous)) => {
                return json_answer(StatusCode::OK, &json!({ "calls": [], "next_cursor": null }));
            }
        };
        let filter = CallFilter::of(credit);
        let page = self.calls.list(&filter, limit, cursor.as_deref()).await?;
        let named = page.entries.iter().filter_map(campaigns_of);
        let names = self.campaigns.names(named).await?;
        let calls: Vec<_> = page
            .entries
            .iter()
            .map(|record| CallView::new(record, &names))
            .collect();
        let answer = json!({ "calls": calls, "next_cursor": page.next_cursor });
        json_answer(StatusCode::OK, &answer)
    }

    async fn read_call(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let head = self.head(request).await?;
        let id = &head.record.call.id;
        let (body, history, names) = tokio::try_join!(
            self.calls.body(id, &head.version.sha256),
            self.calls.history(id),
            self.campaigns.names(all_campaigns_of(&head)),
        )?;
        // Where the body is still on its way, the facts are here without details.
        let body = body.unwrap_or_default();
        let details = Details::read(&body);
        for with_transcript in [true, false] {
            let call = render::DetailedCall::new(&head, &names, &history, &details, with_transcript);
            if let Some(answer) = large_json_answer(request.headers(), &call)? {
                return Ok(answer);
            }
        }
        Err(needs_compression())
    }

    async fn read_raw_call(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let head = self.head(request).await?;
        let body = self
            .calls
            .body(&head.record.call.id, &head.version.sha256)
            .await?;
        raw_answer(request.headers(), body.ok_or(NO_BODY)?)
    }

    async fn read_transcript(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let limit = query.take_limit()?;
        let cursor = query.take("cursor", |text| Ok(text.to_owned()))?;
        query.finish()?;
        let head = self.head(request).await?;
        // A newer version has another transcript, in which the position means another turn.
        let list = format!("transcript {}", hex::encode(head.version.sha256));
        let skipped = match cursor {
            Some(cursor) => cursor::decode(&list, &cursor)?
                .parse()
                .map_err(|error| Error::internal("reading a cursor of ours", error))?,
            None => 0,
        };
        let body = self
            .calls
            .body(&head.record.call.id, &head.version.sha256)
            .await?;
        let body = body.unwrap_or_default();
        let transcript = Details::read(&body).transcript;
        let turns: Vec<_> = transcript.iter().skip(skipped).take(limit).collect();
        let end = skipped + turns.len();
        let next_cursor = (end < transcript.len()).then(|| cursor::encode(&list, &end.to_string()));
        let answer = render::TranscriptPage { turns, next_cursor };
        large_json_answer(request.headers(), &answer)?.ok_or_else(needs_compression)
    }

    async fn head(&self, request: &Request) -> Result<Head, Error> {
        let missing = || Error::NotFound {
            message: "there is no such call: check the id",
        };
        let id = CallId::try_from(path_parameter(request, "id")?).map_err(|_| missing())?;
        self.calls.head(&id).await?.ok_or_else(missing)
    }

    async fn list_deliveries(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let limit = query.take_limit()?;
        let cursor = query.take("cursor", |text| Ok(text.to_owned()))?;
        query.finish()?;
        let page = self.deliveries.list(limit, cursor.as_deref(), now).await?;
        let deliveries: Vec<_> = page.entries.iter().map(render::Delivery::new).collect();
        let answer = json!({ "deliveries": deliveries, "next_cursor": page.next_cursor });
        json_answer(StatusCode::OK, &answer)
    }

    async fn read_delivery(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let delivery = self.deliveries.get(&delivery_id(request)?, now).await?;
        json_answer(StatusCode::OK, &render::Delivery::new(&delivery))
    }

    async fn read_raw_delivery(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let delivery = self.deliveries.get(&delivery_id(request)?, now).await?;
        let body = match (delivery.kept_body, &delivery.conversation_id) {
            (KeptBody::InLog, _) => Some(self.deliveries.body(&delivery).await?),
            (KeptBody::WithCall, Some(id)) => self.calls.body(id, &delivery.body_sha256).await?,
            (KeptBody::WithCall, None) | (KeptBody::No, _) => None,
        };
        raw_answer(request.headers(), body.ok_or(NO_BODY)?)
    }
}

/// An id that is none is the id of nothing.
fn delivery_id(request: &Request) -> Result<DeliveryId, Error> {
    DeliveryId::try_from(path_parameter(request, "id")?).map_err(|_| Error::NotFound {
        message: "there is no such delivery: check the id",
    })
}

/// A body byte for byte; what is no text is not said to be JSON.
fn raw_answer(headers: &HeaderMap, body: Vec<u8>) -> Result<Response<Body>, Error> {
    // Text loses a byte-order mark on its way through the frame around the function.
    let content_type = match std::str::from_utf8(&body) {
        Ok(text) if !text.starts_with('\u{feff}') => "application/json",
        _ => "application/octet-stream",
    };
    large_answer(headers, content_type, body)?.ok_or_else(needs_compression)
}

fn needs_compression() -> Error {
    Error::Invalid {
        code: "compression_needed",
        field: None,
        message: "this answer passes the gateway only compressed: send accept-encoding: gzip".to_owned(),
    }
}
