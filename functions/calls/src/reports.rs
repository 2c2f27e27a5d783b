//! What calls come to.

use jiff::Timestamp;
use lambda_http::http::Response;
use lambda_http::{Body, Request};
use shared::api::calls::CallFilterRequest;
use shared::api::reports::{ReportScope, Summary, SummaryRequest, Timeseries, TimeseriesRequest};
use shared::campaign::CampaignId;
use shared::error::Error;
use shared::http::{large_json_answer, needs_compression};
use shared::query::Query;
use shared::report::GroupBy;

use crate::handler::State;

impl State {
    pub async fn summary(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let SummaryRequest { group_by } = query.take()?;
        let scope = self.report_scope(query, now)?;
        let (rows, total) = self.reporter.summary(&scope.filter, group_by).await?;
        let keys = rows.iter().filter(|_| group_by == GroupBy::Campaign);
        let campaigns = keys.filter_map(|row| CampaignId::try_from(row.key.clone()?).ok());
        let names = self.campaigns.names(campaigns).await?;
        let summary = Summary::new(&scope, &rows, total, &names);
        large_json_answer(request.headers(), &summary)?.ok_or_else(needs_compression)
    }

    pub async fn timeseries(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let TimeseriesRequest { interval } = query.take()?;
        let scope = self.report_scope(query, now)?;
        let window = (scope.from, scope.to);
        let buckets = self
            .reporter
            .timeseries(&scope.filter, window, interval, &scope.zone)
            .await?;
        let timeseries = Timeseries::new(&scope, interval, buckets);
        large_json_answer(request.headers(), &timeseries)?.ok_or_else(needs_compression)
    }

    fn report_scope(&self, mut query: Query, now: Timestamp) -> Result<ReportScope, Error> {
        let filter: CallFilterRequest = query.take()?;
        query.finish()?;
        ReportScope::new(filter, self.country, now)
    }
}
