//! Erasing a customer: first what would go, then the receipt.

use std::time::{Duration, Instant};

use askama::Template;
use lambda_http::http::Response;
use lambda_http::{Body, Request};
use serde::Deserialize;
use shared::api::erasures::{Receipt, Remainder};
use shared::erasure::{Erased, customer_numbers};
use shared::error::Error;
use shared::phone_number::PhoneNumber;

use crate::form::Form;
use crate::handler::State;
use crate::pages::assigning::More;
use crate::show::{counted, words};
use crate::visit::Visit;

/// How long one request begins with another page; each may take half of what the gateway waits.
const TIME: Duration = Duration::from_secs(8);

#[derive(Deserialize)]
struct ErasureForm {
    customer_number: String,
    /// Where an erasure that took too long goes on.
    cursor: Option<String>,
    return_to: Option<String>,
    /// What it came to by then.
    #[serde(default)]
    calls: u64,
    #[serde(default)]
    bodies: u64,
    #[serde(default)]
    contacts: u64,
    #[serde(default)]
    deliveries: u64,
}

/// What an erasure comes to.
#[derive(Default)]
struct Counts {
    calls: u64,
    bodies: u64,
    contacts: u64,
    deliveries: u64,
}

#[derive(Template)]
#[template(path = "erase_preview.html")]
struct Preview<'a> {
    visit: &'a Visit,
    number: String,
    counts: Counts,
    /// Whether there is more than was counted.
    is_cut: bool,
    return_to: String,
}

#[derive(Template)]
#[template(path = "erased.html")]
struct ErasedPage<'a> {
    visit: &'a Visit,
    number: String,
    counts: Counts,
    call_ids: Vec<String>,
    remains: Vec<Remainder>,
}

/// A number as people read it.
fn readable(number: &str) -> String {
    let parsed = PhoneNumber::parse(number, None);
    parsed.map_or_else(|| number.to_owned(), |number| number.readable())
}

impl Counts {
    fn add(&mut self, erased: &Erased) {
        self.calls += erased.call_ids.len() as u64;
        self.bodies += erased.bodies as u64;
        self.contacts += erased.contacts as u64;
        self.deliveries += erased.deliveries as u64;
    }

    fn shown(&self) -> [(&'static str, u64); 4] {
        [
            ("Calls, of which number, text and id go", self.calls),
            ("Bodies, with their transcripts", self.bodies),
            ("Campaigns that list the customer as a contact", self.contacts),
            ("Entries of the delivery log", self.deliveries),
        ]
    }
}

impl ErasedPage<'_> {
    fn place(remainder: &Remainder) -> String {
        match remainder.place {
            "elevenlabs" => "ElevenLabs".to_owned(),
            place => words(place),
        }
    }

    fn until(&self, remainder: &Remainder) -> String {
        remainder.until.map_or_else(
            || "until you delete it".to_owned(),
            |until| format!("until {}", self.visit.zone.local(until).strftime("%-d %b %Y")),
        )
    }
}

impl State {
    pub async fn preview_erasure(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let form: ErasureForm = Form::of(request).read()?;
        let numbers = customer_numbers(&form.customer_number, self.country)?;
        let mut counts = Counts::default();
        let (_, next) = self.erase(&numbers, None, visit, true, &mut counts).await?;
        visit.page(&Preview {
            visit,
            number: form.customer_number,
            counts,
            is_cut: next.is_some(),
            return_to: visit.back_or("/calls"),
        })
    }

    pub async fn erase_customer(&self, request: &Request, visit: &Visit) -> Result<Response<Body>, Error> {
        let form: ErasureForm = Form::of(request).read()?;
        let numbers = customer_numbers(&form.customer_number, self.country)?;
        let mut counts = Counts {
            calls: form.calls,
            bodies: form.bodies,
            contacts: form.contacts,
            deliveries: form.deliveries,
        };
        let (erased, next) = self
            .erase(&numbers, form.cursor, visit, false, &mut counts)
            .await?;
        if let Some(cursor) = next {
            return visit.page(&More {
                visit,
                title: format!("{} erased so far", counted(counts.calls, "call")),
                action: "/erasures",
                fields: vec![
                    ("customer_number", form.customer_number),
                    ("cursor", cursor),
                    ("calls", counts.calls.to_string()),
                    ("bodies", counts.bodies.to_string()),
                    ("contacts", counts.contacts.to_string()),
                    ("deliveries", counts.deliveries.to_string()),
                    ("return_to", form.return_to.unwrap_or_default()),
                ],
            });
        }
        let receipt = Receipt::new(&erased, None, false, visit.now, self.log_retention_days);
        visit.page(&ErasedPage {
            visit,
            number: form.customer_number,
            counts,
            call_ids: receipt.call_ids.iter().map(ToString::to_string).collect(),
            remains: receipt.remains,
        })
    }

    /// Goes on page by page while there is time; what was erased now, and where to go on.
    async fn erase(
        &self,
        numbers: &[PhoneNumber],
        mut cursor: Option<String>,
        visit: &Visit,
        dry_run: bool,
        counts: &mut Counts,
    ) -> Result<(Erased, Option<String>), Error> {
        let decision = visit.decision(None, dry_run)?;
        let begun = Instant::now();
        let mut sum = Erased::default();
        loop {
            let (erased, next) = self.eraser.erase(numbers, cursor.as_deref(), &decision).await?;
            counts.add(&erased);
            sum.call_ids.extend(erased.call_ids);
            if next.is_none() || begun.elapsed() > TIME {
                return Ok((sum, next));
            }
            cursor = next;
        }
    }
}
