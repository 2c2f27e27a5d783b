//! Erasing a customer by the number: what tells who it was goes; that there was a call stays,
//! so that totals keep counting.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp};

use crate::call::{Call, CallId, CampaignVariables};
use crate::decide::Decision;
use crate::error::Error;
use crate::phone_number::PhoneNumber;
use crate::store::calls::{
    CallFilter, CallList, CallRecord, CallStore, ErasureKey, Head, NumberFilter, Version, Written,
};
use crate::store::campaigns::CampaignStore;
use crate::store::deliveries::{Delivery, DeliveryStore, KeptBody};
use crate::store::{WRITE_ATTEMPTS, cursor, pause_before};

/// Calls that one page of an erasure erases.
const PAGE_CALLS: usize = 500;
/// Entries of the log that are looked at more closely in one go.
const PAGE_ENTRIES: usize = 500;
/// Calls, and entries of the log, that are erased at the same time.
const CONCURRENCY: usize = 8;
/// How long one request reads the log; then its cursor goes on.
const PATIENCE: Duration = Duration::from_secs(12);
/// How far back the log is read once more when the calls are gone, for what came meanwhile:
/// longer than any request takes.
const MEANWHILE: SignedDuration = SignedDuration::from_mins(5);
/// Digits from which on a number within a text is hardly another's.
const TELLING_DIGITS: usize = 7;

/// What is said of a number that is nobody's, such as `anonymous`, which is everybody's.
pub const NO_NUMBER: &str = "customer_number must be a number by which one customer can be reached";

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
}

impl Eraser {
    /// From these stores.
    #[must_use]
    pub fn new(calls: CallStore, campaigns: CampaignStore, log: DeliveryStore) -> Self {
        Self {
            calls,
            campaigns,
            log,
        }
    }

    /// Erases a page of what there is of a customer, or only counts it; and the cursor with
    /// which the next request goes on.
    ///
    /// The log first, for it is found by the calls; then the calls; with the last of them the
    /// contacts. Whatever breaks off is completed by asking again.
    ///
    /// # Errors
    /// Where the number is not one customer's, when the cursor is of another erasure, or the
    /// store fails.
    pub async fn erase(
        &self,
        number: &PhoneNumber,
        cursor: Option<&str>,
        decision: &Decision,
    ) -> Result<(Erased, Option<String>), Error> {
        if !number.can_be_called() {
            return Err(Error::invalid("customer_number", NO_NUMBER));
        }
        let began = Instant::now();
        let name = format!("erasure {number} {}", decision.dry_run);
        let place = cursor.map(|cursor| cursor::decode(&name, cursor)).transpose()?;
        let place = place.unwrap_or_else(|| "/".to_owned());
        let (calls_from, log_from) = place.split_once('/').ok_or_else(cursor::invalid)?;
        let goes_on = |calls: &str, log: &str| Some(cursor::encode(&name, &format!("{calls}/{log}")));

        let list = CallList::latest_first(CallFilter {
            customer_number: Some(NumberFilter::Is(number.clone())),
            ..CallFilter::default()
        });
        let page = self.calls.list(&list, PAGE_CALLS, given(calls_from)).await?;
        let person = Person {
            number,
            call_ids: page.entries.iter().map(|record| &record.call.id).collect(),
        };
        let mut erased = Erased::default();

        let mut log_from = log_from.to_owned();
        while let Some(next) = self
            .erase_log(&person, Timestamp::MIN, given(&log_from), decision, &mut erased)
            .await?
        {
            if began.elapsed() > PATIENCE {
                return Ok((erased, goes_on(calls_from, &next)));
            }
            log_from = next;
        }
        self.erase_calls(&person, decision, &mut erased).await?;
        if !decision.dry_run {
            let meanwhile = decision.at - MEANWHILE;
            let mut from = None;
            while let Some(next) = self
                .erase_log(&person, meanwhile, from.as_deref(), decision, &mut erased)
                .await?
            {
                from = Some(next);
            }
        }
        if let Some(next) = page.next_cursor {
            return Ok((erased, goes_on(&next, "")));
        }
        erased.contacts = if decision.dry_run {
            self.campaigns.contacts_of(number).await?.len()
        } else {
            self.campaigns.remove_contact_everywhere(number).await?
        };
        Ok((erased, None))
    }

    /// Erases a page of the log, and gives where the next one begins.
    async fn erase_log(
        &self,
        person: &Person<'_>,
        from: Timestamp,
        cursor: Option<&str>,
        decision: &Decision,
        erased: &mut Erased,
    ) -> Result<Option<String>, Error> {
        let may_be = |delivery: &Delivery| {
            delivery.kept_body == KeptBody::InLog || person.has(delivery.conversation_id.as_ref())
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
        let mut is_theirs = person.has(delivery.conversation_id.as_ref());
        if is_in_log && !is_theirs {
            let body = self.log.body(delivery).await?;
            is_theirs = body.is_some_and(|body| person.is_told_of_in(&body));
        }
        if is_theirs && !dry_run {
            self.log.delete(delivery).await?;
        }
        Ok(is_theirs.then_some(usize::from(is_in_log)))
    }

    async fn erase_calls(
        &self,
        person: &Person<'_>,
        decision: &Decision,
        erased: &mut Erased,
    ) -> Result<(), Error> {
        if person.call_ids.is_empty() {
            return Ok(());
        }
        let key = match decision.dry_run {
            true => None,
            false => Some(self.calls.make_erasure_key().await?),
        };
        let ids: Vec<&CallId> = person.call_ids.iter().copied().collect();
        for ids in ids.chunks(CONCURRENCY) {
            let each = ids.iter().map(async |id| match &key {
                None => self.calls.count_bodies(id).await.map(Some),
                Some(key) => self.erase_call(id, person.number, key, decision.at).await,
            });
            for (id, bodies) in ids.iter().zip(try_join_all(each).await?) {
                let Some(bodies) = bodies else { continue };
                erased.call_ids.push((*id).clone());
                erased.bodies += bodies;
            }
        }
        Ok(())
    }

    /// Erases a call; how many bodies it had. `None` where it is not there any more, or not
    /// the customer's.
    async fn erase_call(
        &self,
        id: &CallId,
        number: &PhoneNumber,
        key: &ErasureKey,
        at: Timestamp,
    ) -> Result<Option<usize>, Error> {
        let to = key.id_of(id);
        let mut bodies = 0;
        for attempt in 0..WRITE_ATTEMPTS {
            pause_before(attempt).await;
            let before = self.calls.head(id).await?;
            let is_theirs = |head: &Head| head.record.call.customer_number.as_ref() == Some(number);
            let Some(before) = before.filter(is_theirs) else {
                return Ok(None);
            };
            bodies += self.calls.strip(&before, &to).await?;
            let after = without_person(&before, to.clone(), at);
            if self.calls.put_erased(&before, &after, at).await? == Written::Done {
                // What came in between, and changed no head.
                bodies += self.calls.strip(&before, &to).await?;
                return Ok(Some(bodies));
            }
        }
        let reason = std::io::Error::other("others kept writing the same call");
        Err(Error::unavailable(format!("erasing call {id}"), reason))
    }
}

fn given(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

/// Who is to be erased.
struct Person<'a> {
    number: &'a PhoneNumber,
    call_ids: BTreeSet<&'a CallId>,
}

impl Person<'_> {
    fn has(&self, conversation_id: Option<&CallId>) -> bool {
        conversation_id.is_some_and(|id| self.call_ids.contains(id))
    }

    /// Whether a body holds the number, with its plus sign or without.
    fn is_told_of_in(&self, body: &[u8]) -> bool {
        let number = self.number.as_str();
        let digits = number.strip_prefix('+').unwrap_or(number).as_bytes();
        digits.len() >= TELLING_DIGITS && body.windows(digits.len()).any(|window| window == digits)
    }
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
    fn a_body_tells_of_a_number_that_is_long_enough_to_be_nobody_elses() {
        let is_told = |number: &str, body: &str| {
            let number = PhoneNumber::parse(number, None).unwrap();
            let call_ids = BTreeSet::new();
            let person = Person {
                number: &number,
                call_ids,
            };
            person.is_told_of_in(body.as_bytes())
        };
        for (number, body, expected) in [
            ("+16125550187", r#"{"to":"+16125550187"}"#, true),
            ("+16125550187", r#"{"to":"16125550187"}"#, true),
            ("+16125550187", r#"{"to":"16125550188"}"#, false),
            ("sip:anna@example.com", r#"{"to":"sip:anna@example.com"}"#, true),
            ("1001", r#"{"duration":1001}"#, false),
        ] {
            assert_eq!(is_told(number, body), expected, "{number} in {body}");
        }
    }
}
