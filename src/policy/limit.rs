//! How many restarts are allowed, and the count that is held against it.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::Timestamp;

use super::{PolicyError, period};

/// How many automatic restarts are allowed before giving up. What counts is restarts: the first
/// start is free, and so is every start that a person asks for.
///
/// Source: `MaxRestarts` of the Go package `supervise`; OTP `supervisor` (intensity and period);
/// `StartLimitBurst=` of systemd.unit(5), which counts the first start too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestartLimit {
    /// Any number.
    #[default]
    Unlimited,
    /// This many in a row, until a healthy run or a reset comes between.
    Consecutive(NonZeroU32),
    /// This many in any period of this length, healthy runs between them or not. The period
    /// slides, and is closed at both ends as in OTP: a restart counts while its age is at most
    /// `within`, and has left the window one nanosecond later.
    Window {
        /// The restarts allowed.
        restarts: NonZeroU32,
        /// The period; not zero.
        within: Duration,
    },
}

impl RestartLimit {
    /// So many restarts in a row.
    ///
    /// # Errors
    ///
    /// [`PolicyError::ZeroLimit`]: no restarts at all is
    /// [`RestartPolicy::Never`](super::RestartPolicy::Never).
    pub fn consecutive(restarts: u32) -> Result<RestartLimit, PolicyError> {
        NonZeroU32::new(restarts)
            .map(RestartLimit::Consecutive)
            .ok_or(PolicyError::ZeroLimit)
    }

    /// So many restarts in any period of this length.
    ///
    /// # Errors
    ///
    /// [`PolicyError::ZeroLimit`], [`PolicyError::ZeroWindow`].
    pub fn window(restarts: u32, within: Duration) -> Result<RestartLimit, PolicyError> {
        let restarts = NonZeroU32::new(restarts).ok_or(PolicyError::ZeroLimit)?;
        RestartLimit::Window { restarts, within }.checked()
    }

    /// Checks what the enum's own fields allow but the constructors do not.
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
    /// When the restarts of the window were, oldest first: never more than the limit allows.
    recent: VecDeque<Timestamp>,
}

impl Count {
    /// Counts one restart, or says how many stand against it.
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

    /// A healthy run came between.
    pub(super) fn healthy(&mut self) {
        self.in_a_row = 0;
    }
}
