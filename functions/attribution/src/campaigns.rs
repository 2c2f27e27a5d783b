//! Campaigns, and the numbers and agents that belong to them.

use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::campaigns::{
    AssignmentRequest, CampaignPage, CampaignView, ChangedCampaign, EndRequest, NewCampaign,
};
use shared::campaign::{Asset, Campaign, CampaignId, CampaignStatus, Wanted};
use shared::error::Error;
use shared::http::{Context, Instant, json_answer, path_parameter, read_json};
use shared::phone_number::PhoneNumber;
use shared::query::{Paging, Query};
use shared::store::campaigns::{CampaignChange, CampaignRecord};

use crate::handler::State;

const MAX_NAME_CHARACTERS: usize = 200;
const MAX_CODE_BYTES: usize = 128;
const MAX_AGENT_ID_BYTES: usize = 128;

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
        let NewCampaign { name, code } = read_json(request)?;
        let (now, by) = (context.received_at, context.caller()?);
        let campaign = Campaign {
            id: CampaignId::new(now),
            name: campaign_name(name.as_deref().unwrap_or_default())?,
            code: code.as_deref().map(campaign_code).transpose()?,
            status: CampaignStatus::Active,
            created_at: now,
            created_by: by.clone(),
            updated_at: now,
            updated_by: by.clone(),
        };
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
        self.campaign_answer(&campaign_id(request)?).await
    }

    pub async fn change_campaign(
        &self,
        request: &Request,
        context: &Context,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let id = campaign_id(request)?;
        let ChangedCampaign { name, code, status } = read_json(request)?;
        let change = CampaignChange {
            name: name.as_deref().map(campaign_name).transpose()?,
            code: code
                .map(|code| code.as_deref().map(campaign_code).transpose())
                .transpose()?,
            status,
        };
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
        self.assign(request, agent(request)?, context).await
    }

    pub async fn end_agent(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        self.end(request, agent(request)?, context).await
    }

    async fn assign(
        &self,
        request: &Request,
        asset: Asset,
        context: &Context,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id = campaign_id(request)?;
        let AssignmentRequest { from, to, take_over } = read_json(request)?;
        let wanted = Wanted {
            campaign_id: campaign_id.clone(),
            from: from.map(|Instant(from)| from),
            to: to.map(|Instant(to)| to),
            take_over,
            by: context.caller()?.clone(),
        };
        self.campaigns.assign(&asset, wanted, context.received_at).await?;
        self.campaign_answer(&campaign_id).await
    }

    /// Ends it now, or removes a wrong entry.
    async fn end(&self, request: &Request, asset: Asset, context: &Context) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let EndRequest { from: wrong } = query.take()?;
        query.finish()?;
        let campaign_id = campaign_id(request)?;
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
        let number = PhoneNumber::parse(&path_parameter(request, "number")?, self.country);
        number.map(Asset::Number).ok_or_else(no_number)
    }
}

pub fn no_number() -> Error {
    Error::invalid(
        "number",
        "number must be a phone number, or 1 to 256 bytes of other text on one line",
    )
}

fn agent(request: &Request) -> Result<Asset, Error> {
    let agent_id = path_parameter(request, "agent_id")?;
    let fits = (1..=MAX_AGENT_ID_BYTES).contains(&agent_id.len());
    if !fits || agent_id.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let must = format!("agent_id must be 1 to {MAX_AGENT_ID_BYTES} bytes without blanks");
        return Err(Error::invalid("agent_id", must));
    }
    Ok(Asset::Agent(agent_id))
}

/// An id that is none is the id of nothing.
pub fn campaign_id(request: &Request) -> Result<CampaignId, Error> {
    CampaignId::try_from(path_parameter(request, "id")?).map_err(|_| Error::NotFound {
        message: "there is no such campaign: check the id",
    })
}

fn campaign_name(text: &str) -> Result<String, Error> {
    let name = text.trim();
    let fits = (1..=MAX_NAME_CHARACTERS).contains(&name.chars().count());
    if !fits || name.chars().any(char::is_control) {
        let must = format!("name must be 1 to {MAX_NAME_CHARACTERS} characters, on one line");
        return Err(Error::invalid("name", must));
    }
    Ok(name.to_owned())
}

fn campaign_code(text: &str) -> Result<String, Error> {
    // What a dynamic variable can say: see CampaignVariables.
    let fits = (1..=MAX_CODE_BYTES).contains(&text.len());
    if !fits || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let must = format!("code must be 1 to {MAX_CODE_BYTES} bytes without blanks, or null");
        return Err(Error::invalid("code", must));
    }
    Ok(text.to_owned())
}
