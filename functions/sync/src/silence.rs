//! Whether the webhook stopped: calls come, but by sync only.

use jiff::{SignedDuration, Timestamp};
use shared::call::{ArrivedBy, CallId};
use shared::error::Error;
use shared::store::calls::{CallFilter, CallRecord, CallStore};
use shared::store::deliveries::{Delivery, DeliveryFilter, DeliveryResult, DeliveryStore};

/// What the ids of the calls begin with that the doctor leaves behind.
const OF_THE_DOCTOR: &str = "conv_ringmark_";
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
    let silent_from = match last_delivery(deliveries, since, now).await? {
        LastDelivery::At(delivered_at) if before.is_some_and(|before| before > delivered_at) => {
            return Ok(before);
        }
        LastDelivery::At(delivered_at) => delivered_at,
        LastDelivery::None if before.is_some() => return Ok(before),
        LastDelivery::None => since,
        LastDelivery::Unknown => return Ok(before),
    };
    let filter = CallFilter {
        from: Some(silent_from - LONGEST_CALL),
        to: Some(now),
        ..CallFilter::default()
    };
    let mut first: Option<Timestamp> = None;
    let take = |record: CallRecord| {
        let call = &record.call;
        let duration = SignedDuration::from_secs(call.duration_seconds.into());
        let ended_at = call.started_at.checked_add(duration).unwrap_or(Timestamp::MAX);
        // What never came about has no delivery of its own in every workspace.
        let should_be_delivered = record.arrived_by == ArrivedBy::Sync && call.duration_seconds > 0;
        if should_be_delivered && ended_at > silent_from {
            first = Some(first.map_or(ended_at, |first| first.min(ended_at)));
        }
    };
    calls.for_each(&filter, usize::MAX, take).await?;
    Ok(first)
}

enum LastDelivery {
    /// Accepted then.
    At(Timestamp),
    /// There was none.
    None,
    /// There is too much else in the log.
    Unknown,
}

/// When the last delivery of a call was accepted.
async fn last_delivery(
    deliveries: &DeliveryStore,
    since: Timestamp,
    now: Timestamp,
) -> Result<LastDelivery, Error> {
    let filter = DeliveryFilter {
        from: Some(since),
        ..DeliveryFilter::default()
    };
    let mut cursor = None;
    for _ in 0..PAGES {
        let page = deliveries.list(&filter, PAGE, cursor.as_deref(), now).await?;
        if let Some(last) = page.entries.iter().find(|delivery| is_of_a_call(delivery)) {
            return Ok(LastDelivery::At(last.received_at));
        }
        cursor = page.next_cursor;
        if cursor.is_none() {
            return Ok(LastDelivery::None);
        }
    }
    Ok(LastDelivery::Unknown)
}

/// Whether the sender brought a call: a replay and the doctor's are ours, and audio is
/// none.
fn is_of_a_call(delivery: &Delivery) -> bool {
    let is_ours = |id: &CallId| id.as_str().starts_with(OF_THE_DOCTOR);
    if delivery.conversation_id.as_ref().is_some_and(is_ours) {
        return false;
    }
    let reason = delivery.reason.as_deref().unwrap_or_default();
    match delivery.result {
        DeliveryResult::Stored | DeliveryResult::Updated | DeliveryResult::Duplicate => {
            !reason.starts_with("replay of ")
        }
        DeliveryResult::Ignored => reason == "older_version",
        DeliveryResult::Unparsed | DeliveryResult::Refused | DeliveryResult::Failed => false,
    }
}
