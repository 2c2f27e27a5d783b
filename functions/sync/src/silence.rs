//! Whether the webhook stopped: calls come, but by sync only.

use jiff::{SignedDuration, Timestamp};
use shared::call::ArrivedBy;
use shared::error::Error;
use shared::store::calls::{CallFilter, CallRecord, CallStore};
use shared::store::deliveries::{Delivery, DeliveryFilter, DeliveryResult, DeliveryStore};

/// How long before its end a call may have begun.
const LONGEST_CALL: SignedDuration = SignedDuration::from_hours(3);
/// Entries of the log that are looked at for one that is a call.
const PAGE: usize = 25;
const PAGES: usize = 20;
/// How far back deliveries and calls are looked for.
const HORIZON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// Since when calls come by sync only: the end of the first call for which there
/// should have been a delivery, and after which there was none of any call.
///
/// `before` is what an earlier run found, `watching_since` the instant from which on
/// deliveries are expected at all.
///
/// # Errors
/// When the store fails.
pub async fn sync_only_since(
    calls: &CallStore,
    deliveries: &DeliveryStore,
    before: Option<Timestamp>,
    watching_since: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let since = watching_since.max(now - HORIZON);
    let silent_from = last_delivery(deliveries, since, now).await?.unwrap_or(since);
    if before.is_some_and(|before| before > silent_from || silent_from == since) {
        return Ok(before);
    }
    let filter = CallFilter {
        from: Some(silent_from - LONGEST_CALL),
        ..CallFilter::default()
    };
    let mut first: Option<Timestamp> = None;
    let take = |record: CallRecord| {
        let ended_at =
            record.call.started_at + SignedDuration::from_secs(record.call.duration_seconds.into());
        if record.arrived_by == ArrivedBy::Sync && ended_at > silent_from {
            first = Some(first.map_or(ended_at, |first| first.min(ended_at)));
        }
    };
    calls.for_each(&filter, usize::MAX, take).await?;
    Ok(first)
}

/// When the last delivery of a call was accepted.
async fn last_delivery(
    deliveries: &DeliveryStore,
    since: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, Error> {
    let filter = DeliveryFilter {
        from: Some(since),
        ..DeliveryFilter::default()
    };
    let mut cursor = None;
    for _ in 0..PAGES {
        let page = deliveries.list(&filter, PAGE, cursor.as_deref(), now).await?;
        if let Some(last) = page.entries.iter().find(|delivery| is_of_a_call(delivery)) {
            return Ok(Some(last.received_at));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            break;
        }
    }
    Ok(None)
}

/// Whether the sender brought a call: a replay is ours, and audio is none.
fn is_of_a_call(delivery: &Delivery) -> bool {
    let reason = delivery.reason.as_deref().unwrap_or_default();
    match delivery.result {
        DeliveryResult::Stored | DeliveryResult::Updated | DeliveryResult::Duplicate => {
            !reason.starts_with("replay of ")
        }
        DeliveryResult::Ignored => reason == "older_version",
        DeliveryResult::Unparsed | DeliveryResult::Refused | DeliveryResult::Failed => false,
    }
}
