//! Decisions about calls, as requests bring them and answers show them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::calls::{CallFilterRequest, CallView};
use crate::calendar::{Moment, Zone};
use crate::call::CallId;
use crate::conversion::Money;
use crate::decide::{Moved, Outcome, OutcomeResult};
use crate::decision::AssignmentId;
use crate::error::Error;
use crate::http::given;

/// Calls that one request names.
const MAX_CALL_IDS: usize = 100;

// ----------------------------------------------------------------- requests

/// Whom a call is to be credited to.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignCall {
    /// A campaign, or null for none; it has to be there.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>", extend("type" = ["string", "null"]), required)]
    pub campaign_id: Option<Option<String>>,
    /// Why, for the history; at most 500 characters, on one line.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub reason: Option<String>,
}

/// Whether a call reached its goal.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConvertCall {
    /// Whether it did.
    pub converted: bool,
    /// What that is worth; only where it did.
    #[serde(default)]
    pub value: Option<MoneyRequest>,
    /// Why, for the history; at most 500 characters, on one line.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub reason: Option<String>,
}

impl ConvertCall {
    /// Whether it reached its goal, and what that is worth.
    ///
    /// # Errors
    /// Names the field that can't be what it should.
    pub fn into_converted(self) -> Result<(bool, Option<Money>), Error> {
        if self.value.is_some() && !self.converted {
            let must = "value must be null where converted is false";
            return Err(Error::invalid("value", must));
        }
        let money = |MoneyRequest { amount, currency }| Money::new(amount, currency);
        let value = self.value.map(money).transpose();
        let invalid =
            |(field, must)| Error::invalid(format!("value.{field}"), format!("{field} must be {must}"));
        Ok((self.converted, value.map_err(invalid)?))
    }
}

/// The calls that a request names.
///
/// # Errors
/// Where they are none or too many, or one is no id.
pub fn read_call_ids(ids: Vec<String>) -> Result<Vec<CallId>, Error> {
    if !(1..=MAX_CALL_IDS).contains(&ids.len()) {
        let must = format!("call_ids must be 1 to {MAX_CALL_IDS} ids");
        return Err(Error::invalid("call_ids", must));
    }
    let ids = ids.into_iter().enumerate().map(|(index, id)| {
        CallId::try_from(id)
            .map_err(|must| Error::invalid(format!("call_ids[{index}]"), format!("this is no id: {must}")))
    });
    ids.collect()
}

/// An amount of money.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MoneyRequest {
    /// Decimal: up to 12 digits, then up to 4 after a point.
    #[schemars(regex(pattern = r"^[0-9]{1,12}(\.[0-9]{1,4})?$"))]
    pub amount: String,
    /// ISO 4217.
    #[schemars(regex(pattern = r"^[A-Z]{3}$"))]
    pub currency: String,
}

/// Whom many calls are to be credited to, named by `call_ids` or found by `filter`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssignCalls {
    /// A campaign, or null for none; it has to be there.
    #[serde(default, deserialize_with = "given")]
    #[schemars(with = "Option<String>", extend("type" = ["string", "null"]), required)]
    pub campaign_id: Option<Option<String>>,
    /// Which calls.
    #[serde(default)]
    #[schemars(length(min = 1, max = 100))]
    pub call_ids: Option<Vec<String>>,
    /// All calls that match, 500 a request; the rest by `cursor`.
    #[serde(default)]
    pub filter: Option<CallFilterRequest>,
    /// Of an assignment that is to go on, with calls that failed before.
    #[serde(default)]
    pub assignment_id: Option<String>,
    /// Only tells what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history; at most 500 characters, on one line.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub reason: Option<String>,
    /// The `next_cursor` of the answer before, with everything else the same.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// How an assignment is to be undone.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UndoRequest {
    /// Only tells what would happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Why, for the history; at most 500 characters, on one line.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub reason: Option<String>,
    /// The `next_cursor` of the answer before.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// The window whose calls the rules are asked about again.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReattributeRequest {
    /// Calls that began then or later.
    pub from: Moment,
    /// Calls that began before.
    pub to: Moment,
    /// The time zone in which dates are read; UTC by default.
    #[serde(default)]
    pub tz: Option<Zone>,
    /// Only tells what would move, unless this is false.
    #[serde(default = "first_a_rehearsal")]
    pub dry_run: bool,
    /// Why, for the history; at most 500 characters, on one line.
    #[serde(default)]
    #[schemars(length(max = 500))]
    pub reason: Option<String>,
    /// The `next_cursor` of the answer before, with everything else the same.
    #[serde(default)]
    pub cursor: Option<String>,
}

/// What changes much says first what it would change.
pub(super) fn first_a_rehearsal() -> bool {
    true
}

// ------------------------------------------------------------------ answers

/// A call after a decision; the assignment, where one was made, can be undone.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DecidedCall<'a> {
    /// The call.
    #[serde(flatten)]
    pub call: CallView<'a>,
    /// The assignment; null where there was nothing to decide.
    pub assignment_id: Option<&'a AssignmentId>,
}

/// What became of many calls.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Outcomes<'a> {
    assignment_id: Option<&'a AssignmentId>,
    counts: Counts,
    outcomes: &'a [Outcome],
    next_cursor: Option<String>,
}

/// How many calls came to what.
#[derive(Debug, Serialize, JsonSchema)]
struct Counts {
    assigned: usize,
    unchanged: usize,
    not_found: usize,
    changed_since: usize,
    failed: usize,
}

impl<'a> Outcomes<'a> {
    /// Counted; the assignment, where one was made, can be undone.
    #[must_use]
    pub fn new(
        assignment_id: Option<&'a AssignmentId>,
        outcomes: &'a [Outcome],
        next_cursor: Option<String>,
    ) -> Self {
        let count = |result| outcomes.iter().filter(|outcome| outcome.result == result).count();
        Self {
            assignment_id,
            counts: Counts {
                assigned: count(OutcomeResult::Assigned),
                unchanged: count(OutcomeResult::Unchanged),
                not_found: count(OutcomeResult::NotFound),
                changed_since: count(OutcomeResult::ChangedSince),
                failed: count(OutcomeResult::Failed),
            },
            outcomes,
            next_cursor,
        }
    }
}

/// What a re-attribution came to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct ReattributedView<'a> {
    /// It can be undone like an assignment; null after a rehearsal.
    pub reattribution_id: Option<&'a AssignmentId>,
    /// Calls that the rules were asked about, or a person has decided about.
    pub examined: usize,
    /// Calls that move.
    pub moved: &'a [Moved],
    /// Calls that a person has decided about, which stay.
    pub manual_skipped: usize,
    /// Calls about which the rules could not be asked just now.
    pub failed: &'a [CallId],
    /// Where it goes on; null at the end.
    pub next_cursor: Option<String>,
}
