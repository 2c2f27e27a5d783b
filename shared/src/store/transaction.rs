//! How a transaction fails.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;

use crate::error::Error;

/// Reasons to cancel a transaction: somebody else wrote first.
const LOST_TO_ANOTHER: &[&str] = &["ConditionalCheckFailed", "TransactionConflict"];
/// Reasons to cancel a transaction: too many requests.
const THROTTLED: &[&str] = &["ProvisionedThroughputExceeded", "ThrottlingError"];

/// Whether it was cancelled since somebody else wrote first, so that it is worth
/// planning again; not so where the store has too much to do.
pub(super) fn was_lost_to_another(error: &SdkError<TransactWriteItemsError>) -> bool {
    has_reason(error, LOST_TO_ANOTHER) && !has_reason(error, THROTTLED)
}

/// What a transaction that failed comes to, where it is not planned again.
pub(super) fn failure(doing: &str, error: SdkError<TransactWriteItemsError>) -> Error {
    if has_reason(&error, THROTTLED) || has_reason(&error, LOST_TO_ANOTHER) {
        Error::unavailable(doing, error)
    } else {
        super::failure(doing, error)
    }
}

/// Whether any of its writes was a reason to cancel it, of these kinds.
fn has_reason(error: &SdkError<TransactWriteItemsError>, kinds: &[&str]) -> bool {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled
            .cancellation_reasons()
            .iter()
            .any(|reason| kinds.contains(&reason.code().unwrap_or_default())),
        _ => false,
    }
}
