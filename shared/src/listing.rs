//! The provider's listing of conversations, as far as it is compared with our calls.
//!
//! `GET /v1/convai/conversations`, shapes after the official SDK's models. It names no
//! numbers and no variables: what is to be taken in is fetched one by one.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::call::{Call, CallId, Direction, Outcome};
use crate::conversation::{direction, is_final, outcome};
use crate::lenient::{Number, Text, lenient, read_object};

/// A page of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListingPage {
    /// What could be read of it.
    pub entries: Vec<Listed>,
    /// How many entries have no usable id or start.
    pub unreadable: usize,
    /// Where the next page goes on; `None` at the end.
    pub next_cursor: Option<String>,
}

/// One conversation of the listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The conversation's id.
    pub id: CallId,
    /// Its agent.
    pub agent_id: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// Whether it is over and analysed.
    pub is_final: bool,
    duration_seconds: Option<u32>,
    direction: Option<Direction>,
    outcome: Outcome,
}

#[derive(Deserialize)]
struct WirePage<'a> {
    #[serde(borrow)]
    conversations: Vec<&'a RawValue>,
    #[serde(default, deserialize_with = "lenient")]
    next_cursor: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    has_more: Option<bool>,
}

#[derive(Deserialize)]
struct WireEntry {
    #[serde(default, deserialize_with = "lenient")]
    conversation_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    agent_id: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    start_time_unix_secs: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    call_duration_secs: Option<Number>,
    #[serde(default, deserialize_with = "lenient")]
    status: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    call_successful: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    direction: Option<Text>,
}

impl ListingPage {
    /// Reads a page.
    ///
    /// # Errors
    /// When it is no page at all.
    pub fn read(body: &[u8]) -> Result<Self, &'static str> {
        let text = std::str::from_utf8(body).map_err(|_| "not_utf8")?;
        let page: WirePage<'_> = read_object(text).map_err(|_| "not_a_page")?;
        let entries: Vec<Listed> = page
            .conversations
            .iter()
            .filter_map(|entry| Listed::read(entry.get()))
            .collect();
        let next_cursor = page.next_cursor.and_then(Text::or_none);
        let next_cursor = match (next_cursor, page.has_more) {
            (_, Some(false)) | (None, None) => None,
            (Some(cursor), _) => Some(cursor.0),
            // Taken for the end, it would make what follows look as if it were not there.
            (None, Some(true)) => return Err("more_without_a_cursor"),
        };
        Ok(Self {
            unreadable: page.conversations.len() - entries.len(),
            entries,
            next_cursor,
        })
    }
}

impl Listed {
    fn read(json: &str) -> Option<Self> {
        let entry: WireEntry = read_object(json).ok()?;
        Some(Self {
            id: CallId::try_from(entry.conversation_id?.0).ok()?,
            agent_id: entry.agent_id.and_then(Text::into_id),
            started_at: entry.start_time_unix_secs?.into_instant()?,
            is_final: is_final(entry.status.as_ref()),
            duration_seconds: entry.call_duration_secs.map(Number::into_seconds),
            direction: direction(entry.direction.as_ref()),
            outcome: outcome(entry.call_successful.as_ref()),
        })
    }

    /// Whether it says anything of a call that is not what we hold, so that we hold
    /// an older form of it. What it leaves open is no contradiction.
    #[must_use]
    pub fn contradicts(&self, call: &Call) -> bool {
        let outcome = self.outcome != Outcome::Unknown && self.outcome != call.outcome;
        let direction = self.direction.is_some() && self.direction != call.direction;
        let duration = (self.duration_seconds).is_some_and(|seconds| seconds != call.duration_seconds);
        let start = self.started_at.as_second() != call.started_at.as_second();
        outcome || direction || duration || start
    }

    /// What it says, in few letters.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let said = (
            self.outcome,
            self.direction,
            self.duration_seconds,
            self.started_at.as_second(),
        );
        hex::encode(&Sha256::digest(format!("{said:?}"))[..8])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversation::Fetched;

    fn entry(json: &str) -> Option<Listed> {
        Listed::read(json)
    }

    #[test]
    fn a_page_is_read_as_far_as_it_can_be() {
        let page = ListingPage::read(
            br#"{"conversations":[{"conversation_id":"a","start_time_unix_secs":1795300084,"status":"done","new":{}},
                {"conversation_id":"b"},7,{"conversation_id":"c","start_time_unix_secs":"1795300085","status":"processing"}],
                "next_cursor":"x","has_more":true,"also_new":1}"#,
        )
        .unwrap();
        let ids: Vec<_> = page.entries.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(
            (ids, page.unreadable, page.next_cursor.as_deref()),
            (vec!["a", "c"], 2, Some("x"))
        );
        assert!(page.entries[0].is_final && !page.entries[1].is_final);
        for (rest, next) in [
            (r#""next_cursor":"x""#, Some("x")),
            (r#""next_cursor":"x","has_more":false"#, None),
            (r#""next_cursor":null"#, None),
            (r#""next_cursor":null,"has_more":false"#, None),
        ] {
            let page = ListingPage::read(format!(r#"{{"conversations":[],{rest}}}"#).as_bytes()).unwrap();
            assert_eq!(page.next_cursor.as_deref(), next, "{rest}");
        }
        for bad in [
            "",
            "{",
            "[]",
            "{}",
            r#"{"conversations":{}}"#,
            r#"{"detail":"no"}"#,
        ] {
            assert!(ListingPage::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_listing_says_otherwise_makes_a_call_an_older_form() {
        let body = br#"{"conversation_id":"a","status":"done","analysis":{"call_successful":"success"},
            "metadata":{"start_time_unix_secs":1795300084,"call_duration_secs":60,
            "phone_call":{"direction":"inbound","agent_number":"+16125550142","external_number":"+16125550187"}}}"#;
        let call = Fetched::read(body, Timestamp::UNIX_EPOCH, None).unwrap().call;
        let start = r#""conversation_id":"a","start_time_unix_secs":1795300084"#;
        for (said, contradicts) in [
            ("", false),
            (
                r#","call_duration_secs":60,"direction":"inbound","call_successful":"success""#,
                false,
            ),
            (
                r#","call_successful":"unknown","direction":null,"call_duration_secs":null"#,
                false,
            ),
            (r#","call_successful":"failure""#, true),
            (r#","call_duration_secs":61"#, true),
            (r#","direction":"outbound""#, true),
        ] {
            let listed = entry(&format!("{{{start}{said}}}")).unwrap();
            assert_eq!(listed.contradicts(&call), contradicts, "{said}");
        }
        let later = entry(r#"{"conversation_id":"a","start_time_unix_secs":1795300085}"#).unwrap();
        assert!(later.contradicts(&call));
        assert_ne!(
            later.fingerprint(),
            entry(&format!("{{{start}}}")).unwrap().fingerprint()
        );
    }

    #[test]
    fn what_was_deleted_or_never_came_about_is_a_remnant() {
        let read = |rest: &str| {
            let body = format!(r#"{{"conversation_id":"a",{rest}}}"#);
            let fetched = Fetched::read(body.as_bytes(), Timestamp::UNIX_EPOCH, None).unwrap();
            (fetched.is_final, fetched.is_remnant, fetched.call.outcome)
        };
        let line = r#""phone_call":{"agent_number":"1","external_number":"2"}"#;
        for (rest, expected) in [
            (
                r#""status":"done","metadata":{}"#.to_owned(),
                (true, false, Outcome::Unknown),
            ),
            (
                r#""status":"in-progress","metadata":{}"#.to_owned(),
                (false, false, Outcome::Unknown),
            ),
            (
                r#""status":"new to us","metadata":null"#.to_owned(),
                (true, true, Outcome::Unknown),
            ),
            (
                r#""status":"failed","metadata":{}"#.to_owned(),
                (true, true, Outcome::Failure),
            ),
            (
                format!(r#""status":"failed","metadata":{{{line}}}"#),
                (true, false, Outcome::Failure),
            ),
            (
                r#""status":"failed","analysis":{"call_successful":"unknown"},"metadata":{}"#.to_owned(),
                (true, true, Outcome::Unknown),
            ),
            (
                format!(
                    r#""status":"done","metadata":{{{line},"deletion_settings":{{"deleted_transcript_at_time_unix_secs":1795300084}}}}"#
                ),
                (true, true, Outcome::Unknown),
            ),
            (
                format!(
                    r#""status":"done","metadata":{{{line},"deletion_settings":{{"deletion_time_unix_secs":1795300084}}}}"#
                ),
                (true, false, Outcome::Unknown),
            ),
        ] {
            assert_eq!(read(&rest), expected, "{rest}");
        }
    }
}
