//! The restart policies, and what is decided at the end of a run.

use std::fmt;

use super::end::EndCause;
use super::limit::RestartLimit;

/// Says after which ends of a run there is a restart.
///
/// Source: `RestartLoopPolicy` of the Go package `supervise`; `Restart=` of systemd.service(5); OTP
/// `supervisor` calls the three policies temporary, transient and permanent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RestartPolicy {
    /// After no end.
    Never,
    /// After a failure, which is every end that is not a success.
    /// [`RestartTrackerBuilder::success_codes`](super::RestartTrackerBuilder::success_codes) and [`RestartTrackerBuilder::success_signals`](super::RestartTrackerBuilder::success_signals) set
    /// what a success is.
    #[default]
    OnFailure,
    /// After every end, success included, except an end that our own stop caused.
    Always,
}

/// What to do after a run's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a decision does nothing by itself"]
pub enum Decision {
    /// Wait for the backoff's delay, then start again.
    Restart {
        /// The attempt to pass to
        /// [`BackoffStrategy::next_delay`](crate::backoff::BackoffStrategy::next_delay). 0 means that the
        /// count starts again: call [`BackoffStrategy::reset`](crate::backoff::BackoffStrategy::reset)
        /// first.
        attempt: u32,
    },
    /// Do not start again, because of the policy, the prevent list or a stop.
    Finished {
        /// Whether the end of the run counts as a success.
        success: bool,
    },
    /// Do not start again, because the limit allows no more restarts.
    GiveUp(GaveUp),
}

/// Why there is no other restart: the limit and the end that exceeded it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GaveUp {
    /// How the run ended whose restart was refused.
    pub cause: EndCause,
    /// The number of automatic restarts that the limit had counted. The first start does not count,
    /// and neither does the refused restart.
    pub restarts: u32,
    /// The limit that refused the restart.
    pub limit: RestartLimit,
}

impl GaveUp {
    /// Makes the value for [`Decision::GiveUp`], for a decider of your own.
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
