//! Ids that sort by their time: a prefix and the 32 hexadecimal digits of a
//! UUID of version 7.

use jiff::Timestamp;
use uuid::{NoContext, Uuid};

/// Whether a text is an id with this prefix.
pub(crate) fn is(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(|digits| {
        digits.len() == 32
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// A new id of something that came about at an instant.
pub(crate) fn new(prefix: &str, at: Timestamp) -> String {
    let seconds = u64::try_from(at.as_second()).unwrap_or_default();
    let nanoseconds = u32::try_from(at.subsec_nanosecond()).unwrap_or_default();
    let time = uuid::Timestamp::from_unix(NoContext, seconds, nanoseconds);
    format!("{prefix}{}", Uuid::new_v7(time).simple())
}
