//! Restart policies, limits and the tracker that decides: pure, without a clock.

mod end;
mod limit;
mod siblings;
mod tracker;

pub use end::{EndCause, RunEnd};
pub use limit::RestartLimit;
pub use siblings::{GiveUpScope, SiblingStrategy};
pub use tracker::{RestartTracker, RestartTrackerBuilder};

use std::fmt;
use std::time::Duration;

/// Which ends of a run are followed by a restart.
///
/// Source: `RestartLoopPolicy` of the Go package `supervise`; `Restart=` of systemd.service(5); OTP `supervisor`
/// calls them temporary, transient and permanent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// No end.
    Never,
    /// A failure: an end that is not success, as [`RestartTrackerBuilder::success_codes`] and
    /// [`RestartTrackerBuilder::success_signals`] say.
    #[default]
    OnFailure,
    /// Every end, success included, that we did not ask for.
    Always,
}

/// What to do after a run's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a decision does nothing by itself"]
pub enum Decision {
    /// Wait for the backoff's delay, then start again.
    Restart {
        /// What [`BackoffStrategy::next_delay`](crate::BackoffStrategy::next_delay) is asked for.
        /// 0 also means that the count begins anew: call
        /// [`BackoffStrategy::reset`](crate::BackoffStrategy::reset) first.
        attempt: u32,
    },
    /// It stays down: the policy, a list or a stop says so.
    Finished {
        /// Whether the run ended well.
        success: bool,
    },
    /// It stays down: there were too many restarts.
    GiveUp(GaveUp),
}

/// Why a restart was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GaveUp {
    /// How the last run ended.
    pub cause: EndCause,
    /// The automatic restarts that the limit had counted: the first start is not among them, nor
    /// the restart that was refused.
    pub restarts: u32,
    /// The limit.
    pub limit: RestartLimit,
}

impl GaveUp {
    /// For deciders of your own.
    #[must_use]
    pub fn new(cause: EndCause, restarts: u32, limit: RestartLimit) -> GaveUp {
        GaveUp {
            cause,
            restarts,
            limit,
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.restarts == 1 { "" } else { "s" };
        write!(f, "gave up after {} restart{plural}", self.restarts)?;
        match self.limit {
            RestartLimit::Unlimited => {}
            RestartLimit::Consecutive(_) => write!(f, " in a row")?,
            RestartLimit::Window { within, .. } => write!(f, " within {within:?}")?,
        }
        write!(f, ": {}", self.cause)
    }
}

/// Why a tracker or a limit could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A limit of no restarts.
    #[error(
        "restart limit is 0: expected 1 or more (for no restarts at all, RestartPolicy::Never)"
    )]
    ZeroLimit,
    /// A limit in no time.
    #[error(
        "restart window is 0s: expected a period above zero (for a limit without a window, \
         RestartLimit::consecutive)"
    )]
    ZeroWindow,
    /// A healthy run of no length, which would make every run healthy.
    #[error(
        "reset_after is 0s: expected a period above zero (for a count that never grows, \
         RestartLimit::Unlimited and ConstantBackoff)"
    )]
    ZeroReset,
    /// An exit code that no process can have.
    #[error("{list} has the code {code}: expected 0 to 255")]
    Code {
        /// The list.
        list: &'static str,
        /// The code.
        code: i32,
    },
}

/// A period that is not zero, or the error.
fn period(value: Duration, error: PolicyError) -> Result<Duration, PolicyError> {
    if value.is_zero() {
        Err(error)
    } else {
        Ok(value)
    }
}
