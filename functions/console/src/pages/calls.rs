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
use shared::campaign::{Campaign, CampaignId};
use shared::error::Error;
use shared::export::{CSV, csv_rows};
use shared::http::{large_answer, needs_compression, path_id, told};
use shared::query::{PageLimit, Query};
use shared::store::calls::CallList;
use shared::store::campaigns::NO_CAMPAIGN;

use crate::address::Address;
use crate::handler::State;
use crate::pages::call_table::{CallRow, CallTable, Scope, columns, next, previous};
use crate::pages::campaigns::{CampaignHead, Tab};
use crate::visit::Visit;

/// Calls of one file.
const MAX_CSV_CALLS: usize = 10_000;
/// How long such a file may take to be put together.
const CSV_TIME: Duration = Duration::from_secs(15);

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
