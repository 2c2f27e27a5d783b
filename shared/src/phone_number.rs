//! Phone numbers as they are stored, compared and shown.

use std::fmt;
use std::str::FromStr;

use phonenumber::Mode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest thing that is kept as a number; SIP addresses are the longest seen.
const MAX_BYTES: usize = 256;

/// A number in the one form in which it is stored and compared.
///
/// Either `+` and 7 to 15 digits, or, where that could not be understood,
/// exactly what was received: extensions such as `1001`, `anonymous`, SIP
/// addresses. Never empty, never longer than 256 bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct PhoneNumber(String);

impl PhoneNumber {
    /// Reads a number as received; `None` where there is none (empty or blank)
    /// or where it can't be one: too long, or with control characters.
    ///
    /// A number with `+` and 7 to 15 digits is taken as it is, usual separators
    /// aside, without asking whether it is in use: documentation and fictional
    /// numbers must match too. Any other form is understood only as a valid
    /// number of `country`, and otherwise kept.
    #[must_use]
    pub fn parse(text: &str, country: Option<Country>) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_BYTES || text.contains(char::is_control) {
            return None;
        }
        let number = international(text)
            .or_else(|| national(text, country?))
            .unwrap_or_else(|| text.to_owned());
        Some(Self(number))
    }

    /// Whether one customer could be reached by it: `+` and digits, digits alone
    /// (at least three), or a SIP address. Lists of contacts hold other things by
    /// mistake, and `anonymous` would be everybody who hides.
    #[must_use]
    pub fn can_be_called(&self) -> bool {
        let digits = self.0.strip_prefix('+').unwrap_or(&self.0);
        let is_number = digits.len() >= 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        is_number || self.0.contains('@')
    }

    /// As people read it: `+1 612-555-0187`; what is no international number, as it is.
    #[must_use]
    pub fn readable(&self) -> String {
        let number = self.0.starts_with('+').then(|| phonenumber::parse(None, &self.0));
        match number {
            Some(Ok(number)) => number.format().mode(Mode::International).to_string(),
            _ => self.0.clone(),
        }
    }

    /// The stored form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn international(text: &str) -> Option<String> {
    let rest = text.strip_prefix('+')?;
    let mut number = String::from("+");
    for character in rest.chars() {
        match character {
            '0'..='9' => number.push(character),
            ' ' | '\u{a0}' | '-' | '.' | '/' | '(' | ')' => {}
            _ => return None,
        }
    }
    (8..=16).contains(&number.len()).then_some(number)
}

fn national(text: &str, Country(country): Country) -> Option<String> {
    let number = phonenumber::parse(Some(country), text).ok()?;
    number
        .is_valid()
        .then(|| number.format().mode(Mode::E164).to_string())
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<PhoneNumber> for String {
    fn from(number: PhoneNumber) -> Self {
        number.0
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        if text.is_empty() || text.len() > MAX_BYTES {
            return Err("a stored number is 1 to 256 bytes long");
        }
        Ok(Self(text))
    }
}

/// The country by which national forms are understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Country(phonenumber::country::Id);

impl FromStr for Country {
    type Err = String;

    /// Reads a two-letter ISO 3166 code in capitals.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse()
            .map(Self)
            .map_err(|_| format!("{text:?} is not a country: expected two capital letters such as US"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str, country: Option<&str>) -> Option<String> {
        let country = country.map(|country| country.parse().unwrap());
        PhoneNumber::parse(text, country).map(String::from)
    }

    #[test]
    fn international_numbers_are_taken_as_they_are() {
        for (text, number) in [
            ("+16125550142", "+16125550142"),
            (" +16125550142 ", "+16125550142"),
            ("+1 (612) 555-0142", "+16125550142"),
            ("+441111111111", "+441111111111"),
            ("+1234567", "+1234567"),
        ] {
            assert_eq!(parsed(text, None).as_deref(), Some(number));
            assert_eq!(parsed(text, Some("DE")).as_deref(), Some(number));
        }
    }

    #[test]
    fn other_forms_stay_as_received_without_a_country() {
        for text in [
            "08044319240",
            "1001",
            "anonymous",
            "+123",
            "+12345678901234567",
            "+1612555x",
            "sip:desk@example.com",
            "0291606442",
            "16125550142",
        ] {
            assert_eq!(parsed(text, None).as_deref(), Some(text));
        }
    }

    #[test]
    fn national_forms_are_understood_only_where_valid_in_the_country() {
        for (text, country, number) in [
            ("08044319240", "IN", "+918044319240"),
            ("0291 606442", "DE", "+49291606442"),
            ("(612) 253-8017", "US", "+16122538017"),
            ("1001", "US", "1001"),
            ("anonymous", "US", "anonymous"),
            ("5550142", "US", "5550142"),
        ] {
            assert_eq!(
                parsed(text, Some(country)).as_deref(),
                Some(number),
                "{text} in {country}"
            );
        }
    }

    #[test]
    fn nothing_is_no_number() {
        assert_eq!(parsed("", None), None);
        assert_eq!(parsed(" \t", None), None);
        assert_eq!(parsed(&"1".repeat(257), None), None);
        assert_eq!(parsed("10\u{0}01", None), None);
    }

    #[test]
    fn a_country_is_two_letters() {
        assert!("US".parse::<Country>().is_ok());
        assert!("Atlantis".parse::<Country>().is_err());
    }
}
