//! The delivery log.

use jiff::Timestamp;
use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::deliveries::{DeliveryFilterRequest, DeliveryPage, DeliveryView};
use shared::error::Error;
use shared::http::{json_answer, path_parameter};
use shared::query::{Paging, Query};
use shared::store::deliveries::{DeliveryId, KeptBody};

use crate::handler::{NO_BODY, State, raw_answer};

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
        let delivery = self.deliveries.get(&delivery_id(request)?, now).await?;
        json_answer(StatusCode::OK, &DeliveryView::new(&delivery))
    }

    pub async fn read_raw_delivery(
        &self,
        request: &Request,
        now: Timestamp,
    ) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let delivery = self.deliveries.get(&delivery_id(request)?, now).await?;
        let body = match (delivery.kept_body, &delivery.conversation_id) {
            (KeptBody::InLog, _) => Some(self.deliveries.body(&delivery).await?),
            (KeptBody::WithCall, Some(id)) => self.calls.body(id, &delivery.body_sha256).await?,
            (KeptBody::WithCall, None) | (KeptBody::No, _) => None,
        };
        raw_answer(request.headers(), body.ok_or(NO_BODY)?)
    }
}

/// An id that is none is the id of nothing.
fn delivery_id(request: &Request) -> Result<DeliveryId, Error> {
    DeliveryId::try_from(path_parameter(request, "id")?).map_err(|_| Error::NotFound {
        message: "there is no such delivery: check the id",
    })
}
