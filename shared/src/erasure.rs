//! Erasing a customer by the number: what tells who it was goes; that there was a call stays,
//! so that totals keep counting.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};

use crate::call::{Call, CallId, CampaignVariables};
use crate::decide::Decision;
use crate::delivery::{Event, VerifiedDelivery};
use crate::error::Error;
use crate::phone_number::{Country, PhoneNumber};
use crate::store::calls::{
    CallFilter, CallList, CallRecord, CallStore, ErasureKey, Head, NumberFilter, Version, Written,
};
use crate::store::campaigns::CampaignStore;
use crate::store::deliveries::{Delivery, DeliveryStore, KeptBody};
use crate::store::{WRITE_ATTEMPTS, cursor, pause_before};

/// Calls that one page of an erasure erases.
const PAGE_CALLS: usize = 200;
/// Entries of the log that are looked at more closely in one go.
const PAGE_ENTRIES: usize = 500;
/// How often such a page is tried.
const PAGE_ATTEMPTS: usize = 20;
/// Calls, and entries of the log, that are erased at the same time.
const CONCURRENCY: usize = 8;
/// How long one request reads the log; then its cursor goes on.
const PATIENCE: Duration = Duration::from_secs(12);
/// How far before an erasure the log is read once more when the calls are gone, for what came
/// meanwhile: longer than any request takes.
const MEANWHILE: SignedDuration = SignedDuration::from_mins(5);
/// Digits from which on a number within a text is hardly another's.
const TELLING_DIGITS: usize = 7;

/// The numbers that a request names one customer by: as it is understood, and as it was
/// received where that was before anybody said in which country.
///
/// # Errors
/// Where it is nobody's, such as `anonymous`, which is everybody's.
pub fn customer_numbers(text: &str, country: Option<Country>) -> Result<Vec<PhoneNumber>, Error> {
    let mut numbers: Vec<PhoneNumber> = [country, None]
        .into_iter()
        .filter_map(|country| PhoneNumber::parse(text, country))
        .filter(PhoneNumber::can_be_called)
        .collect();
    numbers.dedup();
    if numbers.is_empty() {
        let must = "customer_number must be a number by which one customer can be reached";
        return Err(Error::invalid("customer_number", must));
    }
    Ok(numbers)
}

/// What was erased, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Erased {
    /// The calls, by the ids that they had.
    pub call_ids: Vec<CallId>,
    /// Bodies of these calls, and of deliveries that became none.
    pub bodies: usize,
    /// Campaigns that the customer was a contact of.
    pub contacts: usize,
    /// Entries of the delivery log.
    pub deliveries: usize,
}

/// Erases customers.
#[derive(Debug, Clone)]
pub struct Eraser {
    calls: CallStore,
    campaigns: CampaignStore,
    log: DeliveryStore,
    country: Option<Country>,
}

/// Where an erasure goes on.
struct Place {
    /// Which of the numbers.
    number: usize,
    /// Which page of its calls, by the cursor; empty for the first one.
    calls: String,
    /// Which page of the log, likewise.
    log: String,
    /// When the first request came.
    since: Timestamp,
}

impl Place {
    fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let mut next = || parts.next();
        Some(Self {
            number: next()?.parse().ok()?,
            calls: next()?.to_owned(),
            log: next()?.to_owned(),
            since: next()?.parse().ok()?,
        })
    }

    fn write(&self) -> String {
        let Self {
            number,
            calls,
            log,
            since,
        } = self;
        format!("{number}/{calls}/{log}/{since}")
    }
}

impl Eraser {
    /// From these stores; bodies are read as in this country.
    #[must_use]
    pub fn new(
        calls: CallStore,
        campaigns: CampaignStore,
        log: DeliveryStore,
        country: Option<Country>,
    ) -> Self {
        Self {
            calls,
            campaigns,
            log,
            country,
        }
    }

    /// Erases a page of what there is of a customer, or only counts it; and the cursor with
    /// which the next request goes on.
    ///
    /// The log first, for it is found by the calls; then the calls; then what came in
    /// between; with the last of the calls the contacts. Whatever breaks off is completed by
    /// asking again.
    ///
    /// # Errors
    /// When the cursor is of another erasure, or the store fails.
    pub async fn erase(
        &self,
        numbers: &[PhoneNumber],
        cursor: Option<&str>,
        decision: &Decision,
    ) -> Result<(Erased, Option<String>), Error> {
        let began = Instant::now();
        let name = format!("erasure {numbers:?} {}", decision.dry_run);
        let place = match cursor {
            Some(cursor) => Place::read(&cursor::decode(&name, cursor)?).ok_or_else(cursor::invalid)?,
            None => Place {
                number: 0,
                calls: String::new(),
                log: String::new(),
                since: decision.at,
            },
        };
        let goes_on = |place: &Place| Some(cursor::encode(&name, &place.write()));
        let number = numbers.get(place.number).ok_or_else(cursor::invalid)?;
        let list = CallList::latest_first(CallFilter {
            customer_number: Some(NumberFilter::Is(number.clone())),
            ..CallFilter::default()
        });
        let page = self.calls.list(&list, PAGE_CALLS, given(&place.calls)).await?;
        let is_first = place.number == 0 && place.calls.is_empty();
        let person = Person {
            call_ids: page.entries.into_iter().map(|record| record.call.id).collect(),
            numbers: if is_first { numbers } else { &[] },
            country: self.country,
        };
        let mut erased = Erased::default();

        let mut log = place.log.clone();
        while let Some(next) = self
            .erase_log(&person, Timestamp::MIN, given(&log), decision, began, &mut erased)
            .await?
        {
            if began.elapsed() > PATIENCE {
                return Ok((erased, goes_on(&Place { log: next, ..place })));
            }
            log = next;
        }
        if decision.dry_run {
            for id in &person.call_ids {
                erased.bodies += self.calls.count_bodies(id).await?;
            }
            erased.call_ids.extend(person.call_ids);
        } else {
            erased.bodies += self.erase_calls(&person, number, decision.at).await?;
            self.finish(place.since, decision, began, &mut erased).await?;
        }
        if let Some(calls) = page.next_cursor {
            let log = String::new();
            return Ok((erased, goes_on(&Place { calls, log, ..place })));
        }
        erased.contacts = if decision.dry_run {
            self.campaigns.count_campaigns_of(number).await?
        } else {
            self.campaigns.remove_contact_everywhere(number).await?
        };
        let next = Place {
            number: place.number + 1,
            calls: String::new(),
            log: String::new(),
            since: place.since,
        };
        let is_last = next.number == numbers.len();
        Ok((erased, if is_last { None } else { goes_on(&next) }))
    }

    /// Erases a page of the log, and gives where the next one begins.
    ///
    /// Where the store fails, the page is tried again: of many pages one always fails, and
    /// whoever begins with the first one again never comes to the last.
    async fn erase_log(
        &self,
        person: &Person<'_>,
        from: Timestamp,
        cursor: Option<&str>,
        decision: &Decision,
        began: Instant,
        erased: &mut Erased,
    ) -> Result<Option<String>, Error> {
        let mut attempt = 1;
        loop {
            let next = self.erase_page(person, from, cursor, decision, erased).await;
            let is_worth_it = attempt < PAGE_ATTEMPTS && began.elapsed() < PATIENCE;
            match next {
                Err(Error::Unavailable(_)) if is_worth_it => pause_before(attempt).await,
                next => return next,
            }
            attempt += 1;
        }
    }

    async fn erase_page(
        &self,
        person: &Person<'_>,
        from: Timestamp,
        cursor: Option<&str>,
        decision: &Decision,
        erased: &mut Erased,
    ) -> Result<Option<String>, Error> {
        let may_be = |delivery: &Delivery| {
            [KeptBody::InLog, KeptBody::Leaving].contains(&delivery.kept_body)
                || person.has(delivery.conversation_id.as_ref())
        };
        let page = self
            .log
            .find(from, may_be, PAGE_ENTRIES, cursor, decision.at)
            .await?;
        for deliveries in page.entries.chunks(CONCURRENCY) {
            let deliveries = deliveries.iter();
            let each = deliveries.map(|delivery| self.erase_delivery(person, delivery, decision.dry_run));
            for bodies in try_join_all(each).await?.into_iter().flatten() {
                erased.deliveries += 1;
                erased.bodies += bodies;
            }
        }
        Ok(page.next_cursor)
    }

    /// Erases an entry of the log and its body, where it is about the person; how many
    /// bodies that were.
    async fn erase_delivery(
        &self,
        person: &Person<'_>,
        delivery: &Delivery,
        dry_run: bool,
    ) -> Result<Option<usize>, Error> {
        let is_in_log = delivery.kept_body == KeptBody::InLog;
        // One that is leaving was somebody's who was erased.
        let is_leaving = delivery.kept_body == KeptBody::Leaving;
        let mut is_theirs = is_leaving || person.has(delivery.conversation_id.as_ref());
        if is_in_log && !is_theirs {
            let body = self.log.body(delivery).await?;
            is_theirs = body.is_some_and(|body| person.is_told_of_in(&body, delivery));
        }
        if is_theirs && !dry_run {
            self.log.delete(delivery).await?;
        }
        Ok(is_theirs.then_some(usize::from(is_in_log)))
    }

    /// Erases calls, but for what [`finish`](Self::finish) does; how many bodies they had.
    async fn erase_calls(
        &self,
        person: &Person<'_>,
        number: &PhoneNumber,
        at: Timestamp,
    ) -> Result<usize, Error> {
        if person.call_ids.is_empty() {
            return Ok(0);
        }
        let key = self.calls.make_erasure_key().await?;
        let ids: Vec<&CallId> = person.call_ids.iter().collect();
        let mut bodies = 0;
        for ids in ids.chunks(CONCURRENCY) {
            let each = ids.iter().map(|id| self.erase_call(id, number, &key, at));
            bodies += try_join_all(each).await?.into_iter().sum::<usize>();
        }
        Ok(bodies)
    }

    /// Erases a call, where it is there and still the customer's; how many bodies it had.
    async fn erase_call(
        &self,
        id: &CallId,
        number: &PhoneNumber,
        key: &ErasureKey,
        at: Timestamp,
    ) -> Result<usize, Error> {
        let to = key.id_of(id);
        let mut bodies = 0;
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let before = self.calls.head(id).await?;
            let is_theirs = |head: &Head| head.record.call.customer_number.as_ref() == Some(number);
            let Some(before) = before.filter(is_theirs) else {
                return Ok(bodies);
            };
            bodies += self.calls.strip(id, &to).await?;
            let after = without_person(&before, to.clone(), at);
            if self.calls.put_erased(&before, &after, at).await? == Written::Done {
                return Ok(bodies);
            }
        }
        let reason = std::io::Error::other("others kept writing the same call");
        Err(Error::unavailable(format!("erasing call {id}"), reason))
    }

    /// Erases what came about calls while they were erased, now or by a request that broke
    /// off, and tells of them.
    async fn finish(
        &self,
        since: Timestamp,
        decision: &Decision,
        began: Instant,
        erased: &mut Erased,
    ) -> Result<(), Error> {
        let unfinished = self.calls.unfinished_erasures().await?;
        if unfinished.is_empty() {
            return Ok(());
        }
        let key = self.calls.make_erasure_key().await?;
        let since = unfinished.iter().map(|(_, at)| *at).fold(since, Timestamp::min);
        let person = Person {
            numbers: &[],
            call_ids: unfinished.into_iter().map(|(id, _)| id).collect(),
            country: self.country,
        };
        let ids: Vec<&CallId> = person.call_ids.iter().collect();
        for ids in ids.chunks(CONCURRENCY) {
            let each = ids
                .iter()
                .map(async |id| self.calls.strip(id, &key.id_of(id)).await);
            erased.bodies += try_join_all(each).await?.into_iter().sum::<usize>();
        }
        let mut from = None;
        while let Some(next) = self
            .erase_log(
                &person,
                since - MEANWHILE,
                from.as_deref(),
                decision,
                began,
                erased,
            )
            .await?
        {
            from = Some(next);
        }
        for ids in ids.chunks(CONCURRENCY) {
            try_join_all(ids.iter().map(|id| self.calls.finish_erasure(id))).await?;
        }
        erased.call_ids.extend(person.call_ids);
        Ok(())
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Who is to be erased.
struct Person<'a> {
    numbers: &'a [PhoneNumber],
    call_ids: BTreeSet<CallId>,
    country: Option<Country>,
}

impl Person<'_> {
    fn has(&self, conversation_id: Option<&CallId>) -> bool {
        conversation_id.is_some_and(|id| self.call_ids.contains(id))
    }

    fn has_number(&self, number: Option<&PhoneNumber>) -> bool {
        number.is_some_and(|number| self.numbers.contains(number))
    }

    /// Whether the body of a delivery is of one of the calls, of a call with the customer, or
    /// names any of their ids or the number.
    fn is_told_of_in(&self, body: &[u8], delivery: &Delivery) -> bool {
        let signed_at = delivery.signed_at.unwrap_or(delivery.received_at);
        match VerifiedDelivery::kept(body, signed_at).read(self.country) {
            Ok(Event::Call { call, .. }) if self.has_number(call.customer_number.as_ref()) => return true,
            _ => {}
        }
        let text = String::from_utf8_lossy(body);
        self.call_ids.iter().any(|id| is_named_in(&text, id))
            || self.numbers.iter().any(|number| is_in(&text, number))
    }
}

/// Whether a text holds an id, and not only as a part of a longer one.
fn is_named_in(text: &str, id: &CallId) -> bool {
    let goes_on = |character: char| character.is_alphanumeric() || character == '_';
    text.match_indices(id.as_str())
        .any(|(at, id)| !text[..at].ends_with(goes_on) && !text[at + id.len()..].starts_with(goes_on))
}

/// Whether a text holds a number: the digits alone, with or without what stands before a
/// country's; or the whole address.
fn is_in(text: &str, number: &PhoneNumber) -> bool {
    let number = number.as_str();
    let digits = number.strip_prefix('+').unwrap_or(number);
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.contains(number);
    }
    let mut runs = text.split(|character: char| !character.is_ascii_digit());
    digits.len() >= TELLING_DIGITS && runs.any(|run| run.strip_prefix("00").unwrap_or(run) == digits)
}

/// What stays of a call.
fn without_person(head: &Head, id: CallId, at: Timestamp) -> Head {
    let call = &head.record.call;
    Head {
        record: CallRecord {
            call: Call {
                id,
                customer_number: None,
                termination_reason: None,
                has_transcript: false,
                campaign_variables: CampaignVariables::default(),
                ..call.clone()
            },
            updated_at: at,
            ..head.record.clone()
        },
        evidence: None,
        candidates: Vec::new(),
        listed_as: None,
        version: Version {
            at: head.version.at,
            sha256: [0; 32],
        },
        revision: head.revision + 1,
        ..head.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_tells_of_a_number_that_is_long_enough_to_be_nobody_elses() {
        for (number, text, expected) in [
            ("+16125550187", r#"{"to":"+16125550187"}"#, true),
            ("+16125550187", r#"{"to":"16125550187"}"#, true),
            ("+16125550187", "call 0016125550187 now", true),
            ("+16125550187", r#"{"to":"16125550188"}"#, false),
            ("+16125550187", r#"{"id":"916125550187"}"#, false),
            ("5550142", r#"{"to":"+16125550142"}"#, false),
            ("sip:anna@example.com", r#"{"to":"sip:anna@example.com"}"#, true),
            ("1001", r#"{"duration":1001}"#, false),
        ] {
            let number_read = PhoneNumber::parse(number, None).unwrap();
            assert_eq!(is_in(text, &number_read), expected, "{number} in {text}");
        }
    }

    #[test]
    fn a_text_names_an_id_that_is_no_part_of_another() {
        for (text, expected) in [
            (r#"{"conversation_id":"conv_1"}"#, true),
            ("https://example.com/conv_1/audio", true),
            ("conv_1", true),
            ("conv_12, conv_1.", true),
            (r#"{"conversation_id":"conv_12"}"#, false),
            (r#"{"id":"my_conv_1","of":"conv_1_copy"}"#, false),
        ] {
            let id = CallId::try_from("conv_1".to_owned()).unwrap();
            assert_eq!(is_named_in(text, &id), expected, "{text}");
        }
    }

    #[test]
    fn a_customer_is_known_by_the_number_with_and_without_its_country() {
        let told = |text: &str| {
            let numbers = customer_numbers(text, Some("US".parse().unwrap()));
            let text = |number: PhoneNumber| number.to_string();
            numbers.map(|numbers| numbers.into_iter().map(text).collect::<Vec<_>>())
        };
        assert_eq!(told("+1 612-867-5309").unwrap(), ["+16128675309"]);
        assert_eq!(told("6128675309").unwrap(), ["+16128675309", "6128675309"]);
        for nobody in ["", "anonymous", "12"] {
            assert!(told(nobody).is_err(), "{nobody}");
        }
    }
}
