//! The customers that a campaign reached out to.

use lambda_http::http::{Response, StatusCode, header};
use lambda_http::{Body, Request};
use shared::api::campaigns::{ContactPage, ContactView, ContactsRemoved, NewContacts, read_number};
use shared::calendar::Zone;
use shared::campaign::CampaignId;
use shared::contacts::Upload;
use shared::error::Error;
use shared::http::{Context, json_answer, path_id, path_parameter, read_json};
use shared::phone_number::PhoneNumber;
use shared::query::{Paging, Query};
use shared::store::campaigns::NO_CAMPAIGN;

use crate::handler::State;

/// Contacts that one request removes.
const MAX_REMOVED: usize = 10_000;

impl State {
    pub async fn list_contacts(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let Paging { limit, cursor } = query.take()?;
        query.finish()?;
        let page = self
            .campaigns
            .contacts(&path_id(request, NO_CAMPAIGN)?, limit.get(), cursor.as_deref())
            .await?;
        let answer = ContactPage {
            contacts: page.entries.iter().map(ContactView::new).collect(),
            next_cursor: page.next_cursor,
        };
        json_answer(StatusCode::OK, &answer)
    }

    pub async fn read_contact(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let number = self.contact_number(request)?;
        let contact = self
            .campaigns
            .contact(&path_id(request, NO_CAMPAIGN)?, &number)
            .await?;
        json_answer(StatusCode::OK, &ContactView::new(&contact))
    }

    /// Good rows are kept, bad ones told of.
    pub async fn add_contacts(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let upload = if is_csv(request) {
            Upload::of_csv(request.body().as_ref())?
        } else {
            let NewContacts { contacts } = read_json(request)?;
            Upload::of_list(contacts)
        };
        let (by, at) = (context.caller()?, context.received_at);
        let answer = upload
            .keep(
                &self.campaigns,
                &campaign_id,
                (self.country, &Zone::default()),
                by,
                at,
            )
            .await?;
        json_answer(StatusCode::OK, &answer)
    }

    pub async fn remove_contact(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let number = self.contact_number(request)?;
        let contact = self.campaigns.contact(&campaign_id, &number).await?;
        self.campaigns.remove_contacts(&campaign_id, &[number]).await?;
        json_answer(StatusCode::OK, &ContactView::new(&contact))
    }

    /// Removes as many as one request can; `remaining` tells whether to ask again.
    pub async fn remove_all_contacts(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let page = self.campaigns.contacts(&campaign_id, MAX_REMOVED, None).await?;
        let numbers: Vec<PhoneNumber> = page.entries.into_iter().map(|contact| contact.number).collect();
        let removed = self.campaigns.remove_contacts(&campaign_id, &numbers).await?;
        let remaining = self.campaigns.get(&campaign_id).await?.contact_count;
        json_answer(StatusCode::OK, &ContactsRemoved { removed, remaining })
    }

    fn contact_number(&self, request: &Request) -> Result<PhoneNumber, Error> {
        read_number(&path_parameter(request, "number")?, self.country)
    }
}

fn is_csv(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/csv"))
}
