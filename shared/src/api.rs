//! The HTTP contract as types: what requests bring, what answers show, and the
//! document that is made of them.

pub mod calls;
pub mod campaigns;
pub mod decisions;
pub mod deliveries;
pub mod document;
pub mod erasures;
pub mod reports;
pub mod sync;

use jiff::Timestamp;

use crate::calendar::{Moment, Zone};
use crate::error::Error;

/// The instants of a window that is given whole.
///
/// # Errors
/// Names the field that is none, or a `to` that is not later than `from`.
pub fn window(from: Moment, to: Moment, zone: &Zone) -> Result<(Timestamp, Timestamp), Error> {
    let (from, to) = (moment("from", from, zone)?, moment("to", to, zone)?);
    if to <= from {
        Err(backwards())
    } else {
        Ok((from, to))
    }
}

/// The instants of a window that may be open on either side.
///
/// # Errors
/// As [`window`].
fn open_window(
    from: Option<Moment>,
    to: Option<Moment>,
    zone: &Zone,
) -> Result<(Option<Timestamp>, Option<Timestamp>), Error> {
    match (from, to) {
        (Some(from), Some(to)) => window(from, to, zone).map(|(from, to)| (Some(from), Some(to))),
        (Some(from), None) => Ok((Some(moment("from", from, zone)?), None)),
        (None, to) => Ok((None, to.map(|to| moment("to", to, zone)).transpose()?)),
    }
}

fn moment(field: &str, moment: Moment, zone: &Zone) -> Result<Timestamp, Error> {
    let instant = moment.instant(zone);
    instant.map_err(|why| Error::invalid(field, format!("{field}: {why}")))
}

fn backwards() -> Error {
    Error::invalid("to", "to must be later than from")
}
