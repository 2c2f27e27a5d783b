//! Reading what is almost as documented: texts, numbers and fields that may be
//! of another type than they should.

use jiff::Timestamp;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, Visitor};
use serde_json::value::RawValue;

/// Longest text that a list column takes over from the provider.
const COLUMN_BYTES: usize = 128;

/// A field of a type, or nothing where it is null or of another type.
pub(crate) fn lenient<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(serde_json::from_str(raw.get()).ok())
}

/// As [`lenient`], for a type that stands for an object: it would also read
/// itself from a list, field by field.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    let raw = <&'de RawValue>::deserialize(deserializer)?;
    Ok(read_object(raw.get()).ok())
}

/// Reads an object, and nothing else.
///
/// # Errors
/// When it is malformed, or something else; [`serde_json::Error::is_data`] tells which.
pub(crate) fn read_object<'de, T: Deserialize<'de>>(json: &'de str) -> serde_json::Result<T> {
    if json.trim_start().starts_with('[') {
        serde_json::from_str::<IgnoredAny>(json)?;
        return Err(serde_json::Error::custom("expected an object, found a list"));
    }
    serde_json::from_str(json)
}

/// A text; a number is taken as it is written, and halves of surrogate pairs,
/// which JSON can escape but no text can hold, are replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(pub(crate) String);

impl Text {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    pub(crate) fn or_none(self) -> Option<Self> {
        (!self.0.trim().is_empty()).then_some(self)
    }

    /// An id of the provider, absent where it is empty or too long to be one.
    pub(crate) fn into_id(self) -> Option<String> {
        (1..=COLUMN_BYTES).contains(&self.0.len()).then_some(self.0)
    }

    /// A text for a list column, cut to [`COLUMN_BYTES`].
    pub(crate) fn into_column(self) -> Option<String> {
        let mut text = self.0.trim().to_owned();
        if text.len() > COLUMN_BYTES {
            text.truncate(text.floor_char_boundary(COLUMN_BYTES - '…'.len_utf8()));
            text.push('…');
        }
        (!text.is_empty()).then_some(text)
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;

        impl Visitor<'_> for Bytes {
            type Value = String;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a string")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<String, E> {
                Ok(String::from_utf8_lossy(bytes).into_owned())
            }
        }

        let raw = <&'de RawValue>::deserialize(deserializer)?.get();
        match raw.as_bytes().first() {
            Some(b'"') => serde_json::Deserializer::from_str(raw)
                .deserialize_bytes(Bytes)
                .map(Self)
                .map_err(D::Error::custom),
            Some(b'-' | b'0'..=b'9') => Ok(Self(raw.to_owned())),
            _ => Err(D::Error::custom("expected a string or a number")),
        }
    }
}

/// A number, also where it is written as a text.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub(crate) f64);

impl Number {
    /// As seconds since 1970; absent where no clock of the provider's shows that.
    pub(crate) fn into_instant(self) -> Option<Timestamp> {
        let milliseconds = (self.0 * 1000.0).round();
        if !(1.0..253_402_200_000_000.0).contains(&milliseconds) {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
        Timestamp::from_millisecond(milliseconds as i64).ok()
    }

    /// As a duration; negative ones are none.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "`as` saturates"
    )]
    pub(crate) fn into_seconds(self) -> u32 {
        self.0.round() as u32
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Text::deserialize(deserializer)?;
        let number: f64 = text.0.trim().parse().map_err(D::Error::custom)?;
        if !number.is_finite() {
            return Err(D::Error::custom("not a finite number"));
        }
        Ok(Self(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(json: &str) -> Option<String> {
        serde_json::from_str::<Text>(json).ok().map(|text| text.0)
    }

    #[test]
    fn texts_are_read_from_strings_and_numbers_and_survive_broken_escapes() {
        for (json, expected) in [
            (r#""plain""#, Some("plain")),
            (r#""é 你好""#, Some("é 你好")),
            (
                r#""half \ud83d pair""#,
                Some("half \u{fffd}\u{fffd}\u{fffd} pair"),
            ),
            ("4412345678901234", Some("4412345678901234")),
            ("-1.5", Some("-1.5")),
            ("null", None),
            ("true", None),
            ("[]", None),
        ] {
            assert_eq!(text(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn instants_are_read_from_numbers_and_texts_within_reason() {
        let instant = |json: &str| {
            serde_json::from_str::<Number>(json)
                .ok()
                .and_then(Number::into_instant)
                .map(|instant| instant.to_string())
        };
        for (json, expected) in [
            ("1795300084", Some("2026-11-21T22:28:04Z")),
            (r#""1795300084""#, Some("2026-11-21T22:28:04Z")),
            ("1795300084.25", Some("2026-11-21T22:28:04.25Z")),
            ("0", None),
            ("-5", None),
            ("1e300", None),
            ("99999999999999999999", None),
            (r#""soon""#, None),
            (r#""NaN""#, None),
        ] {
            assert_eq!(instant(json).as_deref(), expected, "{json}");
        }
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        let column = Text("é".repeat(100)).into_column().unwrap();
        assert!(column.len() <= COLUMN_BYTES && column.ends_with("é…"), "{column}");
        assert_eq!(Text("  ".to_owned()).into_column(), None);
    }
}
