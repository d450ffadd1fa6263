//! Tokio's clock.

use std::time::Duration;

use tokio::time::Instant;

use super::sleep::{Clock, Kind, Sleep};
use crate::timestamp::Timestamp;

/// Tokio's clock: real time, or the virtual time of a runtime whose time is paused.
///
/// Its origin is the moment at which it was created. For a paused runtime, create it inside the
/// runtime. Tokio's timers count in milliseconds and round up.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct TokioClock {
    origin: Instant,
}

impl TokioClock {
    /// Creates a clock whose origin is now.
    pub fn new() -> TokioClock {
        TokioClock {
            origin: Instant::now(),
        }
    }
}

impl Default for TokioClock {
    fn default() -> TokioClock {
        TokioClock::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + self.origin.elapsed()
    }

    /// # Panics
    ///
    /// Outside a tokio runtime with its time enabled, unless the duration is zero.
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration.is_zero() {
            Sleep(Kind::Done)
        } else {
            Sleep::new(tokio::time::sleep(duration))
        }
    }
}
