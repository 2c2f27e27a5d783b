//! Calls as files: CSV for spreadsheets, NDJSON for programs.

use lambda_http::http::{HeaderValue, Response, header};
use lambda_http::{Body, Request};
use shared::api::calls::{CallView, ExportFormat, ExportRequest};
use shared::error::Error;
use shared::export::{CSV, csv_rows};
use shared::http::{large_answer, needs_compression};
use shared::query::Query;

use crate::handler::State;

impl State {
    /// A part of an export; `Link` leads to the next one. The parts together are
    /// one file: only the first one begins with the names of the columns.
    pub async fn export_calls(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let list = self.call_list(&mut query)?;
        let ExportRequest {
            format,
            limit,
            cursor,
        } = query.take()?;
        query.finish()?;
        let page = self.calls.list(&list, limit.get(), cursor.as_deref()).await?;
        let names = self.names_of(&page.entries).await?;
        let calls = page.entries.iter().map(|record| CallView::new(record, &names));
        let (bytes, content_type, name) = match format {
            ExportFormat::Csv if cursor.is_none() => (csv_rows(calls, true)?, CSV, "calls.csv"),
            ExportFormat::Csv => (
                csv_rows(calls, false)?,
                "text/csv; charset=utf-8; header=absent",
                "calls.csv",
            ),
            ExportFormat::Ndjson => (ndjson_lines(calls)?, "application/x-ndjson", "calls.ndjson"),
        };
        let mut answer =
            large_answer(request.headers(), content_type, bytes)?.ok_or_else(needs_compression)?;
        let headers = answer.headers_mut();
        let header_value = |text: String| {
            HeaderValue::try_from(text).map_err(|error| Error::internal("writing a header", error))
        };
        headers.insert(
            header::CONTENT_DISPOSITION,
            header_value(format!("attachment; filename=\"{name}\""))?,
        );
        if let Some(next) = page.next_cursor {
            let next = next_page(request.uri().query().unwrap_or_default(), &next);
            headers.insert(header::LINK, header_value(format!("<{next}>; rel=\"next\""))?);
        }
        Ok(answer)
    }
}

/// The address of the next part: this one with another cursor. Relative, since
/// only the client knows by which name it reached us.
fn next_page(query: &str, cursor: &str) -> String {
    let parameters = query.split('&').filter(|parameter| {
        let name = parameter.split('=').next().unwrap_or_default();
        !name.is_empty() && name != "cursor"
    });
    let cursor = format!("cursor={cursor}");
    let parameters: Vec<&str> = parameters.chain([cursor.as_str()]).collect();
    format!("/api/calls/export?{}", parameters.join("&"))
}

fn ndjson_lines<'a>(calls: impl Iterator<Item = CallView<'a>>) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for call in calls {
        serde_json::to_writer(&mut bytes, &call)
            .map_err(|error| Error::internal("writing a call as JSON", error))?;
        bytes.push(b'\n');
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_part_differs_in_its_cursor_alone() {
        assert_eq!(
            next_page("format=csv&cursor=old&from=2026-11-01", "new"),
            "/api/calls/export?format=csv&from=2026-11-01&cursor=new"
        );
        assert_eq!(
            next_page("format=csv&customer_number=%2B1", "new"),
            "/api/calls/export?format=csv&customer_number=%2B1&cursor=new"
        );
    }
}
