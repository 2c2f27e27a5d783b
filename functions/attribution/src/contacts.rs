//! The customers that a campaign reached out to.

use std::collections::HashMap;

use jiff::Timestamp;
use lambda_http::http::{Response, StatusCode, header};
use lambda_http::{Body, Request};
use shared::api::campaigns::{
    ContactPage, ContactRow, ContactView, ContactsAdded, ContactsRemoved, NewContacts, RowError,
};
use shared::calendar::{Moment, Zone};
use shared::campaign::{CampaignId, Contact};
use shared::error::Error;
use shared::http::{Context, json_answer, path_parameter, read_json};
use shared::identity::Identity;
use shared::phone_number::{Country, PhoneNumber};
use shared::query::{Paging, Query};

use crate::campaigns::{campaign_id, no_number};
use crate::handler::State;

/// Rows of one upload.
const MAX_ROWS: usize = 10_000;
/// Contacts that one request removes.
const MAX_REMOVED: usize = 10_000;
/// Bad rows that are told of; more are only counted by their absence.
const MAX_ERRORS: usize = 1000;

/// A row that can be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    number: PhoneNumber,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
}

impl State {
    pub async fn list_contacts(&self, request: &Request) -> Result<Response<Body>, Error> {
        let mut query = Query::of(request);
        let Paging { limit, cursor } = query.take()?;
        query.finish()?;
        let page = self
            .campaigns
            .contacts(&campaign_id(request)?, limit.get(), cursor.as_deref())
            .await?;
        let answer = ContactPage {
            contacts: page.entries.iter().map(ContactView::new).collect(),
            next_cursor: page.next_cursor,
        };
        json_answer(StatusCode::OK, &answer)
    }

    pub async fn read_contact(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let number = self.contact_number(request)?;
        let contact = self.campaigns.contact(&campaign_id(request)?, &number).await?;
        json_answer(StatusCode::OK, &ContactView::new(&contact))
    }

    /// Good rows are kept, bad ones told of.
    pub async fn add_contacts(&self, request: &Request, context: &Context) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id = campaign_id(request)?;
        let rows = if is_csv(request) {
            read_csv(request.body().as_ref())?
        } else {
            let NewContacts { contacts } = read_json(request)?;
            (1..).zip(contacts.into_iter().map(Ok)).collect()
        };
        if rows.len() > MAX_ROWS {
            return Err(Error::invalid(
                "contacts",
                format!("contacts must be at most {MAX_ROWS} rows: upload the rest separately"),
            ));
        }
        let (spans, repeated, mut errors) = read_rows(rows, self.country);
        let (by, at) = (context.caller()?, context.received_at);
        let contacts: Vec<Contact> = spans
            .into_iter()
            .map(|span| contact(span, &campaign_id, by, at))
            .collect();
        let added = self.campaigns.add_contacts(&campaign_id, &contacts).await?;
        let failed = errors.len();
        errors.truncate(MAX_ERRORS);
        let answer = ContactsAdded {
            added: added.added,
            updated: added.updated,
            unchanged: added.unchanged + repeated,
            failed,
            errors,
        };
        json_answer(StatusCode::OK, &answer)
    }

    pub async fn remove_contact(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id = campaign_id(request)?;
        let number = self.contact_number(request)?;
        let contact = self.campaigns.contact(&campaign_id, &number).await?;
        self.campaigns.remove_contacts(&campaign_id, &[number]).await?;
        json_answer(StatusCode::OK, &ContactView::new(&contact))
    }

    /// Removes as many as one request can; `remaining` tells whether to ask again.
    pub async fn remove_all_contacts(&self, request: &Request) -> Result<Response<Body>, Error> {
        Query::of(request).finish()?;
        let campaign_id = campaign_id(request)?;
        let page = self.campaigns.contacts(&campaign_id, MAX_REMOVED, None).await?;
        let numbers: Vec<PhoneNumber> = page.entries.into_iter().map(|contact| contact.number).collect();
        let removed = self.campaigns.remove_contacts(&campaign_id, &numbers).await?;
        let remaining = self.campaigns.get(&campaign_id).await?.contact_count;
        json_answer(StatusCode::OK, &ContactsRemoved { removed, remaining })
    }

    fn contact_number(&self, request: &Request) -> Result<PhoneNumber, Error> {
        PhoneNumber::parse(&path_parameter(request, "number")?, self.country).ok_or_else(no_number)
    }
}

fn contact(span: Span, campaign_id: &CampaignId, by: &Identity, at: Timestamp) -> Contact {
    Contact {
        campaign_id: campaign_id.clone(),
        number: span.number,
        from: span.from,
        to: span.to,
        by: by.clone(),
        at,
    }
}

fn is_csv(request: &Request) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("text/csv"))
}

type Rows = Vec<(u64, Result<ContactRow, String>)>;

/// The rows of a file with their lines: comma or semicolon, quoted or not, with
/// or without a byte-order mark.
fn read_csv(bytes: &[u8]) -> Result<Rows, Error> {
    let invalid = |message: String| Error::invalid("body", message);
    let text = std::str::from_utf8(bytes)
        .map_err(|_| invalid("the file must be UTF-8: save it again as \"CSV UTF-8\"".to_owned()))?;
    let text = text.trim_start_matches('\u{feff}');
    let first = text.lines().next().unwrap_or_default();
    let delimiter = if first.contains(';') { b';' } else { b',' };
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let headers = reader
        .headers()
        .map_err(|error| invalid(format!("the file can't be read as CSV: {error}")))?
        .clone();
    let names: Vec<String> = headers.iter().map(str::to_ascii_lowercase).collect();
    if let Some(unknown) = names
        .iter()
        .find(|name| !["number", "from", "to"].contains(&name.as_str()))
    {
        return Err(invalid(format!(
            "the first row must name the columns number, from and to: {unknown:?} is none of them"
        )));
    }
    let column = |name: &str| names.iter().position(|other| other == name);
    let number =
        column("number").ok_or_else(|| invalid("the first row must name a column \"number\"".to_owned()))?;
    let (from, to) = (column("from"), column("to"));
    let mut lines = Lines::of(text);
    let mut rows = Rows::new();
    for record in reader.records() {
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = lines.at(error.position());
                rows.push((line, Err("this row can't be read as CSV".to_owned())));
                continue;
            }
        };
        let line = lines.at(record.position());
        if record.iter().all(str::is_empty) {
            continue;
        }
        let cell = |index: Option<usize>| {
            let cell = index.and_then(|index| record.get(index));
            cell.filter(|cell| !cell.is_empty()).map(str::to_owned)
        };
        let row = if record.len() > names.len() {
            Err(format!("{} cells, but {} columns", record.len(), names.len()))
        } else {
            Ok(ContactRow {
                number: cell(Some(number)).unwrap_or_default(),
                from: cell(from),
                to: cell(to),
            })
        };
        rows.push((line, row));
        if rows.len() > MAX_ROWS {
            break;
        }
    }
    Ok(rows)
}

/// Counts lines as editors do; the reader counts a record that follows a
/// carriage return one line too early.
struct Lines<'a> {
    text: &'a str,
    counted: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn of(text: &'a str) -> Self {
        Self {
            text,
            counted: 0,
            line: 1,
        }
    }

    /// The line of what begins at a position, which lies behind the one before.
    fn at(&mut self, position: Option<&csv::Position>) -> u64 {
        let begins = position.and_then(|position| usize::try_from(position.byte()).ok());
        let rest = begins
            .and_then(|begins| self.text.get(begins..))
            .unwrap_or_default();
        let content = self.text.len() - rest.trim_start_matches(['\r', '\n']).len();
        let passed = self.text.get(self.counted..content).unwrap_or_default();
        self.line += passed.matches('\n').count() as u64;
        self.counted = self.counted.max(content);
        self.line
    }
}

/// The rows that can be taken, each number once; how many say again what one
/// before them says; and those that can't.
fn read_rows(rows: Rows, country: Option<Country>) -> (Vec<Span>, usize, Vec<RowError>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut places: HashMap<PhoneNumber, (usize, u64)> = HashMap::new();
    let mut repeated = 0;
    let mut errors = Vec::new();
    for (line, row) in rows {
        let span = row.and_then(|row| read_row(row, country));
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

fn read_row(row: ContactRow, country: Option<Country>) -> Result<Span, String> {
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
        .map(|text| instant("from", text))
        .transpose()?;
    let to = row.to.as_deref().map(|text| instant("to", text)).transpose()?;
    if from.zip(to).is_some_and(|(from, to)| to <= from) {
        return Err("to: it must be later than from".to_owned());
    }
    Ok(Span { number, from, to })
}

/// An instant, or a date: its beginning in UTC.
fn instant(field: &str, text: &str) -> Result<Timestamp, String> {
    Moment::try_from(text.to_owned())
        .and_then(|moment| moment.instant(&Zone::default()))
        .map_err(|expected| format!("{field}: {text:?}: {expected}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an upload without a country comes to: numbers, repetitions, lines of errors.
    fn told(csv: &[u8]) -> (Vec<String>, usize, Vec<u64>) {
        let (spans, repeated, errors) = read_rows(read_csv(csv).unwrap(), None);
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
    fn a_file_without_numbers_is_refused_whole() {
        for file in [
            &b"phone\n+16125550187\n"[..],
            b"",
            b"+16125550187\n",
            b"number\n\xff\n",
        ] {
            assert!(read_csv(file).is_err(), "{file:?}");
        }
    }

    #[test]
    fn national_numbers_are_understood_where_a_country_is_set() {
        let country = Some("US".parse().unwrap());
        let rows = read_csv(b"number\n(612) 867-5309\n867-5309\n").unwrap();
        let (spans, _, errors) = read_rows(rows, country);
        let numbers: Vec<_> = spans.iter().map(|span| span.number.as_str()).collect();
        assert_eq!((numbers, errors.len()), (vec!["+16128675309"], 1));
    }
}
