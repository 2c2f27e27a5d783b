//! Whether a call reached its goal.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::call::{Call, Outcome};
use crate::identity::Identity;

/// Who says whether a call reached its goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConversionSource {
    /// The outcome.
    Automatic,
    /// A person.
    Manual,
}

/// Whether a call reached its goal, and who says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Conversion {
    /// Whether it did.
    pub converted: bool,
    /// Who says so.
    pub source: ConversionSource,
    /// The person, where one decided.
    pub by: Option<Identity>,
    /// When: the end of the call, where the outcome decided.
    pub at: Option<Timestamp>,
    /// What it is worth, where a person said.
    pub value: Option<Money>,
}

impl Conversion {
    /// The conversion that follows from the outcome alone.
    #[must_use]
    pub fn automatic(call: &Call) -> Self {
        let converted = call.outcome == Outcome::Success;
        let ended_at = call
            .started_at
            .checked_add(SignedDuration::from_secs(i64::from(call.duration_seconds)))
            .unwrap_or(call.started_at);
        Self {
            converted,
            source: ConversionSource::Automatic,
            by: None,
            at: converted.then_some(ended_at),
            value: None,
        }
    }
}

/// A conversion as the history tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConversionState {
    /// Whether the call reached its goal.
    pub converted: bool,
    /// Who says so.
    pub source: ConversionSource,
    /// What that is worth.
    pub value: Option<Money>,
}

impl From<Conversion> for ConversionState {
    fn from(conversion: Conversion) -> Self {
        Self {
            converted: conversion.converted,
            source: conversion.source,
            value: conversion.value,
        }
    }
}

/// An amount of money.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Money {
    /// Decimal: up to 12 digits, then up to 4 after a point.
    amount: String,
    /// ISO 4217: three capital letters.
    currency: String,
}

impl Money {
    /// An amount in a currency.
    ///
    /// # Errors
    /// Names the part that is none, and completes the sentence "it must be …".
    pub fn new(amount: String, currency: String) -> Result<Self, (&'static str, &'static str)> {
        let (whole, fraction) = amount.split_once('.').unwrap_or((&amount, "0"));
        let is_decimal = |digits: &str, most: usize| {
            (1..=most).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        if !is_decimal(whole, 12) || !is_decimal(fraction, 4) {
            return Err(("amount", "a decimal number as text, such as \"120.00\""));
        }
        if currency.len() != 3 || !currency.bytes().all(|byte| byte.is_ascii_uppercase()) {
            return Err(("currency", "three capital letters, such as USD"));
        }
        Ok(Self { amount, currency })
    }

    /// The decimal amount.
    #[must_use]
    pub fn amount(&self) -> &str {
        &self.amount
    }

    /// The currency.
    #[must_use]
    pub fn currency(&self) -> &str {
        &self.currency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_a_decimal_in_a_currency() {
        for (amount, currency, wrong) in [
            ("120.00", "USD", None),
            ("0", "EUR", None),
            ("999999999999.9999", "JPY", None),
            ("", "USD", Some("amount")),
            ("1,5", "USD", Some("amount")),
            ("-1", "USD", Some("amount")),
            ("1.", "USD", Some("amount")),
            (".5", "USD", Some("amount")),
            ("1e3", "USD", Some("amount")),
            ("1.00001", "USD", Some("amount")),
            ("1234567890123", "USD", Some("amount")),
            ("1", "usd", Some("currency")),
            ("1", "US", Some("currency")),
            ("1", "", Some("currency")),
        ] {
            let money = Money::new(amount.to_owned(), currency.to_owned());
            assert_eq!(money.err().map(|(field, _)| field), wrong, "{amount} {currency}");
        }
    }
}
