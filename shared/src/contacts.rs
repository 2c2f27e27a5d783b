//! Uploads of contacts: lists and files of customers that a campaign reached out to.

use std::collections::HashMap;

use jiff::Timestamp;

use crate::api::campaigns::{ContactRow, ContactsAdded, RowError};
use crate::calendar::{Moment, Zone};
use crate::campaign::{CampaignId, Contact};
use crate::error::Error;
use crate::identity::Identity;
use crate::phone_number::{Country, PhoneNumber};
use crate::store::campaigns::CampaignStore;

/// Rows of one upload.
const MAX_ROWS: usize = 10_000;
/// One row of a file: three short cells.
const MAX_ROW_BYTES: usize = 1000;
/// Bad rows that are told of; more are only counted.
const MAX_ERRORS: usize = 1000;

/// Rows with their lines, as they were given.
#[derive(Debug)]
pub struct Upload(Rows);

type Rows = Vec<(u64, Result<ContactRow, String>)>;

impl Upload {
    /// Of a list.
    #[must_use]
    pub fn of_list(contacts: Vec<ContactRow>) -> Self {
        Self((1..).zip(contacts.into_iter().map(Ok)).collect())
    }

    /// Of a CSV file with a header row.
    ///
    /// # Errors
    /// Where it is no such file.
    pub fn of_csv(bytes: &[u8]) -> Result<Self, Error> {
        read_csv(bytes).map(Self)
    }

    /// Makes contacts of a campaign of the good rows, and tells of the bad ones. Dates are
    /// read in the zone.
    ///
    /// # Errors
    /// Where there are too many rows, there is no such campaign, or the store fails.
    pub async fn keep(
        self,
        campaigns: &CampaignStore,
        campaign_id: &CampaignId,
        (country, zone): (Option<Country>, &Zone),
        by: &Identity,
        at: Timestamp,
    ) -> Result<ContactsAdded, Error> {
        if self.0.len() > MAX_ROWS {
            return Err(Error::invalid(
                "contacts",
                format!("contacts must be at most {MAX_ROWS} rows: upload the rest separately"),
            ));
        }
        let (spans, repeated, mut errors) = read_rows(self.0, country, zone);
        let contact = |span: Span| Contact {
            campaign_id: campaign_id.clone(),
            number: span.number,
            from: span.from,
            to: span.to,
            by: by.clone(),
            at,
        };
        let contacts: Vec<Contact> = spans.into_iter().map(contact).collect();
        let added = campaigns.add_contacts(campaign_id, &contacts).await?;
        let failed = errors.len();
        errors.truncate(MAX_ERRORS);
        Ok(ContactsAdded {
            added: added.added,
            updated: added.updated,
            unchanged: added.unchanged + repeated,
            failed,
            errors,
        })
    }
}

/// A row that can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    number: PhoneNumber,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

/// The rows of a file with their lines, as editors count them: comma or semicolon, quoted or
/// not, with or without a byte-order mark. A row is a line, so that a quotation mark that is
/// never closed, or a line without an end, spoils no other.
fn read_csv(bytes: &[u8]) -> Result<Rows, Error> {
    let invalid = |message: String| Error::invalid("body", message);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| invalid("the file must be UTF-8: save it again as \"CSV UTF-8\"".to_owned()))?;
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let mut lines = (1..)
        .zip(text.split(['\n', '\r']))
        .filter(|(_, line)| !line.trim().is_empty());
    let (_, first) = lines.next().unwrap_or_default();
    let delimiter = if first.contains(';') { b';' } else { b',' };
    let names = cells(first, delimiter).map_err(|reason| invalid(format!("the first row: {reason}")))?;
    let names: Vec<String> = names.iter().map(str::to_ascii_lowercase).collect();
    let columns = ["number", "from", "to"];
    if let Some(unknown) = names.iter().find(|name| !columns.contains(&name.as_str())) {
        return Err(invalid(format!(
            "the first row must name the columns number, from and to: {unknown:?} is none of them"
        )));
    }
    let [number, from, to] = columns.map(|name| names.iter().position(|other| other == name));
    if number.is_none() {
        return Err(invalid("the first row must name a column \"number\"".to_owned()));
    }
    let row = |cells: csv::StringRecord| {
        if cells.len() > names.len() {
            return Err(format!("{} cells, but {} columns", cells.len(), names.len()));
        }
        let cell = |column: Option<usize>| {
            let cell = column.and_then(|column| cells.get(column));
            cell.filter(|cell| !cell.is_empty()).map(str::to_owned)
        };
        Ok(ContactRow {
            number: cell(number).unwrap_or_default(),
            from: cell(from),
            to: cell(to),
        })
    };
    let rows = lines
        .map(|(line, text)| (line, cells(text, delimiter)))
        .filter(|(_, cells)| !matches!(cells, Ok(cells) if cells.iter().all(str::is_empty)))
        .map(|(line, cells)| (line, cells.and_then(row)));
    Ok(rows.take(MAX_ROWS + 1).collect())
}

/// The cells of a row.
fn cells(line: &str, delimiter: u8) -> Result<csv::StringRecord, String> {
    if line.len() > MAX_ROW_BYTES {
        return Err(format!("a row must be at most {MAX_ROW_BYTES} bytes long"));
    }
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .trim(csv::Trim::All)
        .from_reader(line.as_bytes());
    let mut cells = csv::StringRecord::new();
    match reader.read_record(&mut cells) {
        Ok(_) => Ok(cells),
        Err(_) => Err("this row can't be read as CSV".to_owned()),
    }
}

/// The rows that can be taken, each number once; how many say again what one
/// before them says; and those that can't.
fn read_rows(rows: Rows, country: Option<Country>, zone: &Zone) -> (Vec<Span>, usize, Vec<RowError>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut places: HashMap<PhoneNumber, (usize, u64)> = HashMap::new();
    let mut repeated = 0;
    let mut errors = Vec::new();
    for (line, row) in rows {
        let span = row.and_then(|row| read_row(row, country, zone));
        match span {
            Err(reason) => errors.push(RowError { row: line, reason }),
            Ok(span) => match places.get(&span.number) {
                None => {
                    places.insert(span.number.clone(), (spans.len(), line));
                    spans.push(span);
                }
                Some((place, _)) if spans.get(*place) == Some(&span) => repeated += 1,
                Some((_, other)) => errors.push(RowError {
                    row: line,
                    reason: format!("row {other} has the same number with other times"),
                }),
            },
        }
    }
    (spans, repeated, errors)
}

fn read_row(row: ContactRow, country: Option<Country>, zone: &Zone) -> Result<Span, String> {
    // An export marks numbers as text by an apostrophe.
    let written = row.number.strip_prefix('\'').unwrap_or(&row.number);
    let number = PhoneNumber::parse(written, country).filter(PhoneNumber::can_be_called);
    let number = number.ok_or_else(|| match country {
        Some(_) => format!("number: {:?} is no phone number", row.number),
        None => format!(
            "number: {:?} is no phone number with + and its country (national ones need DefaultCountry)",
            row.number
        ),
    })?;
    let from = row
        .from
        .as_deref()
        .map(|text| instant("from", text, zone))
        .transpose()?;
    let to = row
        .to
        .as_deref()
        .map(|text| instant("to", text, zone))
        .transpose()?;
    if from.zip(to).is_some_and(|(from, to)| to <= from) {
        return Err("to: it must be later than from".to_owned());
    }
    Ok(Span { number, from, to })
}

/// An instant, or a date: its beginning.
fn instant(field: &str, text: &str, zone: &Zone) -> Result<Timestamp, String> {
    Moment::try_from(text.to_owned())
        .and_then(|moment| moment.instant(zone))
        .map_err(|expected| format!("{field}: {text:?}: {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an upload without a country comes to: numbers, repetitions, lines of errors.
    fn told(csv: &[u8]) -> (Vec<String>, usize, Vec<u64>) {
        let (spans, repeated, errors) = read_rows(read_csv(csv).unwrap(), None, &Zone::default());
        let numbers = spans.iter().map(|span| span.number.to_string()).collect();
        (numbers, repeated, errors.iter().map(|error| error.row).collect())
    }

    #[test]
    fn a_file_is_read_as_spreadsheets_write_it() {
        let one = (vec!["+16125550187".to_owned()], 0, vec![]);
        for file in [
            "number\n+16125550187\n",
            "number\r\n+16125550187\r\n",
            "\u{feff}number\n+16125550187",
            "Number,From,To\n+1 (612) 555-0187,,\n",
            "number;from;to\n+16125550187;2026-11-01;2026-12-01\n",
            "\"number\",\"from\"\n\"+16125550187\",\"2026-11-01T00:00:00Z\"\n",
            "from,number\n2026-11-01,+16125550187\n",
            "number\n\n+16125550187\n\n",
            "number,from\n+16125550187\n",
        ] {
            assert_eq!(told(file.as_bytes()), one, "{file:?}");
        }
    }

    #[test]
    fn bad_rows_are_told_by_their_line_and_good_ones_kept() {
        let file = "number,from,to\n\
                    +16125550101,,\n\
                    n/a,,\n\
                    ,2026-11-01,\n\
                    +16125550102,yesterday,\n\
                    \"+16125550103\",\"2026-11-02\",\"2026-11-01\"\n\
                    +16125550101,,\n\
                    +16125550101,2026-11-01,\n\
                    +16125550104,2026-02-30,\n\
                    (612) 555-0105,,\n\
                    \n\
                    +16125550106,,,,\n\
                    +16125550107,,\n";
        for file in [file.to_owned(), file.replace('\n', "\r\n")] {
            let (numbers, repeated, errors) = told(file.as_bytes());
            assert_eq!(numbers, ["+16125550101", "+16125550107"]);
            assert_eq!(repeated, 1);
            assert_eq!(errors, [3, 4, 5, 6, 8, 9, 10, 12]);
        }
    }

    #[test]
    fn a_row_that_does_not_end_spoils_no_other() {
        let long = ",".repeat(MAX_ROW_BYTES + 1);
        let file = format!("number,from\n\"+16125550101\n+16125550102,\"\n{long}\n+16125550103,\n");
        let (numbers, _, errors) = told(file.as_bytes());
        assert_eq!(numbers, ["+16125550101", "+16125550102", "+16125550103"]);
        assert_eq!(errors, [4]);
        assert_eq!(told(b"number\r+16125550101\r").0, ["+16125550101"]);
    }

    #[test]
    fn a_file_without_numbers_is_refused_whole() {
        for file in [
            &b"phone\n+16125550187\n"[..],
            b"",
            b"+16125550187\n",
            b"number\n\xff\n",
            b"number,from,to,\n",
            b"number,name\n",
            &[b','; 2_000_000],
        ] {
            assert!(read_csv(file).is_err(), "{file:?}");
        }
    }

    #[test]
    fn national_numbers_are_understood_where_a_country_is_set() {
        let country = Some("US".parse().unwrap());
        let rows = read_csv(b"number\n(612) 867-5309\n867-5309\n").unwrap();
        let (spans, _, errors) = read_rows(rows, country, &Zone::default());
        let numbers: Vec<_> = spans.iter().map(|span| span.number.as_str()).collect();
        assert_eq!((numbers, errors.len()), (vec!["+16128675309"], 1));
    }
}
