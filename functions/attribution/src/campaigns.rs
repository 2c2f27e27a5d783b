//! Campaigns, and the numbers and agents that belong to them.

use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::campaigns::{
    AssignmentRequest, CampaignPage, CampaignView, ChangedCampaign, EndRequest, NewCampaign, read_agent,
    read_number,
};
use shared::campaign::{Asset, CampaignId};
use shared::error::Error;
use shared::http::{Context, Instant, json_answer, path_id, path_parameter, read_json};
use shared::query::{Paging, Query};
use shared::store::campaigns::{CampaignRecord, NO_CAMPAIGN};

use crate::handler::State;

impl State {
    pub async fn list_campaigns(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let Paging { limit, cursor } = query.take()?;
        query.finish()?;
        let page = self.campaigns.list(limit.get(), cursor.as_deref()).await?;
        let answer = CampaignPage {
            campaigns: page.entries.iter().map(CampaignView::new).collect(),
            next_cursor: page.next_cursor,
        };
        json_answer(StatusCode::OK, &answer)
    }

    pub async fn create_campaign(
        &self,
        request: &Request,
        context: &Context,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let wanted: NewCampaign = read_json(request)?;
        let campaign = wanted.into_campaign(context.caller()?, context.received_at)?;
        self.campaigns.create(&campaign).await?;
        let record = CampaignRecord {
            campaign,
            assignments: Vec::new(),
            contact_count: 0,
        };
        json_answer(StatusCode::CREATED, &CampaignView::new(&record))
    }

    pub async fn read_campaign(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        self.campaign_answer(&path_id(request, NO_CAMPAIGN)?).await
    }

    pub async fn change_campaign(
        &self,
        request: &Request,
        context: &Context,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let id = path_id(request, NO_CAMPAIGN)?;
        let wanted: ChangedCampaign = read_json(request)?;
        let change = wanted.into_change()?;
        self.campaigns
            .change(&id, &change, context.caller()?, context.received_at)
            .await?;
        self.campaign_answer(&id).await
    }

    pub async fn assign_number(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        self.assign(request, self.number(request)?, context).await
    }

    pub async fn end_number(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        self.end(request, self.number(request)?, context).await
    }

    pub async fn assign_agent(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        self.assign(
            request,
            read_agent(path_parameter(request, "agent_id")?)?,
            context,
        )
        .await
    }

    pub async fn end_agent(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        self.end(
            request,
            read_agent(path_parameter(request, "agent_id")?)?,
            context,
        )
        .await
    }

    async fn assign(
        &self,
        request: &Request,
        asset: Asset,
        context: &Context,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let wanted: AssignmentRequest = read_json(request)?;
        let wanted = wanted.into_wanted(campaign_id.clone(), context.caller()?);
        self.campaigns.assign(&asset, wanted, context.received_at).await?;
        self.campaign_answer(&campaign_id).await
    }

    /// Ends it now, or removes a wrong entry.
    async fn end(&self, request: &Request, asset: Asset, context: &Context) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let EndRequest { from: wrong } = query.take()?;
        query.finish()?;
        let campaign_id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        match wrong {
            Some(Instant(from)) => self.campaigns.remove(&asset, &campaign_id, from).await?,
            None => {
                let (by, now) = (context.caller()?, context.received_at);
                self.campaigns.end(&asset, &campaign_id, by, now).await?;
            }
        }
        self.campaign_answer(&campaign_id).await
    }

    async fn campaign_answer(&self, id: &CampaignId) -> Result<Response<Body>, Error> {
        let record = self.campaigns.get(id).await?;
        json_answer(StatusCode::OK, &CampaignView::new(&record))
    }

    fn number(&self, request: &Request) -> Result<Asset, Error> {
        read_number(&path_parameter(request, "number")?, self.country).map(Asset::Number)
    }
}
