//! Campaigns: what they come to, and their settings.

use askama::Template;
use jiff::Timestamp;
use lambda_http::Body;
use lambda_http::Request;
use lambda_http::http::Response;
use serde::Deserialize;
use shared::api::campaigns::{ChangedCampaign, NewCampaign};
use shared::campaign::{Asset, Campaign, CampaignId, CampaignStatus, DatedAssignment};
use shared::error::Error;
use shared::http::path_id;
use shared::report::{Count, DURATIONS, Overviews};
use shared::store::calls::CallFilter;
use shared::store::campaigns::{CampaignRecord, NO_CAMPAIGN};

use crate::address::{Address, path_of};
use crate::chart::{Bar, Days, bars};
use crate::form::Form;
use crate::handler::State;
use crate::pages::call_table::OUTCOMES;
use crate::pages::numbers::numbers_path;
use crate::show::{When, clock, count, percent};
use crate::visit::{Notice, Visit};

/// Campaigns of one page.
const PAGE: usize = 50;
/// Days that trends and overviews cover, unless others are asked for.
const DAYS: i64 = 30;
const SPANS: [i64; 3] = [7, 30, 90];
/// Tracking numbers of an overview, the best ones.
const BEST_NUMBERS: usize = 8;

/// Which part of a campaign's pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tab {
    Overview,
    Calls,
    Numbers,
    Settings,
}

/// What every page of a campaign begins with.
pub struct CampaignHead<'a> {
    pub campaign: &'a Campaign,
    pub tab: Tab,
}

impl CampaignHead<'_> {
    pub fn path(&self) -> String {
        path_of("campaigns", self.campaign.id.as_str())
    }

    pub fn is_archived(&self) -> bool {
        self.campaign.status == CampaignStatus::Archived
    }

    pub fn tabs(&self) -> [(&'static str, String, bool); 4] {
        let path = self.path();
        [
            ("Overview", path.clone(), self.tab == Tab::Overview),
            ("Calls", format!("{path}/calls"), self.tab == Tab::Calls),
            (
                "Numbers and contacts",
                format!("{path}/numbers"),
                self.tab == Tab::Numbers,
            ),
            ("Settings", format!("{path}/settings"), self.tab == Tab::Settings),
        ]
    }
}

// ------------------------------------------------------------------ the list

#[derive(Template)]
#[template(path = "campaigns.html")]
struct CampaignsPage<'a> {
    visit: &'a Visit,
    rows: Vec<CampaignRow>,
    days: i64,
    /// Why there are no numbers.
    refusal: Option<&'static str>,
    next: Option<Address>,
    has_unattributed: Option<Count>,
}

struct CampaignRow {
    path: String,
    name: String,
    is_archived: bool,
    numbers: usize,
    calls: String,
    converted: String,
    rate: String,
    trend: Days,
}

#[derive(Deserialize)]
struct CampaignForm {
    name: Option<String>,
    code: Option<String>,
    /// `active` or `archived`.
    status: Option<CampaignStatus>,
}

impl State {
    pub async fn list_campaigns(&self, visit: &Visit) -> Result<Response<Body>, Error> {
        let cursor = Some(visit.address.value("cursor")).filter(|cursor| !cursor.is_empty());
        let (page, found) = tokio::join!(
            self.campaigns.list(PAGE, cursor),
            self.overviews_of(visit, CallFilter::default(), DAYS),
        );
        let page = page?;
        let (overviews, refusal) = unless_too_many(found)?;
        let credited = |to: &str| overviews.by_campaign.get(to);
        let rows = page.entries.iter().map(|record| {
            let overview = credited(record.campaign.id.as_str()).cloned().unwrap_or_default();
            let number = |number: u64| match refusal {
                None => count(number),
                Some(_) => "–".to_owned(),
            };
            let now = visit.now;
            let current = record.assignments.iter().filter(|(asset, assignment)| {
                matches!(asset, Asset::Number(_)) && is_current(assignment, now)
            });
            CampaignRow {
                path: path_of("campaigns", record.campaign.id.as_str()),
                name: record.campaign.name.clone(),
                is_archived: record.campaign.status == CampaignStatus::Archived,
                numbers: current.count(),
                calls: number(overview.total.calls),
                converted: number(overview.total.converted),
                rate: percent(overview.total.converted, overview.total.calls),
                trend: Days::new(&overviews.days, &overview.days, &visit.zone),
            }
        });
        visit.page(&CampaignsPage {
            visit,
            rows: rows.collect(),
            days: DAYS,
            next: page
                .next_cursor
                .map(|cursor| visit.address.with("cursor", &cursor)),
            has_unattributed: credited("unattributed").map(|overview| overview.total),
            refusal,
        })
    }

    pub async fn create_campaign(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let CampaignForm { name, code, .. } = Form::of(request).read()?;
        let wanted = NewCampaign { name, code };
        let campaign = wanted.into_campaign(&visit.session.person.identity, visit.now)?;
        self.campaigns.create(&campaign).await?;
        let text = format!(
            "{} is there. Give it the numbers that its advertisements show.",
            campaign.name
        );
        self.done(
            visit,
            &numbers_path(&campaign.id),
            Notice::new(text, None, visit.now),
        )
        .await
    }

    pub async fn change_campaign(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let CampaignForm { name, code, status } = Form::of(request).read()?;
        // The form of the settings says both; a field left empty takes the code away.
        let is_naming = status.is_none();
        let wanted = ChangedCampaign {
            name: is_naming.then(|| name.unwrap_or_default()),
            code: is_naming.then_some(code),
            status,
        };
        let change = wanted.into_change()?;
        let by = &visit.session.person.identity;
        self.campaigns.change(&id, &change, by, visit.now).await?;
        let text = match status {
            None => "The campaign is changed.",
            Some(CampaignStatus::Archived) => {
                "The campaign is archived: it keeps its calls and gets no new ones."
            }
            Some(CampaignStatus::Active) => "The campaign takes credit again, from the next call on.",
        };
        let path = format!("{}/settings", path_of("campaigns", id.as_str()));
        self.done(visit, &path, Notice::new(text.to_owned(), None, visit.now))
            .await
    }

    /// What the calls of the last days come to.
    async fn overviews_of(&self, visit: &Visit, filter: CallFilter, days: i64) -> Result<Overviews, Error> {
        let from = visit.zone.start_of_day(visit.now, days - 1);
        let from = from.ok_or_else(|| Error::unexpected("the calendar begins too late"))?;
        self.reporter
            .overviews(&filter, (from, visit.now), &visit.zone)
            .await
    }
}

/// So many calls that they can't be counted while somebody waits are said to be so.
fn unless_too_many(found: Result<Overviews, Error>) -> Result<(Overviews, Option<&'static str>), Error> {
    match found {
        Ok(overviews) => Ok((overviews, None)),
        Err(Error::Invalid {
            code: "window_too_large",
            ..
        }) => {
            let refusal = "There are too many calls to count them on this page: ask for fewer days.";
            Ok((Overviews::default(), Some(refusal)))
        }
        Err(error) => Err(error),
    }
}

/// Whether a number or an agent belongs to its campaign at an instant.
pub fn is_current(assignment: &DatedAssignment, now: Timestamp) -> bool {
    assignment.from <= now && assignment.to.is_none_or(|to| now < to)
}

// -------------------------------------------------------------- the overview

#[derive(Template)]
#[template(path = "campaign.html")]
struct OverviewPage<'a> {
    visit: &'a Visit,
    head: CampaignHead<'a>,
    days: i64,
    refusal: Option<&'static str>,
    total: Count,
    average: String,
    chart: Days,
    outcomes: Vec<Bar>,
    durations: Vec<Bar>,
    numbers: Vec<Bar>,
    has_numbers: bool,
}

impl OverviewPage<'_> {
    fn spans(&self) -> [i64; 3] {
        SPANS
    }

    fn rate(&self) -> String {
        percent(self.total.converted, self.total.calls)
    }

    fn count(&self, number: &u64) -> String {
        count(*number)
    }
}

impl State {
    pub async fn campaign_overview(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let days = visit.address.value("days").parse().ok();
        let days = days.filter(|days| SPANS.contains(days)).unwrap_or(DAYS);
        let filter = CallFilter {
            campaign_id: Some(id.clone()),
            ..CallFilter::default()
        };
        let (record, found) = tokio::join!(self.campaigns.get(&id), self.overviews_of(visit, filter, days));
        let record = record?;
        let (mut overviews, refusal) = unless_too_many(found)?;
        let overview = overviews.by_campaign.remove(id.as_str()).unwrap_or_default();
        let average = overview.total_duration_seconds.checked_div(overview.total.calls);
        let outcomes = OUTCOMES.iter().map(|(name, title)| {
            let count = overview.outcomes.get(name).copied().unwrap_or_default();
            ((*title).to_owned(), count)
        });
        let lengths = [
            "Under 15 s",
            "15 s to 1 min",
            "1 to 3 min",
            "3 to 10 min",
            "Over 10 min",
        ];
        let durations = (0..DURATIONS.len()).zip(lengths).map(|(length, title)| {
            let count = overview.durations.get(&length).copied().unwrap_or_default();
            (title.to_owned(), count)
        });
        let mut numbers: Vec<_> = overview.numbers.iter().collect();
        numbers.sort_by_key(|(_, count)| std::cmp::Reverse((count.converted, count.calls)));
        let numbers = numbers.into_iter().take(BEST_NUMBERS);
        visit.page(&OverviewPage {
            visit,
            head: CampaignHead {
                campaign: &record.campaign,
                tab: Tab::Overview,
            },
            days,
            refusal,
            total: overview.total,
            average: average.map_or_else(|| "–".to_owned(), clock),
            chart: Days::new(&overviews.days, &overview.days, &visit.zone),
            outcomes: bars(outcomes.collect()),
            durations: bars(durations.collect()),
            numbers: bars(
                numbers
                    .map(|(number, count)| (number.readable(), *count))
                    .collect(),
            ),
            has_numbers: !record.assignments.is_empty() || record.contact_count > 0,
        })
    }
}

// --------------------------------------------------------------- the settings

#[derive(Template)]
#[template(path = "campaign_settings.html")]
struct SettingsPage<'a> {
    visit: &'a Visit,
    head: CampaignHead<'a>,
    record: &'a CampaignRecord,
    created: When,
    updated: When,
}

impl State {
    pub async fn campaign_settings(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: CampaignId = path_id(request, NO_CAMPAIGN)?;
        let record = self.campaigns.get(&id).await?;
        let when = |at| When::new(at, &visit.zone, visit.now);
        visit.page(&SettingsPage {
            visit,
            head: CampaignHead {
                campaign: &record.campaign,
                tab: Tab::Settings,
            },
            created: when(record.campaign.created_at),
            updated: when(record.campaign.updated_at),
            record: &record,
        })
    }
}
