//! What a list of calls shows: its columns, its rows, and the ways on from it.

use shared::api::calls::CampaignNames;
use shared::attribution::Status;
use shared::call::CallId;
use shared::campaign::{Campaign, CampaignId, CampaignStatus};
use shared::decision::{Credit, CreditMethod};
use shared::store::calls::{CallList, CallRecord, Order, Sort};

use crate::address::{Address, path_of};
use crate::show::{When, clock, money, words};
use crate::visit::Visit;

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
    pub fn new(record: &CallRecord, visit: &Visit, names: &CampaignNames) -> Self {
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

/// The columns of a list.
pub fn columns(visit: &Visit, scope: &Scope, list: &CallList) -> Vec<Column> {
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
pub fn previous(address: &Address) -> Option<Address> {
    if address.value("cursor").is_empty() {
        return None;
    }
    let trail: Vec<&str> = address.value("trail").split('.').collect();
    let (last, rest) = trail.split_last()?;
    Some(address.with("cursor", last).with("trail", &rest.join(".")))
}

/// The next page, which knows the way back.
pub fn next(address: &Address, cursor: &str) -> Address {
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
