//! Calls as files: CSV for spreadsheets, NDJSON for programs.

use lambda_http::http::{HeaderValue, Response, header};
use lambda_http::{Body, Request};
use serde_json::Value;
use shared::api::calls::{CallView, ExportFormat, ExportRequest};
use shared::error::Error;
use shared::http::large_answer;
use shared::query::Query;

use crate::handler::{State, needs_compression};

/// The columns of a CSV file, and where a call in JSON has what stands in them.
const COLUMNS: [(&str, &str); 28] = [
    ("id", "/id"),
    ("started_at", "/started_at"),
    ("duration_seconds", "/duration_seconds"),
    ("channel", "/channel"),
    ("direction", "/direction"),
    ("customer_number", "/customer_number"),
    ("tracking_number", "/tracking_number"),
    ("agent_id", "/agent_id"),
    ("agent_name", "/agent_name"),
    ("outcome", "/outcome"),
    ("termination_reason", "/termination_reason"),
    ("language", "/language"),
    ("converted", "/conversion/converted"),
    ("conversion_source", "/conversion/source"),
    ("conversion_by", "/conversion/by"),
    ("conversion_at", "/conversion/at"),
    ("conversion_amount", "/conversion/value/amount"),
    ("conversion_currency", "/conversion/value/currency"),
    ("attribution_status", "/attribution/status"),
    ("campaign_id", "/attribution/campaign_id"),
    ("campaign_name", "/attribution/campaign_name"),
    ("attribution_method", "/attribution/method"),
    ("attribution_by", "/attribution/by"),
    ("attribution_at", "/attribution/at"),
    ("has_transcript", "/has_transcript"),
    ("arrived_by", "/arrived_by"),
    ("received_at", "/received_at"),
    ("updated_at", "/updated_at"),
];

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
            ExportFormat::Csv if cursor.is_none() => (
                csv_rows(calls, true)?,
                "text/csv; charset=utf-8; header=present",
                "calls.csv",
            ),
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

/// <https://www.rfc-editor.org/rfc/rfc4180>
fn csv_rows<'a>(calls: impl Iterator<Item = CallView<'a>>, with_header: bool) -> Result<Vec<u8>, Error> {
    let failed = |error| Error::internal("writing calls as CSV", error);
    let mut writer = csv::WriterBuilder::new()
        .terminator(csv::Terminator::CRLF)
        .from_writer(Vec::new());
    if with_header {
        writer
            .write_record(COLUMNS.map(|(name, _)| name))
            .map_err(failed)?;
    }
    for call in calls {
        let call =
            serde_json::to_value(&call).map_err(|error| Error::internal("writing a call as JSON", error))?;
        let cells = COLUMNS.map(|(_, pointer)| harmless(&cell(call.pointer(pointer))));
        writer.write_record(cells).map_err(failed)?;
    }
    writer
        .into_inner()
        .map_err(|error| Error::internal("writing calls as CSV", error.into_error()))
}

/// What stands in a cell: nothing for null, and for what is within it.
fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

/// A cell that no spreadsheet takes for a formula: an apostrophe makes text of
/// what would begin one. Also of a phone number, which would otherwise lose its
/// plus sign; and within a cell behind what some countries' spreadsheets take for
/// the end of a cell.
///
/// <https://owasp.org/www-community/attacks/CSV_Injection>
fn harmless(cell: &str) -> String {
    let mut written = String::with_capacity(cell.len() + 1);
    let mut at_start = true;
    for character in cell.chars() {
        if at_start && ['=', '+', '-', '@'].contains(&character) {
            written.push('\'');
        }
        let is_separator = [';', '\t', '\r', '\n'].contains(&character);
        at_start = is_separator || (at_start && (character == ' ' || character == '"'));
        written.push(character);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_is_a_formula() {
        for (cell, written) in [
            ("", ""),
            ("done", "done"),
            ("1=1", "1=1"),
            ("=1+1", "'=1+1"),
            ("+16125550187", "'+16125550187"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "\t'=1"),
            (" =1", " '=1"),
            ("\"=1", "\"'=1"),
            ("x;=1; @2", "x;'=1; '@2"),
            ("two\n=lines", "two\n'=lines"),
            ("a - b = c", "a - b = c"),
        ] {
            assert_eq!(harmless(cell), written);
        }
    }

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
