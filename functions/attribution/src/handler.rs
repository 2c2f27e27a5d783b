//! The routes of campaigns and of the numbers that belong to them.

use std::sync::Arc;

use jiff::Timestamp;
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use serde::{Deserialize, Serialize};
use serde_json::json;
use shared::campaign::{AssignNumber, Campaign, CampaignId, CampaignStatus};
use shared::error::Error;
use shared::http::{Context, Instant, Query, json_answer, path_parameter, read_json};
use shared::identity::Identity;
use shared::phone_number::{Country, PhoneNumber};
use shared::runtime::{aws, default_country, setting};
use shared::store::campaigns::{CampaignRecord, CampaignStore};

const MAX_NAME_CHARACTERS: usize = 200;
const MAX_CODE_CHARACTERS: usize = 100;

/// All that outlives a request.
pub struct State {
    campaigns: CampaignStore,
    country: Option<Country>,
}

impl State {
    pub async fn from_environment() -> Result<Self, lambda_http::Error> {
        let dynamodb = aws_sdk_dynamodb::Client::new(&aws().await);
        Ok(Self {
            campaigns: CampaignStore::new(dynamodb, setting("CAMPAIGNS_TABLE")?),
            country: default_country(),
        })
    }
}

/// Answers one request.
pub async fn handle(state: Arc<State>, request: Request, context: Context) -> Result<Response<Body>, Error> {
    let caller = context.caller()?;
    match context.route.as_str() {
        "GET /api/campaigns" => state.list(&request).await,
        "POST /api/campaigns" => state.create(&request, caller, context.received_at).await,
        "GET /api/campaigns/{id}" => state.read(&request).await,
        "PUT /api/campaigns/{id}/numbers/{number}" => {
            state.assign(&request, caller, context.received_at).await
        }
        route => Err(Error::unexpected(format!("this function does not serve {route}"))),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewCampaign {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    code: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NumberRequest {
    #[serde(default)]
    from: Option<Instant>,
    #[serde(default)]
    to: Option<Instant>,
    #[serde(default, rename = "move")]
    take_over: bool,
}

impl State {
    async fn list(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let limit = query.take_limit()?;
        let cursor = query.take("cursor", |text| Ok(text.to_owned()))?;
        query.finish()?;
        let page = self.campaigns.list(limit, cursor.as_deref()).await?;
        let campaigns: Vec<_> = page.entries.iter().map(CampaignView::new).collect();
        let answer = json!({ "campaigns": campaigns, "next_cursor": page.next_cursor });
        json_answer(StatusCode::OK, &answer)
    }

    async fn create(
        &self,
        request: &Request,
        caller: &Identity,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let NewCampaign { name, code } = read_json(request)?;
        let campaign = Campaign {
            id: CampaignId::new(now),
            name: campaign_name(name.as_deref().unwrap_or_default())?,
            code: code.as_deref().map(campaign_code).transpose()?,
            status: CampaignStatus::Active,
            created_at: now,
            created_by: caller.clone(),
        };
        self.campaigns.create(&campaign).await?;
        let record = CampaignRecord {
            campaign,
            numbers: Vec::new(),
        };
        json_answer(StatusCode::CREATED, &CampaignView::new(&record))
    }

    async fn read(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let record = self.campaigns.get(&campaign_id(request)?).await?;
        json_answer(StatusCode::OK, &CampaignView::new(&record))
    }

    async fn assign(
        &self,
        request: &Request,
        caller: &Identity,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id = campaign_id(request)?;
        let number =
            PhoneNumber::parse(&path_parameter(request, "number")?, self.country).ok_or_else(|| {
                Error::invalid(
                    "number",
                    "number must be a phone number, or 1 to 256 bytes of other text on one line",
                )
            })?;
        let NumberRequest { from, to, take_over } = read_json(request)?;
        let wanted = AssignNumber {
            campaign_id: campaign_id.clone(),
            from: from.map(|Instant(from)| from),
            to: to.map(|Instant(to)| to),
            take_over,
            by: caller.clone(),
        };
        self.campaigns.assign_number(&number, wanted, now).await?;
        let record = self.campaigns.get(&campaign_id).await?;
        json_answer(StatusCode::OK, &CampaignView::new(&record))
    }
}

/// An id that is none is the id of nothing.
fn campaign_id(request: &Request) -> Result<CampaignId, Error> {
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
    let fits = (1..=MAX_CODE_CHARACTERS).contains(&text.chars().count());
    if !fits || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
        let must = format!("code must be 1 to {MAX_CODE_CHARACTERS} characters without blanks, or null");
        return Err(Error::invalid("code", must));
    }
    Ok(text.to_owned())
}

/// A campaign as the API shows it.
#[derive(Serialize)]
struct CampaignView<'a> {
    id: &'a CampaignId,
    name: &'a str,
    code: Option<&'a str>,
    status: CampaignStatus,
    created_at: Timestamp,
    created_by: &'a Identity,
    numbers: Vec<AssignmentView<'a>>,
    agents: [(); 0],
    contact_count: u32,
}

#[derive(Serialize)]
struct AssignmentView<'a> {
    number: &'a PhoneNumber,
    from: Timestamp,
    to: Option<Timestamp>,
    by: &'a Identity,
    at: Timestamp,
}

impl<'a> CampaignView<'a> {
    fn new(record: &'a CampaignRecord) -> Self {
        let CampaignRecord { campaign, numbers } = record;
        let numbers = numbers.iter().map(|(number, assignment)| AssignmentView {
            number,
            from: assignment.from,
            to: assignment.to,
            by: &assignment.by,
            at: assignment.at,
        });
        Self {
            id: &campaign.id,
            name: &campaign.name,
            code: campaign.code.as_deref(),
            status: campaign.status,
            created_at: campaign.created_at,
            created_by: &campaign.created_by,
            numbers: numbers.collect(),
            agents: [],
            contact_count: 0,
        }
    }
}
