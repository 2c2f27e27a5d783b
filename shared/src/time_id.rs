//! Ids that sort by their time: a prefix and the 32 hexadecimal digits of a
//! UUID of version 7.

use jiff::Timestamp;
use uuid::{NoContext, Uuid};

/// A new id of something that came about at an instant.
pub(crate) fn new(prefix: &str, at: Timestamp) -> String {
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    let nanoseconds = u32::try_from(at.subsec_nanosecond()).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds);
    format!("{prefix}{}", Uuid::new_v7(time).simple())
}
