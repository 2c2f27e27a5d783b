//! The delivery log: every attempt, what came of it, and taking it in again.

use askama::Template;
use lambda_http::Body;
use lambda_http::Request;
use lambda_http::http::Response;
use serde::Deserialize;
use shared::api::calls::{CampaignNames, all_campaigns_of};
use shared::api::deliveries::DeliveryFilterRequest;
use shared::error::Error;
use shared::http::{Context, NO_BODY, path_id, raw_answer, told};
use shared::query::{Paging, Query};
use shared::replay::{Replayed, kept_body};
use shared::store::calls::Head;
use shared::store::deliveries::{Delivery, DeliveryId, DeliveryResult, NO_DELIVERY};

use crate::address::{Address, path_of};
use crate::form::Form;
use crate::handler::State;
use crate::pages::call_table::CreditShown;
use crate::show::{When, bytes, clock, words};
use crate::visit::{Notice, Visit};

const RESULTS: [DeliveryResult; 7] = [
    DeliveryResult::Stored,
    DeliveryResult::Updated,
    DeliveryResult::Duplicate,
    DeliveryResult::Ignored,
    DeliveryResult::Unparsed,
    DeliveryResult::Refused,
    DeliveryResult::Failed,
];

#[derive(Template)]
#[template(path = "deliveries.html")]
struct DeliveriesPage<'a> {
    visit: &'a Visit,
    rows: Vec<DeliveryShown>,
    refusal: Option<String>,
    next: Option<Address>,
}

/// A delivery as people read it.
struct DeliveryShown {
    path: String,
    received: When,
    result: &'static str,
    status: u16,
    reason: String,
    kind: String,
    call: Option<(String, String)>,
    size: String,
    latency_ms: u64,
    client_ip: String,
    is_kept: bool,
}

impl DeliveryShown {
    fn new(delivery: &Delivery, visit: &Visit) -> Self {
        let id = delivery.conversation_id.as_ref();
        Self {
            path: path_of("deliveries", delivery.id.as_str()),
            received: When::new(delivery.received_at, &visit.zone, visit.now),
            result: delivery.result.as_str(),
            status: delivery.status,
            reason: delivery.reason.as_deref().map(words).unwrap_or_default(),
            kind: delivery.kind.as_deref().map(words).unwrap_or_default(),
            call: id.map(|id| (id.to_string(), path_of("calls", id.as_str()))),
            size: bytes(delivery.bytes),
            latency_ms: delivery.latency_ms,
            client_ip: delivery.client_ip.to_string(),
            is_kept: delivery.may_have_body(),
        }
    }

    fn title(&self) -> String {
        words(self.result)
    }
}

impl DeliveriesPage<'_> {
    fn results(&self) -> [(&'static str, String); 7] {
        RESULTS.map(|result| (result.as_str(), words(result.as_str())))
    }

    fn is_filtered(&self) -> bool {
        let names = ["cursor", "limit"];
        !self.visit.address.without(&names).parameters().is_empty()
    }
}

#[derive(Template)]
#[template(path = "delivery.html")]
struct DeliveryPage<'a> {
    visit: &'a Visit,
    shown: DeliveryShown,
    sha256: String,
    /// Whether its call is here.
    has_call: bool,
}

#[derive(Template)]
#[template(path = "replay.html")]
struct ReplayPage<'a> {
    visit: &'a Visit,
    path: String,
    replayed: &'a Replayed,
    /// What would change: its name, before, after.
    changes: Vec<(&'static str, String, String)>,
}

impl ReplayPage<'_> {
    fn result(&self) -> String {
        words(self.replayed.result.as_str())
    }
}

#[derive(Deserialize)]
struct ReplayForm {
    /// `preview` or `apply`.
    action: String,
}

impl State {
    pub async fn list_deliveries(&self, visit: &Visit) -> Result<Response<Body>, Error> {
        let mut parameters = visit.address.parameters();
        if visit.address.value("tz").is_empty() {
            parameters.push(("tz".to_owned(), visit.zone.name().to_owned()));
        }
        let mut query = Query::of_pairs(parameters);
        let asked = query.take::<DeliveryFilterRequest>().and_then(|filter| {
            let paging: Paging = query.take()?;
            query.finish()?;
            Ok((filter.into_filter()?, paging))
        });
        let found = match asked {
            Ok((filter, Paging { limit, cursor })) => {
                let page = self
                    .deliveries
                    .list(&filter, limit.get(), cursor.as_deref(), visit.now);
                page.await
            }
            Err(error) => Err(error),
        };
        let (rows, next, refusal) = match found {
            Ok(page) => {
                let rows = page
                    .entries
                    .iter()
                    .map(|delivery| DeliveryShown::new(delivery, visit));
                (rows.collect(), page.next_cursor, None)
            }
            Err(error @ Error::Invalid { .. }) => (Vec::new(), None, Some(told(&error).message)),
            Err(error) => return Err(error),
        };
        visit.page(&DeliveriesPage {
            visit,
            rows,
            refusal,
            next: next.map(|cursor| visit.address.with("cursor", &cursor)),
        })
    }

    pub async fn delivery(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: DeliveryId = path_id(request, NO_DELIVERY)?;
        let delivery = self.deliveries.get(&id, visit.now).await?;
        let has_call = match &delivery.conversation_id {
            Some(id) => self.calls.head(id).await?.is_some(),
            None => false,
        };
        visit.page(&DeliveryPage {
            visit,
            shown: DeliveryShown::new(&delivery, visit),
            sha256: hex::encode(delivery.body_sha256),
            has_call,
        })
    }

    pub async fn raw_delivery(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: DeliveryId = path_id(request, NO_DELIVERY)?;
        let delivery = self.deliveries.get(&id, visit.now).await?;
        let body = kept_body(&self.calls, &self.deliveries, &delivery, visit.now).await?;
        raw_answer(visit.headers(), body.ok_or(NO_BODY)?)
    }

    /// First what would change; then, when that is wanted, changes it.
    pub async fn replay_delivery(
        &self,
        request: &Request,
        context: &Context,
        visit: &Visit,
    ) -> Result<Response<Body>, Error> {
        let id: DeliveryId = path_id(request, NO_DELIVERY)?;
        let ReplayForm { action } = Form::of(request).read()?;
        let dry_run = match action.as_str() {
            "preview" => true,
            "apply" => false,
            _ => return Err(Error::invalid("action", "action must be preview or apply")),
        };
        let delivery = self.deliveries.get(&id, visit.now).await?;
        let replayed = self.replayer.replay(&delivery, dry_run, context).await?;
        let path = path_of("deliveries", id.as_str());
        if dry_run {
            let heads = [&replayed.before, &replayed.after];
            let named = heads.into_iter().flatten().flat_map(all_campaigns_of);
            let names = self.campaigns.names(named).await?;
            return visit.page(&ReplayPage {
                visit,
                path,
                changes: changes(&replayed, visit, &names),
                replayed: &replayed,
            });
        }
        let text = format!(
            "The delivery was taken in again: {}.",
            words(replayed.result.as_str()).to_lowercase()
        );
        let target = match &replayed.conversation_id {
            Some(id) if replayed.after.is_some() => path_of("calls", id.as_str()),
            _ => path,
        };
        self.done(visit, &target, Notice::new(text, None, visit.now))
            .await
    }
}

/// What of a call is otherwise after a replay.
fn changes(replayed: &Replayed, visit: &Visit, names: &CampaignNames) -> Vec<(&'static str, String, String)> {
    let shown = |head: &Head| {
        let call = &head.record.call;
        let number = |number: &Option<shared::phone_number::PhoneNumber>| {
            number
                .as_ref()
                .map_or_else(String::new, |number| number.readable())
        };
        let credit = CreditShown::new(&head.credit(), names);
        [
            (
                "Started",
                visit
                    .zone
                    .local(call.started_at)
                    .strftime("%-d %b %Y, %H:%M:%S")
                    .to_string(),
            ),
            ("Customer", number(&call.customer_number)),
            ("Tracking number", number(&call.tracking_number)),
            ("Duration", clock(u64::from(call.duration_seconds))),
            ("Outcome", words(call.outcome.as_str())),
            (
                "Ended because",
                call.termination_reason.clone().unwrap_or_default(),
            ),
            ("Language", call.language.clone().unwrap_or_default()),
            ("Agent", call.agent_id.clone().unwrap_or_default()),
            (
                "Credit",
                credit
                    .campaign
                    .as_ref()
                    .map_or(credit.title().to_owned(), |(name, _)| name.clone()),
            ),
        ]
    };
    let before = replayed.before.as_ref().map(shown);
    let Some(after) = replayed.after.as_ref().map(shown) else {
        return Vec::new();
    };
    let old = |index: usize| {
        before
            .as_ref()
            .map_or(String::new(), |before| before[index].1.clone())
    };
    let all = after.into_iter().enumerate();
    all.map(|(index, (name, new))| (name, old(index), new))
        .filter(|(_, old, new)| old != new)
        .collect()
}
