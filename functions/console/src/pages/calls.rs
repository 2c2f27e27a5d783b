//! Lists of calls: all, those of a campaign, those that nobody is credited with.

use std::time::{Duration, Instant};

use askama::Template;
use jiff::Timestamp;
use jiff::civil::Date;
use lambda_http::Body;
use lambda_http::Request;
use lambda_http::http::{HeaderValue, Response, header};
use serde::Deserialize;
use shared::api::calls::{CallFilterRequest, CallView, CampaignNames, SortRequest, campaigns_of};
use shared::attribution::Status;
use shared::calendar::Zone;
use shared::call::CallId;
use shared::campaign::{Campaign, CampaignId, CampaignStatus};
use shared::decision::{Credit, CreditMethod};
use shared::error::Error;
use shared::export::{CSV, csv_rows};
use shared::http::{large_answer, needs_compression, path_id, told};
use shared::query::{PageLimit, Query};
use shared::store::calls::{CallList, CallRecord, Order, Sort};
use shared::store::campaigns::NO_CAMPAIGN;

use crate::address::{Address, path_of};
use crate::handler::State;
use crate::pages::campaigns::{CampaignHead, Tab};
use crate::show::{When, clock, money, words};
use crate::visit::Visit;

/// Calls of one file.
const MAX_CSV_CALLS: usize = 10_000;
/// How long such a file may take to be put together.
const CSV_TIME: Duration = Duration::from_secs(15);
/// Pages back to which a list knows the way.
const MAX_TRAIL: usize = 8;
/// Days of a list that is not in the order of time, unless others are asked for.
const SORTED_DAYS: i64 = 30;
/// Parameters that say which part of a list is shown, not what is in it.
const PAGING: [&str; 3] = ["cursor", "trail", "limit"];

/// How calls go, and how the console says it.
pub const OUTCOMES: [(&str, &str); 3] = [
    ("success", "Success"),
    ("failure", "Failure"),
    ("unknown", "Unknown"),
];
const STANDINGS: [(&str, &str); 3] = [
    ("attributed", "Credited"),
    ("unattributed", "Unattributed"),
    ("ambiguous", "Ambiguous"),
];
const CONVERSIONS: [(&str, &str); 2] = [("true", "Converted"), ("false", "Not converted")];
const DIRECTIONS: [(&str, &str); 2] = [("inbound", "Inbound"), ("outbound", "Outbound")];
const CHANNELS: [(&str, &str); 5] = [
    ("phone", "Phone"),
    ("web", "Web"),
    ("whatsapp", "WhatsApp"),
    ("sms", "SMS"),
    ("unknown", "Unknown"),
];
const LIMITS: [&str; 3] = ["25", "50", "100"];

/// Which calls a page is about, whatever the visitor asks beyond that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Any.
    All,
    /// Those credited to a campaign.
    Campaign(CampaignId),
    /// Those that nobody is credited with, or that several campaigns claim.
    Open,
}

/// What a list asks for beyond the filter and the sort of the API.
#[derive(Deserialize)]
struct Shown {
    /// The last day, in the zone of the viewer.
    through: Option<String>,
    #[serde(default)]
    limit: PageLimit,
    cursor: Option<String>,
    #[serde(rename = "trail")]
    _trail: Option<String>,
}

/// A list that an address asks for.
struct Asked {
    list: CallList,
    limit: usize,
    cursor: Option<String>,
}

/// A list of calls on a page.
pub struct CallTable<'a> {
    pub visit: &'a Visit,
    pub scope: Scope,
    pub columns: Vec<Column>,
    pub rows: Vec<CallRow>,
    /// Why there are no rows.
    pub refusal: Option<String>,
    pub previous: Option<Address>,
    pub next: Option<Address>,
    pub campaigns: &'a [Campaign],
}

/// A column, by which the list can be sorted or not.
pub struct Column {
    pub title: &'static str,
    pub class: &'static str,
    /// The list sorted by it, the other way where it is already.
    pub sorted: Option<Address>,
    /// Of `aria-sort`.
    pub direction: &'static str,
}

/// A call in a list.
pub struct CallRow {
    pub id: CallId,
    pub path: String,
    pub started: When,
    pub customer: Option<String>,
    pub tracking: Option<String>,
    pub duration: String,
    pub outcome: &'static str,
    pub converted: bool,
    /// Who says so, and what it is worth.
    pub conversion_note: String,
    pub credit: CreditShown,
    /// Campaigns to choose from, of an ambiguous call.
    pub candidates: Vec<(CampaignId, String)>,
}

/// The credit of a call as people read it.
pub struct CreditShown {
    pub status: Status,
    /// The campaign: its name and path.
    pub campaign: Option<(String, String)>,
    pub method: &'static str,
}

impl CreditShown {
    pub fn new(credit: &Credit, names: &CampaignNames) -> Self {
        let campaign = credit.campaign_id.as_ref().map(|id| {
            let name = names.get(id).cloned().unwrap_or_else(|| id.to_string());
            (name, path_of("campaigns", id.as_str()))
        });
        Self {
            status: credit.status,
            campaign,
            method: credit.method.map_or("", method_name),
        }
    }

    pub fn class(&self) -> &'static str {
        self.status.as_str()
    }

    pub fn title(&self) -> &'static str {
        match self.status {
            Status::Attributed => "Credited",
            Status::Unattributed => "Unattributed",
            Status::Ambiguous => "Ambiguous",
        }
    }
}

/// How a call came to its credit, as people read it.
pub fn method_name(method: CreditMethod) -> &'static str {
    use shared::attribution::Method::{Agent, Contact, DynamicVariable, TrackingNumber};
    match method {
        CreditMethod::Manual => "by hand",
        CreditMethod::Rule(DynamicVariable) => "by variable",
        CreditMethod::Rule(TrackingNumber) => "by tracking number",
        CreditMethod::Rule(Contact) => "by contact",
        CreditMethod::Rule(Agent) => "by agent",
    }
}

impl CallRow {
    fn new(record: &CallRecord, visit: &Visit, names: &CampaignNames) -> Self {
        let call = &record.call;
        let conversion = record.decisions.conversion(call);
        let by = conversion.by.as_ref().map(|by| format!("by {}", by.as_str()));
        let note = [by, conversion.value.as_ref().map(money)];
        Self {
            path: path_of("calls", call.id.as_str()),
            id: call.id.clone(),
            started: When::new(call.started_at, &visit.zone, visit.now),
            customer: call.customer_number.as_ref().map(|number| number.readable()),
            tracking: call.tracking_number.as_ref().map(|number| number.readable()),
            duration: clock(u64::from(call.duration_seconds)),
            outcome: call.outcome.as_str(),
            converted: conversion.converted,
            conversion_note: note.into_iter().flatten().collect::<Vec<_>>().join(", "),
            credit: CreditShown::new(&record.decisions.credit(&record.rule_result), names),
            candidates: Vec::new(),
        }
    }

    /// Which call this is, for those who don't see the row around it.
    pub fn who(&self) -> String {
        let customer = self.customer.as_deref().unwrap_or("an unknown customer");
        format!("{customer}, {}", self.started.short())
    }

    pub fn outcome_title(&self) -> String {
        words(self.outcome)
    }
}

impl CallTable<'_> {
    /// What the list is asked for, without which part of it.
    pub fn query(&self) -> String {
        self.visit.address.without(&PAGING).query()
    }

    pub fn csv(&self) -> Address {
        let address = self.visit.address.without(&PAGING);
        match &self.scope {
            Scope::All => address.at("/calls.csv"),
            Scope::Campaign(id) => address.at("/calls.csv").with("campaign_id", id.as_str()),
            Scope::Open => match address.value("attribution") {
                "" => address.at("/calls.csv").with("attribution", "unattributed"),
                _ => address.at("/calls.csv"),
            },
        }
    }

    /// Whether new calls come in at its top.
    pub fn is_live(&self) -> bool {
        let address = &self.visit.address;
        self.refusal.is_none()
            && address.value("cursor").is_empty()
            && (address.value("sort").is_empty() || address.has("sort", "started_at"))
            && !address.has("order", "asc")
    }

    /// Whether anything was asked for that may leave calls out.
    pub fn is_filtered(&self) -> bool {
        let address = self.visit.address.without(&PAGING).without(&["sort", "order"]);
        let address = match self.scope {
            Scope::Open => address.without(&["attribution"]),
            _ => address,
        };
        !address.parameters().is_empty()
    }

    /// Whether a filter of the folded part is set.
    pub fn has_more_filters(&self) -> bool {
        let more = [
            "direction",
            "channel",
            "agent_id",
            "tracking_number",
            "min_duration",
            "max_duration",
        ];
        more.iter().any(|name| !self.visit.address.value(name).is_empty())
    }

    pub fn is_everything(&self) -> bool {
        self.scope == Scope::All
    }

    /// Whether the list is of calls that are credited to nobody, so that to say so again
    /// would change nothing.
    pub fn is_unattributed(&self) -> bool {
        self.is_open() && !self.visit.address.has("attribution", "ambiguous")
    }

    /// Whether the way back is known page by page.
    pub fn has_trail(&self) -> bool {
        !self.visit.address.value("trail").is_empty()
    }

    pub fn is_open(&self) -> bool {
        self.scope == Scope::Open
    }

    /// The filters and the list without them.
    pub fn unfiltered(&self) -> Address {
        let kept = ["sort", "order", "limit"];
        let mut all = Address::with_query(self.visit.address.path(), "");
        for name in kept {
            all = all.with(name, self.visit.address.value(name));
        }
        all
    }

    pub fn outcomes(&self) -> &'static [(&'static str, &'static str)] {
        &OUTCOMES
    }

    pub fn standings(&self) -> &'static [(&'static str, &'static str)] {
        &STANDINGS
    }

    pub fn conversions(&self) -> &'static [(&'static str, &'static str)] {
        &CONVERSIONS
    }

    pub fn directions(&self) -> &'static [(&'static str, &'static str)] {
        &DIRECTIONS
    }

    pub fn channels(&self) -> &'static [(&'static str, &'static str)] {
        &CHANNELS
    }

    pub fn limits(&self) -> &'static [&'static str] {
        &LIMITS
    }

    /// Campaigns that still take credit.
    pub fn active(&self) -> impl Iterator<Item = &Campaign> {
        active(self.campaigns)
    }

    pub fn webhook_url(&self) -> String {
        self.visit.origin.url("/api/webhooks/elevenlabs").to_string()
    }
}

pub fn active(campaigns: &[Campaign]) -> impl Iterator<Item = &Campaign> {
    let is_active = |campaign: &&Campaign| campaign.status == CampaignStatus::Active;
    campaigns.iter().filter(is_active)
}

#[derive(Template)]
#[template(path = "calls.html")]
struct CallsPage<'a> {
    visit: &'a Visit,
    table: CallTable<'a>,
}

#[derive(Template)]
#[template(path = "unattributed.html")]
struct UnattributedPage<'a> {
    visit: &'a Visit,
    table: CallTable<'a>,
}

#[derive(Template)]
#[template(path = "campaign_calls.html")]
struct CampaignCallsPage<'a> {
    visit: &'a Visit,
    head: CampaignHead<'a>,
    table: CallTable<'a>,
}

impl State {
    pub async fn all_calls(&self, visit: &Visit) -> Result<Response<Body>, Error> {
        let campaigns = self.campaigns.choices().await?;
        let table = self.call_table(visit, Scope::All, &campaigns).await?;
        visit.page(&CallsPage { visit, table })
    }

    pub async fn unattributed_calls(&self, visit: &Visit) -> Result<Response<Body>, Error> {
        let campaigns = self.campaigns.choices().await?;
        let mut table = self.call_table(visit, Scope::Open, &campaigns).await?;
        self.add_candidates(&mut table).await?;
        visit.page(&UnattributedPage { visit, table })
    }

    pub async fn calls_of_campaign(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let (record, campaigns) = tokio::try_join!(self.campaigns.get(&id), self.campaigns.choices())?;
        let table = self.call_table(visit, Scope::Campaign(id), &campaigns).await?;
        let head = CampaignHead {
            campaign: &record.campaign,
            tab: Tab::Calls,
        };
        visit.page(&CampaignCallsPage { visit, head, table })
    }

    /// All calls of a list in one file.
    pub async fn calls_as_csv(&self, visit: &Visit) -> Result<Response<Body>, Error> {
        let Asked { list, .. } = asked(visit, &Scope::All, self)?;
        let mut page = self.calls.list(&list, MAX_CSV_CALLS, None).await?;
        let begun = Instant::now();
        // A page may end before it is full, where few calls match.
        while let Some(cursor) = page.next_cursor.take() {
            let room = MAX_CSV_CALLS - page.entries.len();
            if room == 0 || begun.elapsed() > CSV_TIME {
                page.next_cursor = Some(cursor);
                break;
            }
            let next = self.calls.list(&list, room, Some(&cursor)).await?;
            page.entries.extend(next.entries);
            page.next_cursor = next.next_cursor;
        }
        if page.next_cursor.is_some() {
            return Err(Error::Invalid {
                code: "window_too_large",
                field: None,
                message: format!(
                    "a file holds at most {MAX_CSV_CALLS} calls: narrow the dates and take one file for each part"
                ),
            });
        }
        let names = self
            .campaigns
            .names(page.entries.iter().filter_map(campaigns_of))
            .await?;
        let calls = page.entries.iter().map(|record| CallView::new(record, &names));
        let answer = large_answer(visit.headers(), CSV, csv_rows(calls, true)?)?;
        let mut answer = answer.ok_or_else(needs_compression)?;
        let name = HeaderValue::from_static("attachment; filename=\"calls.csv\"");
        answer.headers_mut().insert(header::CONTENT_DISPOSITION, name);
        Ok(answer)
    }

    /// The list that an address asks for; what it can't be is said on the page, so
    /// that it can be mended there.
    async fn call_table<'a>(
        &self,
        visit: &'a Visit,
        scope: Scope,
        campaigns: &'a [Campaign],
    ) -> Result<CallTable<'a>, Error> {
        let found = match asked(visit, &scope, self) {
            Ok(asked) => self
                .calls
                .list(&asked.list, asked.limit, asked.cursor.as_deref())
                .await
                .map(|page| (asked, page)),
            Err(error) => Err(error),
        };
        let (list, rows, next_cursor, refusal) = match found {
            Ok((asked, page)) => {
                let names = self.names_of(page.entries.iter().filter_map(campaigns_of), campaigns);
                let names = names.await?;
                let rows = page
                    .entries
                    .iter()
                    .map(|record| CallRow::new(record, visit, &names));
                (asked.list, rows.collect(), page.next_cursor, None)
            }
            Err(error @ Error::Invalid { .. }) => {
                (CallList::default(), Vec::new(), None, Some(told(&error).message))
            }
            Err(error) => return Err(error),
        };
        Ok(CallTable {
            columns: columns(visit, &scope, &list),
            previous: previous(&visit.address),
            next: next_cursor.map(|cursor| next(&visit.address, &cursor)),
            visit,
            scope,
            rows,
            refusal,
            campaigns,
        })
    }

    /// The names of campaigns, most of which are among those that people choose from.
    pub async fn names_of(
        &self,
        ids: impl Iterator<Item = CampaignId>,
        campaigns: &[Campaign],
    ) -> Result<CampaignNames, Error> {
        let known = |id: &CampaignId| campaigns.iter().find(|campaign| campaign.id == *id);
        let mut names = CampaignNames::new();
        let mut unknown = Vec::new();
        for id in ids {
            match known(&id) {
                Some(campaign) => drop(names.insert(id, campaign.name.clone())),
                None => unknown.push(id),
            }
        }
        if !unknown.is_empty() {
            names.extend(self.campaigns.names(unknown).await?);
        }
        Ok(names)
    }

    /// The campaigns among which somebody has to choose; only the heads know them.
    async fn add_candidates(&self, table: &mut CallTable<'_>) -> Result<(), Error> {
        let campaigns = table.campaigns;
        let is_ambiguous = |row: &&mut CallRow| row.credit.status == Status::Ambiguous;
        let rows = table.rows.iter_mut().filter(is_ambiguous);
        let heads = rows.map(async |row| {
            let head = self.calls.head(&row.id).await?;
            for candidate in head.into_iter().flat_map(|head| head.candidates) {
                let campaign = campaigns
                    .iter()
                    .find(|campaign| campaign.id == candidate.campaign_id);
                if let Some(campaign) = campaign {
                    row.candidates.push((campaign.id.clone(), campaign.name.clone()));
                }
            }
            Ok::<_, Error>(())
        });
        futures_util::future::try_join_all(heads).await?;
        Ok(())
    }

    /// The calls that a query string of a list's page asks for.
    pub fn list_of(&self, visit: &Visit, address: &Address, scope: &Scope) -> Result<CallList, Error> {
        Ok(read(address, visit, scope, self)?.list)
    }
}

fn asked(visit: &Visit, scope: &Scope, state: &State) -> Result<Asked, Error> {
    read(&visit.address, visit, scope, state)
}

fn read(address: &Address, visit: &Visit, scope: &Scope, state: &State) -> Result<Asked, Error> {
    let mut parameters = address.parameters();
    if address.value("tz").is_empty() {
        parameters.push(("tz".to_owned(), visit.zone.name().to_owned()));
    }
    let mut query = Query::of_pairs(parameters);
    let shown: Shown = query.take()?;
    let SortRequest { sort, order } = query.take()?;
    let filter: CallFilterRequest = query.take()?;
    query.finish()?;
    let zone = filter.tz.clone().unwrap_or_default();
    let mut filter = filter.into_filter(state.country)?;
    if let Some(day) = shown.through {
        let day: Date = day
            .parse()
            .map_err(|_| Error::invalid("through", "give the last day as in 2026-11-30"))?;
        filter.to = Some(end_of_day(day, &zone)?);
        if filter.from.zip(filter.to).is_some_and(|(from, to)| to <= from) {
            return Err(Error::invalid(
                "through",
                "the last day must not be before the first one",
            ));
        }
    }
    match scope {
        Scope::All => {}
        Scope::Campaign(id) => filter.campaign_id = Some(id.clone()),
        Scope::Open => filter.attribution = Some(filter.attribution.unwrap_or(Status::Unattributed)),
    }
    Ok(Asked {
        list: CallList { filter, sort, order },
        limit: shown.limit.get(),
        cursor: shown.cursor,
    })
}

/// The first instant after a day.
///
/// # Errors
/// Beyond the calendar.
pub fn end_of_day(day: Date, zone: &Zone) -> Result<Timestamp, Error> {
    let end = day.tomorrow().ok().and_then(|next| zone.start_of(next));
    end.ok_or_else(|| Error::invalid("through", "this day is beyond the calendar"))
}

fn columns(visit: &Visit, scope: &Scope, list: &CallList) -> Vec<Column> {
    let column = |title, class, sort: Option<(Sort, &str)>| {
        let Some((sort, name)) = sort else {
            return Column {
                title,
                class,
                sorted: None,
                direction: "",
            };
        };
        let is_sorted = list.sort == sort;
        let (order, direction) = match (is_sorted, list.order) {
            (true, Order::Desc) => ("asc", "descending"),
            (true, Order::Asc) => ("desc", "ascending"),
            (false, _) if sort == Sort::CustomerNumber => ("asc", ""),
            (false, _) => ("desc", ""),
        };
        let mut sorted = visit.address.without(&["cursor", "trail"]).with("sort", name);
        sorted = sorted.with("order", order);
        if sort != Sort::StartedAt && list.filter.from.is_none() {
            let from = visit.zone.start_of_day(visit.now, SORTED_DAYS);
            let from = from.map(|from| visit.zone.local(from).date().to_string());
            sorted = sorted.with("from", &from.unwrap_or_default());
        }
        if sort != Sort::StartedAt && list.filter.to.is_none() {
            let through = visit.zone.local(visit.now).date().to_string();
            sorted = sorted.with("through", &through);
        }
        Column {
            title,
            class,
            sorted: Some(sorted),
            direction,
        }
    };
    let mut columns = vec![
        column("Date", "date", Some((Sort::StartedAt, "started_at"))),
        column(
            "Customer",
            "customer",
            Some((Sort::CustomerNumber, "customer_number")),
        ),
        column("Tracking number", "tracking", None),
        column("Duration", "duration", Some((Sort::Duration, "duration"))),
        column("Outcome", "outcome", Some((Sort::Outcome, "outcome"))),
        column("Conversion", "conversion", None),
    ];
    if !matches!(scope, Scope::Campaign(_)) {
        columns.push(column("Attribution", "attribution", None));
    } else {
        columns.push(column("Credited", "attribution", None));
    }
    columns
}

/// The page before: a list's address keeps the way that led to it.
fn previous(address: &Address) -> Option<Address> {
    if address.value("cursor").is_empty() {
        return None;
    }
    let trail: Vec<&str> = address.value("trail").split('.').collect();
    let (last, rest) = trail.split_last()?;
    Some(address.with("cursor", last).with("trail", &rest.join(".")))
}

fn next(address: &Address, cursor: &str) -> Address {
    let mut trail: Vec<&str> = address
        .value("trail")
        .split('.')
        .filter(|part| !part.is_empty())
        .collect();
    if !address.value("cursor").is_empty() {
        trail.push(address.value("cursor"));
    }
    let kept = trail.len().saturating_sub(MAX_TRAIL);
    let trail = trail.split_off(kept).join(".");
    address.with("cursor", cursor).with("trail", &trail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_knows_the_way_back() {
        let first = Address::with_query("/calls", "outcome=success");
        assert_eq!(previous(&first), None);
        let second = next(&first, "b");
        assert_eq!(second.to_string(), "/calls?outcome=success&cursor=b");
        let third = next(&second, "c");
        assert_eq!(third.to_string(), "/calls?outcome=success&cursor=c&trail=b");
        assert_eq!(previous(&third), Some(second.clone()));
        assert_eq!(previous(&second), Some(first));
        let mut far = second;
        for page in 0..100 {
            far = next(&far, &format!("c{page}"));
        }
        assert_eq!(far.value("trail").split('.').count(), MAX_TRAIL);
    }
}
