//! Calls as files for spreadsheets.

use serde_json::Value;

use crate::api::calls::CallView;
use crate::error::Error;

/// What such a file is.
pub const CSV: &str = "text/csv; charset=utf-8; header=present";

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

/// Calls as CSV, with or without the names of the columns.
///
/// <https://www.rfc-editor.org/rfc/rfc4180>
///
/// # Errors
/// When a call can't be written.
pub fn csv_rows<'a>(calls: impl Iterator<Item = CallView<'a>>, with_header: bool) -> Result<Vec<u8>, Error> {
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
}
