//! How many restarts are allowed, and the count of the restarts so far.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::timestamp::Timestamp;

use super::error::{PolicyError, period};

/// How many automatic restarts are allowed before giving up. Only automatic restarts count. The
/// first start does not count, and neither does a start that a person asks for.
///
/// Source: `MaxRestarts` of the Go package `supervise`; OTP `supervisor` (intensity and period);
/// `StartLimitBurst=` of systemd.unit(5), which counts the first start too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestartLimit {
    /// Any number of restarts.
    #[default]
    Unlimited,
    /// This many restarts in a row. A healthy run or a reset sets the count back to 0.
    Consecutive(NonZeroU32),
    /// This many restarts in any period of this length, even if there are healthy runs between
    /// them. The period slides. It is closed at both ends, as in OTP: a restart counts while its
    /// age is at most `within`. One nanosecond later it has left the window.
    Window {
        /// The number of restarts allowed.
        restarts: NonZeroU32,
        /// The length of the period; not zero.
        within: Duration,
    },
}

impl RestartLimit {
    /// Allows this many restarts in a row.
    ///
    /// # Errors
    ///
    /// [`PolicyError::ZeroLimit`] if `restarts` is 0. For no restarts at all, use
    /// [`RestartPolicy::Never`](super::RestartPolicy::Never).
    pub fn consecutive(restarts: u32) -> Result<RestartLimit, PolicyError> {
        NonZeroU32::new(restarts)
            .map(RestartLimit::Consecutive)
            .ok_or(PolicyError::ZeroLimit)
    }

    /// Allows this many restarts in any period of this length.
    ///
    /// # Errors
    ///
    /// [`PolicyError::ZeroLimit`] if `restarts` is 0, [`PolicyError::ZeroWindow`] if `within` is
    /// zero.
    pub fn window(restarts: u32, within: Duration) -> Result<RestartLimit, PolicyError> {
        let restarts = NonZeroU32::new(restarts).ok_or(PolicyError::ZeroLimit)?;
        RestartLimit::Window { restarts, within }.checked()
    }

    /// Refuses a window of zero, which the public fields of the enum allow.
    pub(super) fn checked(self) -> Result<RestartLimit, PolicyError> {
        if let RestartLimit::Window { within, .. } = self {
            period(within, PolicyError::ZeroWindow)?;
        }
        Ok(self)
    }
}

/// The restarts so far, as the limit counts them.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    in_a_row: u32,
    /// The times of the restarts in the window, oldest first. Never more than the limit allows.
    recent: VecDeque<Timestamp>,
}

impl Count {
    /// Counts one restart. If the limit does not allow it, returns the number of restarts counted
    /// so far.
    pub(super) fn restart(&mut self, limit: RestartLimit, now: Timestamp) -> Result<(), u32> {
        match limit {
            RestartLimit::Unlimited => {}
            RestartLimit::Consecutive(most) if self.in_a_row >= most.get() => {
                return Err(self.in_a_row);
            }
            RestartLimit::Consecutive(_) => {}
            RestartLimit::Window { restarts, within } => {
                while self.recent.front().is_some_and(|then| now - *then > within) {
                    self.recent.pop_front();
                }
                if self.recent.len() >= restarts.get() as usize {
                    return Err(restarts.get());
                }
                self.recent.push_back(now);
            }
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        Ok(())
    }

    /// Sets the count of restarts in a row back to 0, after a healthy run.
    pub(super) fn healthy(&mut self) {
        self.in_a_row = 0;
    }
}
