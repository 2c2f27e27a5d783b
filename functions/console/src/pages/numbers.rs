//! What belongs to a campaign: its numbers, its agents, its contacts; and how that is changed.

use std::collections::BTreeMap;

use askama::Template;
use lambda_http::Body;
use lambda_http::Request;
use lambda_http::http::Response;
use serde::Deserialize;
use shared::api::campaigns::{AssignmentRequest, ContactsAdded, read_agent, read_number};
use shared::calendar::Moment;
use shared::campaign::{Asset, CampaignId, Contact, DatedAssignment};
use shared::contacts::Upload;
use shared::error::Error;
use shared::http::{Instant, path_id};
use shared::phone_number::PhoneNumber;
use shared::store::Page;
use shared::store::campaigns::NO_CAMPAIGN;

use crate::address::{Address, path_of};
use crate::chart::{Span, timeline};
use crate::form::{Form, file};
use crate::handler::State;
use crate::pages::campaigns::{CampaignHead, Tab, is_current};
use crate::show::{When, counted};
use crate::visit::{Notice, Visit};

/// Contacts of one page.
const CONTACTS: usize = 25;

#[derive(Template)]
#[template(path = "campaign_numbers.html")]
struct NumbersPage<'a> {
    visit: &'a Visit,
    head: CampaignHead<'a>,
    numbers: Vec<Belonging>,
    agents: Vec<Belonging>,
    contact_count: u64,
    contacts: Vec<ContactRow>,
    next: Option<Address>,
    upload: Option<ContactsAdded>,
}

/// A number or an agent, and when it belonged to the campaign.
struct Belonging {
    title: String,
    value: String,
    spans: Vec<SpanShown>,
    timeline: Vec<Span>,
    is_current: bool,
}

struct SpanShown {
    from: When,
    to: Option<When>,
    by: String,
    /// Of the entry, as a form names it.
    instant: String,
}

struct ContactRow {
    number: String,
    value: String,
    from: Option<When>,
    to: Option<When>,
}

#[derive(Deserialize)]
struct NumberForm {
    number: String,
    from: Option<Moment>,
    to: Option<Moment>,
    #[serde(rename = "move")]
    take_over: Option<String>,
    /// `assign`, `end` or `remove`.
    action: String,
}

#[derive(Deserialize)]
struct AgentForm {
    agent_id: String,
    from: Option<Moment>,
    to: Option<Moment>,
    action: String,
}

#[derive(Deserialize)]
struct ContactForm {
    number: String,
}

impl NumbersPage<'_> {
    fn counted(&self, number: &u64, thing: &str) -> String {
        counted(*number, thing)
    }

    fn today(&self) -> String {
        self.visit.zone.local(self.visit.now).date().to_string()
    }
}

impl State {
    pub async fn campaign_numbers(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        self.numbers_page(&id, visit, None).await
    }

    async fn numbers_page(
        &self,
        id: &CampaignId,
        visit: &Visit,
        upload: Option<ContactsAdded>,
    ) -> Result<Response<Body>, Error> {
        let (record, contacts) = tokio::try_join!(self.campaigns.get(id), self.contacts_shown(id, visit))?;
        let mut numbers: BTreeMap<&PhoneNumber, Vec<&DatedAssignment>> = BTreeMap::new();
        let mut agents: BTreeMap<&str, Vec<&DatedAssignment>> = BTreeMap::new();
        for (asset, assignment) in &record.assignments {
            match asset {
                Asset::Number(number) => numbers.entry(number).or_default().push(assignment),
                Asset::Agent(agent_id) => agents.entry(agent_id).or_default().push(assignment),
            }
        }
        let earliest = record
            .assignments
            .iter()
            .map(|(_, assignment)| assignment.from)
            .min();
        let belonging = |title: String, value: String, spans: Vec<&DatedAssignment>| Belonging {
            title,
            value,
            timeline: timeline(&spans, earliest.unwrap_or(visit.now), visit.now),
            is_current: spans.iter().any(|span| is_current(span, visit.now)),
            spans: spans.into_iter().map(|span| span_shown(span, visit)).collect(),
        };
        let numbers = numbers
            .into_iter()
            .map(|(number, spans)| belonging(number.readable(), number.to_string(), spans));
        let numbers = numbers.collect();
        let agents = agents
            .into_iter()
            .map(|(agent_id, spans)| belonging(agent_id.to_owned(), agent_id.to_owned(), spans));
        let next = contacts
            .next_cursor
            .as_ref()
            .map(|cursor| Address::with_query(&numbers_path(id), "").with("cursor", cursor));
        visit.page(&NumbersPage {
            visit,
            head: CampaignHead {
                campaign: &record.campaign,
                tab: Tab::Numbers,
            },
            numbers,
            agents: agents.collect(),
            contact_count: record.contact_count,
            contacts: contacts
                .entries
                .iter()
                .map(|contact| contact_row(contact, visit))
                .collect(),
            next,
            upload,
        })
    }

    /// A page of the contacts, or the one that is looked for.
    async fn contacts_shown(&self, id: &CampaignId, visit: &Visit) -> Result<Page<Contact>, Error> {
        let asked = |name| Some(visit.address.value(name)).filter(|value| !value.is_empty());
        let Some(number) = asked("contact") else {
            return self.campaigns.contacts(id, CONTACTS, asked("cursor")).await;
        };
        let number = read_number(number, self.country)?;
        let entries = match self.campaigns.contact(id, &number).await {
            Ok(contact) => vec![contact],
            Err(Error::NotFound { .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        Ok(Page {
            entries,
            next_cursor: None,
        })
    }

    pub async fn assign_number(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let form: NumberForm = Form::of(request).read()?;
        let number = read_number(&form.number, self.country)?;
        let readable = number.readable();
        let asset = Asset::Number(number);
        let wanted = Change {
            from: form.from,
            to: form.to,
            take_over: form.take_over.is_some(),
            action: form.action,
        };
        self.change_asset(&id, &asset, &readable, wanted, visit).await
    }

    pub async fn assign_agent(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let form: AgentForm = Form::of(request).read()?;
        let asset = read_agent(form.agent_id.trim().to_owned())?;
        let wanted = Change {
            from: form.from,
            to: form.to,
            take_over: false,
            action: form.action,
        };
        self.change_asset(&id, &asset, form.agent_id.trim(), wanted, visit)
            .await
    }

    async fn change_asset(
        &self,
        id: &CampaignId,
        asset: &Asset,
        title: &str,
        change: Change,
        visit: &Visit,
    ) -> Result<Response<Body>, Error> {
        let by = &visit.session.person.identity;
        let instant = |moment: Option<Moment>| match moment {
            Some(moment) => {
                let at = moment.instant(&visit.zone);
                at.map(Some).map_err(|why| Error::invalid("from", why))
            }
            None => Ok(None),
        };
        let from = instant(change.from)?;
        let text = match (change.action.as_str(), from) {
            ("assign", _) => {
                let wanted = AssignmentRequest {
                    from: from.map(Instant),
                    to: instant(change.to)?.map(Instant),
                    take_over: change.take_over,
                };
                let wanted = wanted.into_wanted(id.clone(), by);
                self.campaigns.assign(asset, wanted, visit.now).await?;
                format!(
                    "{title} belongs to this campaign. Calls that are here already stay as they are: re-attribute them where they should move."
                )
            }
            ("end", _) => {
                self.campaigns.end(asset, id, by, visit.now).await?;
                format!("{title} belongs to this campaign no more, from now on.")
            }
            ("remove", Some(from)) => {
                self.campaigns.remove(asset, id, from).await?;
                format!("The entry of {title} is removed, as if it had never been.")
            }
            _ => return Err(Error::invalid("action", "action must be assign, end or remove")),
        };
        self.done(visit, &numbers_path(id), Notice::new(text, None, visit.now))
            .await
    }

    /// Shows at once what became of each row, so it leads nowhere else.
    pub async fn upload_contacts(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let upload = Upload::of_csv(&file(request, "contacts").await?)?;
        let by = &visit.session.person.identity;
        let added = upload
            .keep(&self.campaigns, &id, (self.country, &visit.zone), by, visit.now)
            .await?;
        self.numbers_page(&id, visit, Some(added)).await
    }

    pub async fn remove_contacts(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let ContactForm { number } = Form::of(request).read()?;
        let number = read_number(&number, self.country)?;
        self.campaigns.contact(&id, &number).await?;
        let readable = number.readable();
        self.campaigns.remove_contacts(&id, &[number]).await?;
        let text = format!("{readable} is no contact of this campaign any more.");
        self.done(visit, &numbers_path(&id), Notice::new(text, None, visit.now))
            .await
    }
}

/// What is to become of a number or an agent.
struct Change {
    from: Option<Moment>,
    to: Option<Moment>,
    take_over: bool,
    action: String,
}

fn span_shown(assignment: &DatedAssignment, visit: &Visit) -> SpanShown {
    let when = |at| When::new(at, &visit.zone, visit.now);
    SpanShown {
        from: when(assignment.from),
        to: assignment.to.map(when),
        by: assignment.by.as_str().to_owned(),
        instant: assignment.from.to_string(),
    }
}

fn contact_row(contact: &Contact, visit: &Visit) -> ContactRow {
    let when = |at| When::new(at, &visit.zone, visit.now);
    ContactRow {
        number: contact.number.readable(),
        value: contact.number.to_string(),
        from: contact.from.map(when),
        to: contact.to.map(when),
    }
}

/// The page of what belongs to a campaign.
pub fn numbers_path(id: &CampaignId) -> String {
    format!("{}/numbers", path_of("campaigns", id.as_str()))
}
