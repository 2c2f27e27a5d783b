//! Many calls at once: assigning them, with a preview and a way back, and asking
//! the rules again.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use askama::Template;
use jiff::Timestamp;
use jiff::civil::Date;
use lambda_http::Body;
use lambda_http::Request;
use lambda_http::http::Response;
use serde::Deserialize;
use shared::api::calls::CampaignNames;
use shared::api::decisions::read_call_ids;
use shared::api::window;
use shared::calendar::Moment;
use shared::campaign::CampaignId;
use shared::decide::{Decision, Moved, NO_ASSIGNMENT, Outcome, OutcomeResult, Target};
use shared::decision::AssignmentId;
use shared::error::Error;
use shared::http::path_id;
use shared::store::calls::CallList;

use crate::address::Address;
use crate::form::Form;
use crate::handler::State;
use crate::pages::call_table::Scope;
use crate::pages::calls::end_of_day;
use crate::show::{count, counted};
use crate::visit::{Notice, Undo, Visit};

/// How long one request goes on with the next page: the gateway gives up after 30
/// seconds.
const TIME: Duration = Duration::from_secs(15);
/// Calls that a preview looks at.
const MAX_PREVIEWED: usize = 2000;

/// Which calls are to be credited to whom.
#[derive(Deserialize)]
struct AssignmentForm {
    /// A campaign, or `none`.
    campaign_id: Option<String>,
    /// All calls of this list, by the query string of its page.
    filter: Option<String>,
    /// `all`, `campaign` or `open`: which page that is.
    scope: Option<String>,
    /// The campaign of that page.
    scope_id: Option<CampaignId>,
    /// Whether these, and not the named ones.
    all_matching: Option<String>,
    reason: Option<String>,
    return_to: Option<String>,
    /// Where an assignment that took too long goes on.
    cursor: Option<String>,
    /// How many calls it assigned by then, and how many it could not.
    #[serde(default)]
    assigned: u64,
    #[serde(default)]
    failed: u64,
}

/// The calls of an assignment.
enum Which {
    Named(Vec<String>),
    Matching(CallList),
}

/// What an assignment, or undoing it, came to.
#[derive(Default)]
struct Sum {
    assigned: u64,
    unchanged: u64,
    changed_since: u64,
    failed: u64,
    not_found: u64,
    /// The campaigns that calls leave, and how many leave them.
    from: BTreeMap<Option<CampaignId>, u64>,
}

impl Sum {
    fn add(&mut self, outcomes: &[Outcome]) {
        for outcome in outcomes {
            match outcome.result {
                OutcomeResult::Assigned => {
                    self.assigned += 1;
                    *self.from.entry(outcome.from.clone()).or_default() += 1;
                }
                OutcomeResult::Unchanged => self.unchanged += 1,
                OutcomeResult::ChangedSince => self.changed_since += 1,
                OutcomeResult::Failed => self.failed += 1,
                OutcomeResult::NotFound => self.not_found += 1,
            }
        }
    }

    /// What is to be said beside the calls that are as decided now.
    fn rest(&self) -> String {
        let parts = [
            (self.unchanged, "was so before", "were so before"),
            (
                self.changed_since,
                "was decided about since and stays",
                "were decided about since and stay",
            ),
            (self.not_found, "is not here", "are not here"),
            (
                self.failed,
                "could not be changed: try again",
                "could not be changed: try again",
            ),
        ];
        let parts = parts.into_iter().filter(|part| part.0 > 0);
        parts
            .map(|(number, one, many)| match number {
                1 => format!(" 1 call {one}."),
                _ => format!(" {} calls {many}.", count(number)),
            })
            .collect()
    }
}

#[derive(Template)]
#[template(path = "assign_preview.html")]
struct Preview<'a> {
    visit: &'a Visit,
    /// The campaign; `None` for nobody.
    target: Option<String>,
    campaign_id: &'a str,
    sum: Sum,
    /// Whether there are more calls than the preview looked at.
    is_cut: bool,
    names: CampaignNames,
    call_ids: &'a [String],
    filter: &'a str,
    scope: &'a str,
    scope_id: &'a str,
    reason: &'a str,
    return_to: &'a str,
}

#[derive(Template)]
#[template(path = "assign_more.html")]
pub struct More<'a> {
    pub visit: &'a Visit,
    pub title: String,
    pub action: &'a str,
    pub fields: Vec<(&'a str, String)>,
}

impl Preview<'_> {
    fn calls(&self) -> String {
        let more = if self.is_cut { "more than " } else { "" };
        format!("{more}{}", counted(self.sum.assigned, "call"))
    }

    fn leaving(&self) -> Vec<(String, String)> {
        let name = |id: &Option<CampaignId>| match id {
            None => "No campaign".to_owned(),
            Some(id) => self.names.get(id).cloned().unwrap_or_else(|| id.to_string()),
        };
        let leaving = self.sum.from.iter();
        leaving.map(|(id, number)| (name(id), count(*number))).collect()
    }
}

impl State {
    pub async fn preview_assignment(
        &self,
        request: &Request,
        visit: &Visit,
    ) -> Result<Response<Body>, Error> {
        let mut form = Form::of(request);
        let call_ids = form.take_all("call_id");
        let form: AssignmentForm = form.read()?;
        let campaign_id = form.campaign_id.clone().ok_or_else(no_campaign)?;
        let target = self.target(campaign_id.clone()).await?;
        let which = self.which(visit, &form, call_ids.clone())?;
        let decision = visit.decision(form.reason.clone(), true)?;
        let mut sum = Sum::default();
        let begun = Instant::now();
        let mut is_cut = false;
        match &which {
            Which::Named(ids) => {
                let ids = read_call_ids(ids.clone())?;
                let id = AssignmentId::new(visit.now);
                sum.add(&self.decider.assign_all(&ids, &target, &id, &decision).await?);
            }
            Which::Matching(list) => {
                let mut cursor = None;
                let mut seen = 0;
                loop {
                    let (_, page) = self
                        .decider
                        .assign_matching(list, cursor.as_deref(), &target, &decision)
                        .await?;
                    sum.add(&page.entries);
                    seen += page.entries.len();
                    cursor = page.next_cursor;
                    is_cut = cursor.is_some();
                    if !is_cut || seen >= MAX_PREVIEWED || begun.elapsed() > TIME {
                        break;
                    }
                }
            }
        }
        let target_id = match &target {
            Target::Campaign(id) => id.clone(),
            Target::Automatic => None,
        };
        let named = sum.from.keys().flatten().cloned().chain(target_id.clone());
        let names = self.campaigns.names(named).await?;
        let return_to = visit.back_or("/unattributed");
        let is_matching = matches!(which, Which::Matching(_));
        visit.page(&Preview {
            visit,
            target: target_id.map(|id| names.get(&id).cloned().unwrap_or_default()),
            campaign_id: &campaign_id,
            sum,
            is_cut,
            names,
            call_ids: if is_matching { &[] } else { &call_ids },
            filter: form.filter.as_deref().filter(|_| is_matching).unwrap_or_default(),
            scope: form.scope.as_deref().unwrap_or_default(),
            scope_id: form.scope_id.as_ref().map_or("", |id| id.as_str()),
            reason: form.reason.as_deref().unwrap_or_default(),
            return_to: &return_to,
        })
    }

    pub async fn assign_calls(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let mut form = Form::of(request);
        let call_ids = form.take_all("call_id");
        let form: AssignmentForm = form.read()?;
        let campaign_id = form.campaign_id.clone().ok_or_else(no_campaign)?;
        let target = self.target(campaign_id.clone()).await?;
        let decision = visit.decision(form.reason.clone(), false)?;
        let mut sum = Sum {
            assigned: form.assigned,
            failed: form.failed,
            ..Sum::default()
        };
        let id = match self.which(visit, &form, call_ids)? {
            Which::Named(ids) => {
                let ids = read_call_ids(ids)?;
                let id = AssignmentId::new(visit.now);
                sum.add(&self.decider.assign_all(&ids, &target, &id, &decision).await?);
                id
            }
            Which::Matching(list) => {
                let (id, cursor) = self
                    .assign_pages(&list, &form, &target, &decision, &mut sum)
                    .await?;
                if let Some(cursor) = cursor {
                    let text = |text: &Option<String>| text.clone().unwrap_or_default();
                    let scope_id = form.scope_id.as_ref().map(ToString::to_string);
                    return visit.page(&More {
                        visit,
                        title: format!("{} so far", counted(sum.assigned, "call")),
                        action: "/assignments",
                        fields: vec![
                            ("campaign_id", campaign_id),
                            ("filter", text(&form.filter)),
                            ("scope", text(&form.scope)),
                            ("scope_id", scope_id.unwrap_or_default()),
                            ("all_matching", "yes".to_owned()),
                            ("reason", text(&form.reason)),
                            ("return_to", text(&form.return_to)),
                            ("cursor", cursor),
                            ("assigned", sum.assigned.to_string()),
                            ("failed", sum.failed.to_string()),
                        ],
                    });
                }
                id
            }
        };
        let to = match &target {
            Target::Campaign(Some(id)) => {
                let names = self.campaigns.names([id.clone()]).await?;
                names.get(id).cloned().unwrap_or_else(|| id.to_string())
            }
            _ => "no campaign".to_owned(),
        };
        let verb = if sum.assigned == 1 { "is" } else { "are" };
        let text = format!(
            "{} {verb} credited to {to}.{}",
            counted(sum.assigned, "call"),
            sum.rest()
        );
        let undo = (sum.assigned > 0).then(|| Undo {
            action: format!("/assignments/{id}/undo"),
            fields: Vec::new(),
        });
        let target = return_to(visit, form.return_to);
        self.done(visit, &target, Notice::new(text, undo, visit.now))
            .await
    }

    /// Page by page, as long as there is time and the store answers; where it goes on.
    async fn assign_pages(
        &self,
        list: &CallList,
        form: &AssignmentForm,
        target: &Target,
        decision: &Decision,
        sum: &mut Sum,
    ) -> Result<(AssignmentId, Option<String>), Error> {
        let begun = Instant::now();
        let mut cursor = form.cursor.clone();
        let mut assigned_by = None;
        loop {
            let page = self
                .decider
                .assign_matching(list, cursor.as_deref(), target, decision)
                .await;
            let (id, page) = match (page, assigned_by) {
                (Ok(page), _) => page,
                // What was assigned is told of, and can be undone.
                (Err(error), Some(id)) => {
                    tracing::error!(%error, "an assignment was interrupted");
                    return Ok((id, cursor));
                }
                (Err(error), None) => return Err(error),
            };
            sum.add(&page.entries);
            cursor = page.next_cursor;
            if cursor.is_none() || begun.elapsed() > TIME {
                return Ok((id, cursor));
            }
            assigned_by = Some(id);
        }
    }

    pub async fn undo_assignment(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let id: AssignmentId = path_id(request, NO_ASSIGNMENT)?;
        let UndoForm {
            return_to: target,
            cursor,
            undone,
            changed_since,
            failed,
        } = Form::of(request).read()?;
        let decision = visit.decision(None, false)?;
        let begun = Instant::now();
        let mut cursor = cursor;
        let mut sum = Sum {
            assigned: undone,
            changed_since,
            failed,
            ..Sum::default()
        };
        let target = return_to(visit, target);
        loop {
            let page = self.decider.undo(&id, cursor.as_deref(), &decision).await?;
            sum.add(&page.entries);
            match page.next_cursor {
                None => break,
                Some(next) if begun.elapsed() > TIME => {
                    return visit.page(&More {
                        visit,
                        title: format!("{} so far", counted(sum.assigned, "call")),
                        action: visit.address.path(),
                        fields: vec![
                            ("cursor", next),
                            ("undone", sum.assigned.to_string()),
                            ("changed_since", sum.changed_since.to_string()),
                            ("failed", sum.failed.to_string()),
                            ("return_to", target),
                        ],
                    });
                }
                next => cursor = next,
            }
        }
        let verb = if sum.assigned == 1 { "is" } else { "are" };
        let text = format!(
            "Undone: {} {verb} as before.{}",
            counted(sum.assigned, "call"),
            sum.rest()
        );
        self.done(visit, &target, Notice::new(text, None, visit.now))
            .await
    }

    /// Which calls a form is about.
    fn which(&self, visit: &Visit, form: &AssignmentForm, call_ids: Vec<String>) -> Result<Which, Error> {
        if form.all_matching.is_none() {
            if call_ids.is_empty() {
                return Err(Error::invalid("call_id", "select the calls first"));
            }
            return Ok(Which::Named(call_ids));
        }
        let scope = match (form.scope.as_deref(), &form.scope_id) {
            (Some("all"), _) => Scope::All,
            (Some("open"), _) => Scope::Open,
            (Some("campaign"), Some(id)) => Scope::Campaign(id.clone()),
            // Nothing that is left out may mean all calls there are.
            _ => {
                let must = "scope must be all, open, or campaign with its scope_id";
                return Err(Error::invalid("scope", must));
            }
        };
        let address = Address::with_query("/calls", form.filter.as_deref().unwrap_or_default());
        let mut list = self.list_of(visit, &address, &scope)?;
        // In the order of time, so that it needs no window and what is done leaves no gap.
        list = CallList::latest_first(list.filter);
        Ok(Which::Matching(list))
    }
}

#[derive(Deserialize)]
struct UndoForm {
    return_to: Option<String>,
    cursor: Option<String>,
    #[serde(default)]
    undone: u64,
    #[serde(default)]
    changed_since: u64,
    #[serde(default)]
    failed: u64,
}

fn return_to(visit: &Visit, wanted: Option<String>) -> String {
    let own = wanted.and_then(|path| visit.origin.own_path(&path));
    own.unwrap_or_else(|| visit.back_or("/unattributed"))
}

fn no_campaign() -> Error {
    Error::invalid("campaign_id", "choose a campaign first")
}

// ---------------------------------------------------------- asking the rules again

#[derive(Deserialize)]
struct ReattributionForm {
    from: Moment,
    /// The last day; up to now where neither is given.
    through: Option<Date>,
    /// The first instant that does not count, once it is settled.
    to: Option<Moment>,
    return_to: Option<String>,
    cursor: Option<String>,
    #[serde(default)]
    moved: u64,
}

#[derive(Template)]
#[template(path = "reattribute_preview.html")]
struct ReattributionPreview<'a> {
    visit: &'a Visit,
    span: (Timestamp, Timestamp),
    examined: u64,
    manual_skipped: u64,
    moved: Vec<(String, String, u64, u64)>,
    moved_count: u64,
    is_cut: bool,
    return_to: String,
}

impl State {
    pub async fn preview_reattribution(
        &self,
        request: &Request,
        visit: &Visit,
    ) -> Result<Response<Body>, Error> {
        let form: ReattributionForm = Form::of(request).read()?;
        let span = span(visit, &form)?;
        let decision = visit.decision(None, true)?;
        let begun = Instant::now();
        let (mut examined, mut manual_skipped) = (0, 0);
        let mut moves: BTreeMap<(Option<CampaignId>, Option<CampaignId>), (u64, u64)> = BTreeMap::new();
        let mut cursor = None;
        loop {
            let (_, sum, next) = self
                .decider
                .reattribute(span, cursor.as_deref(), &decision)
                .await?;
            examined += sum.examined as u64;
            manual_skipped += sum.manual_skipped as u64;
            for Moved {
                from, to, converted, ..
            } in sum.moved
            {
                let (calls, conversions) = moves.entry((from, to)).or_default();
                *calls += 1;
                *conversions += u64::from(converted);
            }
            cursor = next;
            if cursor.is_none() || begun.elapsed() > TIME {
                break;
            }
        }
        let mut named = Vec::new();
        for (from, to) in moves.keys() {
            named.extend([from, to].into_iter().flatten().cloned());
        }
        let names = self.campaigns.names(named).await?;
        let name = |id: Option<CampaignId>| match id {
            None => "No campaign".to_owned(),
            Some(id) => names.get(&id).cloned().unwrap_or_else(|| id.to_string()),
        };
        let moved: Vec<_> = moves
            .into_iter()
            .map(|((from, to), (calls, conversions))| (name(from), name(to), calls, conversions))
            .collect();
        visit.page(&ReattributionPreview {
            visit,
            span,
            examined,
            manual_skipped,
            moved_count: moved.iter().map(|moved| moved.2).sum(),
            moved,
            is_cut: cursor.is_some(),
            return_to: visit.back_or("/campaigns"),
        })
    }

    pub async fn reattribute_calls(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let form: ReattributionForm = Form::of(request).read()?;
        let span = span(visit, &form)?;
        let decision = visit.decision(None, false)?;
        let begun = Instant::now();
        let mut cursor = form.cursor;
        let mut moved = form.moved;
        let mut failed = 0;
        let id = loop {
            let (id, sum, next) = self
                .decider
                .reattribute(span, cursor.as_deref(), &decision)
                .await?;
            moved += sum.moved.len() as u64;
            failed += sum.failed.len();
            match next {
                None => break id,
                Some(next) if begun.elapsed() > TIME => {
                    return visit.page(&More {
                        visit,
                        title: format!("{} moved so far", counted(moved, "call")),
                        action: "/reattributions",
                        fields: vec![
                            ("from", span.0.to_string()),
                            ("to", span.1.to_string()),
                            ("cursor", next),
                            ("moved", moved.to_string()),
                            ("return_to", form.return_to.unwrap_or_default()),
                        ],
                    });
                }
                next => cursor = next,
            }
        };
        let rest = match failed {
            0 => String::new(),
            failed => format!(" The rules could not be asked about {failed} of them: try again."),
        };
        let verb = if moved == 1 { "has" } else { "have" };
        let text = format!("{} {verb} moved.{rest}", counted(moved, "call"));
        let undo = (moved > 0).then(|| Undo {
            action: format!("/assignments/{id}/undo"),
            fields: Vec::new(),
        });
        let target = return_to(visit, form.return_to);
        self.done(visit, &target, Notice::new(text, undo, visit.now))
            .await
    }
}

/// The calls of which time the rules are asked about.
fn span(visit: &Visit, form: &ReattributionForm) -> Result<(Timestamp, Timestamp), Error> {
    let to = match (form.to, form.through) {
        (Some(to), _) => to,
        (None, Some(day)) => Moment::Instant(end_of_day(day, &visit.zone)?),
        (None, None) => Moment::Instant(visit.now),
    };
    window(form.from, to, &visit.zone)
}
