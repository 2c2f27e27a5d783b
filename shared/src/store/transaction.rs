//! How a transaction fails.

use aws_sdk_dynamodb::error::SdkError;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsError;

use crate::error::Error;

/// Reasons to cancel a transaction: somebody else wrote first.
const LOST_TO_ANOTHER: &[&str] = &["None", "ConditionalCheckFailed", "TransactionConflict"];
/// Reasons to cancel a transaction: too many requests.
const THROTTLED: &[&str] = &["None", "ProvisionedThroughputExceeded", "ThrottlingError"];

/// Whether it was cancelled since somebody else wrote first, and for nothing else.
pub(super) fn was_lost_to_another(error: &SdkError<TransactWriteItemsError>) -> bool {
    was_cancelled(error, LOST_TO_ANOTHER)
}

/// What a transaction that was not lost to another comes to.
pub(super) fn failure(doing: &str, error: SdkError<TransactWriteItemsError>) -> Error {
    if was_cancelled(&error, THROTTLED) {
        Error::unavailable(doing, error)
    } else {
        super::failure(doing, error)
    }
}

fn was_cancelled(error: &SdkError<TransactWriteItemsError>, reasons: &[&str]) -> bool {
    match error.as_service_error() {
        Some(TransactWriteItemsError::TransactionCanceledException(cancelled)) => cancelled
            .cancellation_reasons()
            .iter()
            .all(|reason| reasons.contains(&reason.code().unwrap_or("None"))),
        _ => false,
    }
}
