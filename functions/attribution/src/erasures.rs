//! Erasing a customer.

use lambda_http::http::{Response, StatusCode};
use lambda_http::{Body, Request};
use shared::api::erasures::{ErasureRequest, Receipt};
use shared::decide::Decision;
use shared::erasure::customer_numbers;
use shared::error::Error;
use shared::http::{Context, json_answer, read_json};
use shared::query::Query;

use crate::handler::State;

impl State {
    pub async fn erase(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let ErasureRequest {
            customer_number,
            dry_run,
            cursor,
        } = read_json(request)?;
        let numbers = customer_numbers(&customer_number, self.country)?;
        let decision = Decision::new(context.caller()?, context.received_at, None, dry_run)?;
        let (erased, next_cursor) = self.eraser.erase(&numbers, cursor.as_deref(), &decision).await?;
        if !dry_run {
            tracing::info!(
                request_id = context.request_id,
                by = decision.by.as_str(),
                calls = erased.call_ids.len(),
                is_complete = next_cursor.is_none(),
                "erased a customer"
            );
        }
        let at = decision.at;
        let receipt = Receipt::new(&erased, next_cursor, dry_run, at, self.log_retention_days);
        json_answer(StatusCode::OK, &receipt)
    }
}
