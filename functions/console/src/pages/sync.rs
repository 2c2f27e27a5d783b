//! Whether every call is here: the last run of sync, and the ledger.

use askama::Template;
use lambda_http::Body;
use lambda_http::http::Response;
use shared::api::sync::{LedgerRequest, SyncStatus, SyncView};
use shared::completeness::Run;
use shared::error::Error;

use crate::handler::State;
use crate::show::{When, ago, count, counted};
use crate::visit::Visit;

#[derive(Template)]
#[template(path = "sync.html")]
struct SyncPage<'a> {
    visit: &'a Visit,
    view: SyncView<'a>,
    /// Those that are missing, over all days that are shown.
    missing: u64,
    unfinished: u64,
    unchecked: usize,
}

impl SyncPage<'_> {
    fn when(&self, at: &jiff::Timestamp) -> When {
        When::new(*at, &self.visit.zone, self.visit.now)
    }

    fn ago(&self, at: &jiff::Timestamp) -> String {
        ago(*at, self.visit.now)
    }

    fn count(&self, number: &u64) -> String {
        count(*number)
    }

    fn counted(&self, number: &u64, thing: &str) -> String {
        counted(*number, thing)
    }

    fn run(&self) -> Option<&Run> {
        self.view.status.last_run
    }

    /// Whether the figures are of long ago, by the usual rhythm.
    fn is_behind(&self) -> bool {
        let until = self.view.status.compared_until;
        until.is_none_or(|until| self.visit.now.duration_since(until).as_hours() >= 2)
    }
}

impl State {
    pub async fn sync_page(&self, visit: &Visit) -> Result<Response<Body>, Error> {
        let (from, to) = LedgerRequest::default().days(visit.now)?;
        let (state, rows) = tokio::try_join!(self.sync.state(), self.sync.ledger(from, to))?;
        // Only a function with the key knows whether there is one; a run tells it, too.
        let status = SyncStatus::new(&state, state.last_run.is_some(), visit.now);
        let view = SyncView::new(status, &state, &rows)?;
        let sum = |of: fn(&shared::api::sync::LedgerRowView<'_>) -> u64| view.ledger.iter().map(of).sum();
        visit.page(&SyncPage {
            visit,
            missing: sum(|row| row.missing),
            unfinished: sum(|row| row.unfinished),
            unchecked: view.ledger.iter().filter(|row| !row.checkable).count(),
            view,
        })
    }
}
