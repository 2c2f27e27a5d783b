//! The clock by which the gateway stamps requests.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

/// Real time, until a test takes it over.
///
/// A function learns the time of a request from `requestContext.timeEpoch`, as
/// API Gateway stamps it, so whoever holds this clock decides what time it is.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<Option<Timestamp>>>);

impl Clock {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.stopped_at().unwrap_or_else(Timestamp::now)
    }

    /// Stops the clock at an instant.
    pub fn set(&self, instant: Timestamp) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(instant);
    }

    /// Moves the clock by a duration from now, and stops it there.
    pub fn advance(&self, duration: SignedDuration) {
        self.set(self.now() + duration);
    }

    fn stopped_at(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
