//! A delivery: one webhook POST. Its signature is checked over the raw bytes
//! before anything is read; only a [`VerifiedDelivery`] can be read at all.
//!
//! <https://elevenlabs.io/docs/agents-platform/workflows/post-call-webhooks>

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::call::{Call, CallId};
use crate::conversation::{Conversation, FlatConversation, InitiationFailure, NoConversationId, Traces};
use crate::lenient::{Number, Text, lenient, read_object};
use crate::phone_number::Country;

/// How far ahead of our clock a signature may be.
const MAX_AHEAD: SignedDuration = SignedDuration::from_mins(5);

/// The longest signature header that is looked at.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// The secrets with which deliveries may be signed. Not shown by `Debug`.
#[derive(Clone, Default)]
pub struct SigningSecrets(Vec<String>);

impl SigningSecrets {
    /// From the values as stored; blanks around them, as a terminal leaves
    /// them, do not count, and empty ones are none.
    #[must_use]
    pub fn new(values: impl IntoIterator<Item = String>) -> Self {
        Self(
            values
                .into_iter()
                .map(|value| value.trim().to_owned())
                .filter(|value| !value.is_empty())
                .collect(),
        )
    }

    /// Whether there is none, so that nothing can be verified.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningSecrets({} hidden)", self.0.len())
    }
}

/// Why a signature was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureError {
    /// There is none.
    Missing,
    /// It is malformed, or does not belong to these bytes and our secrets.
    Invalid,
    /// It is genuine but too old, or from the future.
    Stale,
}

/// A body whose signature was checked. There is no other way to make one than
/// [`verify`](Self::verify), [`kept`](Self::kept) for one that was verified
/// before, and, loudly, [`unsigned`](Self::unsigned).
#[derive(Debug, Clone)]
pub struct VerifiedDelivery<'a> {
    body: &'a [u8],
    signed_at: Timestamp,
    is_signed: bool,
    sha256: [u8; 32],
}

impl<'a> VerifiedDelivery<'a> {
    /// Checks the header `t=<unix seconds>,v0=<hex>[,v0=<hex>…]`: HMAC-SHA256 of
    /// `<t>.<body>`. Any matching `v0` of any secret will do; other schemes are
    /// passed over. Compared in constant time.
    ///
    /// # Errors
    /// [`SignatureError`]. Whether the age is the fault is told only of a
    /// signature that is otherwise right.
    pub fn verify(
        body: &'a [u8],
        header: Option<&str>,
        secrets: &SigningSecrets,
        max_age: SignedDuration,
        now: Timestamp,
    ) -> Result<Self, SignatureError> {
        let header = header.map(str::trim).filter(|header| !header.is_empty());
        let header = header.ok_or(SignatureError::Missing)?;
        let (signed_text, signatures) = read_header(header).ok_or(SignatureError::Invalid)?;
        let genuine = secrets.0.iter().any(|secret| {
            // The body is hashed once for each secret, however many signatures there are.
            let mac = mac(secret, signed_text, body);
            signatures
                .iter()
                .any(|signature| mac.clone().verify_slice(signature).is_ok())
        });
        if !genuine {
            return Err(SignatureError::Invalid);
        }
        let signed_at = signed_text
            .parse()
            .ok()
            .and_then(|seconds| Timestamp::from_second(seconds).ok())
            .ok_or(SignatureError::Stale)?;
        let age = now.duration_since(signed_at);
        if age > max_age || age < -MAX_AHEAD {
            return Err(SignatureError::Stale);
        }
        Ok(Self::checked(body, signed_at, true))
    }

    /// Takes a body without a signature, as if signed now.
    ///
    /// Only for the explicit setting that accepts unsigned deliveries.
    #[must_use]
    pub fn unsigned(body: &'a [u8], now: Timestamp) -> Self {
        Self::checked(body, now, false)
    }

    /// Takes a body again that was verified when it came and has been kept since.
    #[must_use]
    pub fn kept(body: &'a [u8], signed_at: Timestamp) -> Self {
        Self::checked(body, signed_at, true)
    }

    fn checked(body: &'a [u8], signed_at: Timestamp, is_signed: bool) -> Self {
        Self {
            body,
            signed_at,
            is_signed,
            sha256: Sha256::digest(body).into(),
        }
    }

    /// The raw bytes.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// When it was signed.
    #[must_use]
    pub fn signed_at(&self) -> Timestamp {
        self.signed_at
    }

    /// Whether a signature was checked, rather than done without.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        self.is_signed
    }

    /// SHA-256 of the raw bytes.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        self.sha256
    }

    /// Reads what the delivery says.
    ///
    /// # Errors
    /// Why it can't be understood; it is to be kept all the same.
    pub fn read(&self, country: Option<Country>) -> Result<Event, Unparsed> {
        let text = std::str::from_utf8(self.body).map_err(|_| Unparsed::without_kind("not_utf8"))?;
        let text = text.trim_start_matches('\u{feff}');
        let envelope: Envelope<'_> =
            read_object(text).map_err(|error| Unparsed::without_kind(why_unread(text, &error)))?;
        let data = envelope.data.map_or("null", RawValue::get);
        // Every version needs a place in time; without one of its own it takes the signature's.
        let mut version_at = envelope
            .event_timestamp
            .and_then(Number::into_instant)
            .unwrap_or(self.signed_at);
        let (kind, call) = match (&envelope.kind, &envelope.event) {
            (Some(kind), _) => {
                let call = match kind.as_str() {
                    "post_call_transcription" => read_call(data, |conversation: Conversation<'_>| {
                        conversation.into_call(version_at, country)
                    }),
                    "post_call_transcription_otel" => {
                        read_call(data, |traces: Traces| traces.into_call(version_at))
                    }
                    "call_initiation_failure" => read_call(data, |failure: InitiationFailure| {
                        failure.into_call(version_at, country)
                    }),
                    "post_call_audio" => return Ok(Event::no_call(kind, data, false)),
                    _ => return Ok(Event::no_call(kind, data, true)),
                };
                (kind, call)
            }
            (None, Some(event)) if event.as_str() == "conversation.ended" => {
                // Whoever posts this form tells no time of its own making.
                version_at = self.signed_at;
                let call = read_call(text, |flat: FlatConversation| flat.into_call(version_at, country));
                (event, call)
            }
            (None, Some(event)) => return Ok(Event::no_call(event, text, true)),
            (None, None) => return Err(Unparsed::without_kind("no_type")),
        };
        match call {
            Ok(call) => Ok(Event::Call {
                kind: column(kind),
                version_at,
                call: Box::new(call),
            }),
            Err(reason) => Err(Unparsed {
                kind: Some(column(kind)),
                reason,
            }),
        }
    }
}

/// What a delivery says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// One version of the facts of a call.
    Call {
        /// The provider's name for the kind of event.
        kind: String,
        /// The version: when the provider made it.
        version_at: Timestamp,
        /// The facts.
        call: Box<Call>,
    },
    /// Something that touches no call.
    NoCall {
        /// The provider's name for it.
        kind: String,
        /// The conversation that it names.
        conversation_id: Option<CallId>,
        /// Whether the body is worth keeping; audio is not, it is large and
        /// can be fetched from the provider.
        keep_body: bool,
    },
}

impl Event {
    fn no_call(kind: &Text, data: &str, keep_body: bool) -> Self {
        Self::NoCall {
            kind: column(kind),
            conversation_id: read_object::<Named>(data)
                .ok()
                .and_then(|named| CallId::try_from(named.conversation_id?.as_str().to_owned()).ok()),
            keep_body,
        }
    }
}

/// A verified body that can't be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unparsed {
    /// The kind, as far as it could be read.
    pub kind: Option<String>,
    /// Why, in one word.
    pub reason: &'static str,
}

impl Unparsed {
    fn without_kind(reason: &'static str) -> Self {
        Self { kind: None, reason }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(default, rename = "type", deserialize_with = "lenient")]
    kind: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    event: Option<Text>,
    #[serde(default, deserialize_with = "lenient")]
    event_timestamp: Option<Number>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Named {
    #[serde(default, deserialize_with = "lenient")]
    conversation_id: Option<Text>,
}

fn read_call<'a, T: Deserialize<'a>>(
    json: &'a str,
    into_call: impl FnOnce(T) -> Result<Call, NoConversationId>,
) -> Result<Call, &'static str> {
    let object = read_object(json).map_err(|error| match why_unread(json, &error) {
        "not_an_object" => "no_data",
        reason => reason,
    })?;
    into_call(object).map_err(|NoConversationId| "no_conversation_id")
}

/// Every field is read leniently, so an object that can't be read repeats one.
fn why_unread(json: &str, error: &serde_json::Error) -> &'static str {
    if !error.is_data() {
        "not_json"
    } else if json.trim_start().starts_with('{') {
        "repeated_field"
    } else {
        "not_an_object"
    }
}

/// A kind as a column of the log: at most 64 bytes.
fn column(kind: &Text) -> String {
    let kind = kind.as_str();
    kind[..kind.floor_char_boundary(64)].to_owned()
}

/// The signed time, as written, and every `v0` signature.
fn read_header(header: &str) -> Option<(&str, Vec<[u8; 32]>)> {
    if header.len() > MAX_HEADER_BYTES {
        return None;
    }
    let mut signed_at = None;
    let mut signatures = Vec::new();
    for part in header.split(',').map(str::trim) {
        match part.split_once('=') {
            Some(("t", time)) if signed_at.is_none() => {
                // Digits only: what is signed is the text, and `+5` or `05` read as numbers too.
                if time.is_empty() || !time.bytes().all(|byte| byte.is_ascii_digit()) {
                    return None;
                }
                signed_at = Some(time);
            }
            Some(("t", _)) => return None,
            Some(("v0", signature)) => signatures.extend(lower_hex(signature)),
            _ => {}
        }
    }
    Some((signed_at?, signatures))
}

/// The provider writes lower-case hex; both of its SDKs refuse anything else.
fn lower_hex(text: &str) -> Option<[u8; 32]> {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut bytes = [0; 32];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

#[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
fn mac(secret: &str, signed_at: &str, body: &[u8]) -> Hmac<Sha256> {
    Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .expect("a key of any length")
        .chain_update(signed_at)
        .chain_update(".")
        .chain_update(body)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] = br#"{"type":"post_call_transcription","data":{"conversation_id":"conv_1"}}"#;
    const NOW: i64 = 1_795_300_084;

    fn sign(secret: &str, t: &str, body: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
        mac.update(t.as_bytes());
        mac.update(b".");
        mac.update(body);
        hex::encode(mac.finalize().into_bytes())
    }

    fn verify(header: Option<&str>, body: &[u8]) -> Result<(), SignatureError> {
        let secrets = SigningSecrets::new(["current\n".to_owned(), "previous".to_owned(), String::new()]);
        let now = Timestamp::from_second(NOW).unwrap();
        VerifiedDelivery::verify(body, header, &secrets, SignedDuration::from_mins(60), now).map(|_| ())
    }

    #[test]
    fn genuine_signatures_pass() {
        let t = NOW.to_string();
        let (current, previous) = (sign("current", &t, BODY), sign("previous", &t, BODY));
        let wrong = "0".repeat(64);
        for header in [
            format!("t={t},v0={current}"),
            format!("t={t},v0={previous}"),
            format!(" t={t}, v0={current} "),
            format!("v0={current},t={t}"),
            format!("t={t},v0={wrong},v0={current}"),
            format!("t={t},v0={current},v0={wrong}"),
            format!("t={t},v1={wrong},v0={current},x"),
        ] {
            assert_eq!(verify(Some(&header), BODY), Ok(()), "{header}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        use SignatureError::{Invalid, Missing};
        let t = NOW.to_string();
        let good = sign("current", &t, BODY);
        assert_eq!(verify(None, BODY), Err(Missing));
        assert_eq!(verify(Some(" "), BODY), Err(Missing));
        let spaced = format!("{t} ");
        for header in [
            format!("t={t}"),
            format!("v0={good}"),
            format!("t={t},v0="),
            format!("t={t},v1={good}"),
            format!("t={t},V0={good}"),
            format!("t={t},v0={}", good.to_uppercase()),
            format!("t={t},v0={}", &good[1..]),
            format!("t={t},v0={good}00"),
            format!("t={t},v0={}", sign("other", &t, BODY)),
            format!("t={t},v0={}", sign("", &t, BODY)),
            format!("t=abc,v0={}", sign("current", "abc", BODY)),
            format!("t=1.5,v0={}", sign("current", "1.5", BODY)),
            format!("t=+{t},v0={}", sign("current", &format!("+{t}"), BODY)),
            format!("t=-{t},v0={}", sign("current", &format!("-{t}"), BODY)),
            format!("t={spaced},v0={}", sign("current", &spaced, BODY)),
            format!("t={t},t={t},v0={good}"),
            format!("t={},v0={good}", "9".repeat(40)),
            format!("t={}é,v0={good}", t),
            ",".repeat(8 * 1024),
            ",".repeat(9 * 1024),
            "=".to_owned(),
        ] {
            assert_eq!(verify(Some(&header), BODY), Err(Invalid), "{header}");
        }
        let header = format!("t={t},v0={good}");
        for position in 0..BODY.len() {
            let mut changed = BODY.to_vec();
            changed[position] ^= 1;
            assert_eq!(verify(Some(&header), &changed), Err(Invalid));
        }
    }

    #[test]
    fn age_is_bounded_on_both_sides_and_told_only_of_genuine_signatures() {
        let check = |seconds_ago: i64| {
            let t = (NOW - seconds_ago).to_string();
            verify(Some(&format!("t={t},v0={}", sign("current", &t, BODY))), BODY)
        };
        for fine in [0, 3600, -300] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for stale in [3601, -301, NOW - 1, -(1 << 40)] {
            assert!(check(stale).is_err(), "{stale}");
        }
        for stale in [3601, -301, -NOW * 1000] {
            assert_eq!(check(stale), Err(SignatureError::Stale), "{stale}");
        }
        let forged = format!("t={},v0={}", NOW - 3601, "0".repeat(64));
        assert_eq!(verify(Some(&forged), BODY), Err(SignatureError::Invalid));
    }

    #[test]
    fn without_a_secret_nothing_verifies() {
        let t = NOW.to_string();
        let header = format!("t={t},v0={}", sign("", &t, BODY));
        let now = Timestamp::from_second(NOW).unwrap();
        for secrets in [SigningSecrets::default(), SigningSecrets::new([" ".to_owned()])] {
            let result =
                VerifiedDelivery::verify(BODY, Some(&header), &secrets, SignedDuration::from_mins(60), now);
            assert_eq!(result.err(), Some(SignatureError::Invalid));
        }
    }

    #[test]
    fn secrets_do_not_show() {
        let secrets = SigningSecrets::new(["wsec_abc".to_owned()]);
        assert!(!format!("{secrets:?}").contains("wsec_abc"));
    }

    fn read(body: &[u8]) -> Result<Event, Unparsed> {
        VerifiedDelivery::unsigned(body, Timestamp::from_second(NOW).unwrap()).read(None)
    }

    #[test]
    fn what_cannot_be_understood_says_why() {
        let nested = "[".repeat(100_000);
        for (body, reason) in [
            (b"[]".as_slice(), "not_an_object"),
            (b" [\"post_call_transcription\"]", "not_an_object"),
            (b"\"x\"", "not_an_object"),
            (b"null", "not_an_object"),
            (b"not json", "not_json"),
            (b"", "not_json"),
            (b"{\"type\":\"a\"", "not_json"),
            (nested.as_bytes(), "not_json"),
            (b"\xff\xfe", "not_utf8"),
            (b"{\"type\":\"a\",\"type\":\"a\"}", "repeated_field"),
            (b"{}", "no_type"),
            (b"{\"type\":null}", "no_type"),
            (b"{\"type\":\"post_call_transcription\"}", "no_data"),
            (b"{\"type\":\"post_call_transcription\",\"data\":7}", "no_data"),
            (
                b"{\"type\":\"post_call_transcription\",\"data\":{}}",
                "no_conversation_id",
            ),
            (
                b"{\"type\":\"post_call_transcription\",\"data\":{\"conversation_id\":\"\"}}",
                "no_conversation_id",
            ),
            (b"{\"event\":\"conversation.ended\"}", "no_conversation_id"),
        ] {
            let text = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
            assert_eq!(read(body).unwrap_err().reason, reason, "{text}");
        }
    }

    #[test]
    fn unknown_kinds_and_audio_touch_no_call() {
        for (kind, kept) in [
            ("post_call_audio", false),
            ("voice_removed", true),
            ("unredacted_transcript", true),
        ] {
            let body =
                format!(r#"{{"type":"{kind}","data":{{"conversation_id":"conv_1","full_audio":"AAAA"}}}}"#);
            let Ok(Event::NoCall {
                conversation_id: Some(id),
                keep_body,
                ..
            }) = read(body.as_bytes())
            else {
                panic!("{kind}");
            };
            assert_eq!((id.as_str(), keep_body), ("conv_1", kept));
        }
    }

    #[test]
    fn a_version_is_the_event_time_or_else_the_signature() {
        let version = |timestamp: &str| {
            let body = format!(
                r#"{{"type":"post_call_transcription",{timestamp}"data":{{"conversation_id":"conv_1"}}}}"#
            );
            match read(body.as_bytes()) {
                Ok(Event::Call { version_at, .. }) => version_at.as_millisecond(),
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(version(r#""event_timestamp":1700000000,"#), 1_700_000_000_000);
        assert_eq!(version(r#""event_timestamp":"1700000000","#), 1_700_000_000_000);
        assert_eq!(version(r#""event_timestamp":1700000000.5,"#), 1_700_000_000_500);
        let flat =
            br#"{"event":"conversation.ended","conversation_id":"conv_1","event_timestamp":4102444800}"#;
        let Ok(Event::Call { version_at, .. }) = read(flat) else {
            panic!("the flat form");
        };
        assert_eq!(
            version_at.as_second(),
            NOW,
            "the flat form has no time of its own"
        );
        for useless in ["", r#""event_timestamp":null,"#, r#""event_timestamp":"soon","#] {
            assert_eq!(version(useless), NOW * 1000, "{useless}");
        }
    }
}
