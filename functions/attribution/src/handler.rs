//! The routes of campaigns, of decisions about calls, and of erasures.

use std::sync::Arc;

use lambda_http::http::Response;
use lambda_http::{Body, Request};
use shared::decide::Decider;
use shared::erasure::Eraser;
use shared::error::Error;
use shared::http::Context;
use shared::ingest::Ingest;
use shared::phone_number::Country;
use shared::replay::Replayer;
use shared::runtime::{aws, default_country, setting};
use shared::store::calls::CallStore;
use shared::store::campaigns::CampaignStore;
use shared::store::deliveries::DeliveryStore;

/// All that outlives a request.
pub struct State {
    pub campaigns: CampaignStore,
    pub decider: Decider,
    pub deliveries: DeliveryStore,
    pub replayer: Replayer,
    pub eraser: Eraser,
    pub country: Option<Country>,
    pub log_retention_days: u32,
}

impl State {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws().await);
        let campaigns = CampaignStore::new(dynamodb.clone(), setting("CAMPAIGNS_TABLE")?);
        let calls = CallStore::new(dynamodb.clone(), setting("CALLS_TABLE")?);
        let body_retention = setting("BODY_RETENTION_DAYS")?;
        let calls = calls.keeping_bodies(body_retention);
        let deliveries = DeliveryStore::new(dynamodb, setting("DELIVERIES_TABLE")?);
        let deliveries = deliveries.keeping_bodies(body_retention);
        let country = default_country();
        let ingest = Ingest::new(calls.clone(), campaigns.clone());
        Ok(Self {
            replayer: Replayer::new(calls.clone(), deliveries.clone(), ingest, country),
            decider: Decider::new(calls.clone(), campaigns.clone()),
            eraser: Eraser::new(calls, campaigns.clone(), deliveries.clone(), country),
            campaigns,
            deliveries,
            country,
            log_retention_days: setting("LOG_RETENTION_DAYS")?,
        })
    }
}

/// Answers one request.
pub async fn handle(state: Arc<State>, request: Request, context: Context) -> Result<Response<Body>, Error> {
    context.caller()?;
    match context.route.as_str() {
        "GET /api/campaigns" => state.list_campaigns(&request).await,
        "POST /api/campaigns" => state.create_campaign(&request, &context).await,
        "GET /api/campaigns/{id}" => state.read_campaign(&request).await,
        "PATCH /api/campaigns/{id}" => state.change_campaign(&request, &context).await,
        "PUT /api/campaigns/{id}/numbers/{number}" => state.assign_number(&request, &context).await,
        "DELETE /api/campaigns/{id}/numbers/{number}" => state.end_number(&request, &context).await,
        "PUT /api/campaigns/{id}/agents/{agent_id}" => state.assign_agent(&request, &context).await,
        "DELETE /api/campaigns/{id}/agents/{agent_id}" => state.end_agent(&request, &context).await,
        "GET /api/campaigns/{id}/contacts" => state.list_contacts(&request).await,
        "POST /api/campaigns/{id}/contacts" => state.add_contacts(&request, &context).await,
        "DELETE /api/campaigns/{id}/contacts" => state.remove_all_contacts(&request).await,
        "GET /api/campaigns/{id}/contacts/{number}" => state.read_contact(&request).await,
        "DELETE /api/campaigns/{id}/contacts/{number}" => state.remove_contact(&request).await,
        "PUT /api/calls/{id}/attribution" => state.assign_call(&request, &context).await,
        "DELETE /api/calls/{id}/attribution" => state.release_call(&request, &context).await,
        "PUT /api/calls/{id}/conversion" => state.convert_call(&request, &context).await,
        "DELETE /api/calls/{id}/conversion" => state.unconvert_call(&request, &context).await,
        "POST /api/assignments" => state.assign_many(&request, &context).await,
        "POST /api/assignments/{id}/undo" => state.undo(&request, &context).await,
        "POST /api/reattributions" => state.reattribute(&request, &context).await,
        "POST /api/erasures" => state.erase(&request, &context).await,
        "POST /api/deliveries/{id}/replay" => state.replay(&request, &context).await,
        route => Err(Error::unexpected(format!("this function does not serve {route}"))),
    }
}
