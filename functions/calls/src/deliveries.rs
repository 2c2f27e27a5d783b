//! The delivery log.

use jiff::Timestamp;
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::deliveries::{DeliveryFilterRequest, DeliveryPage, DeliveryView};
use shared::error::Error;
use shared::http::{NO_BODY, json_answer, path_id, raw_answer};
use shared::query::{Paging, Query};
use shared::replay::kept_body;
use shared::store::deliveries::NO_DELIVERY;

use crate::handler::State;

impl State {
    pub async fn list_deliveries(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let filter: DeliveryFilterRequest = query.take()?;
        let Paging { limit, cursor } = query.take()?;
        query.finish()?;
        let page = self
            .deliveries
            .list(&filter.into_filter()?, limit.get(), cursor.as_deref(), now)
            .await?;
        let answer = DeliveryPage {
            deliveries: page.entries.iter().map(DeliveryView::new).collect(),
            next_cursor: page.next_cursor,
        };
        json_answer(StatusCode::OK, &answer)
    }

    pub async fn read_delivery(&self, request: &Request, now: Timestamp) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let delivery = self.deliveries.get(&path_id(request, NO_DELIVERY)?, now).await?;
        json_answer(StatusCode::OK, &DeliveryView::new(&delivery))
    }

    pub async fn read_raw_delivery(
        &self,
        request: &Request,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let delivery = self.deliveries.get(&path_id(request, NO_DELIVERY)?, now).await?;
        let body = kept_body(&self.calls, &self.deliveries, &delivery, now).await?;
        raw_answer(request.headers(), body.ok_or(NO_BODY)?)
    }
}
