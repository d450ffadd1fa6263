//! Why a policy, a limit or a period is refused.

use std::time::Duration;

/// Why a tracker or a limit could not be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// The restart limit is 0.
    #[error(
        "restart limit is 0: expected 1 or more (for no restarts at all, RestartPolicy::Never)"
    )]
    ZeroLimit,
    /// The window of the restart limit is 0 s.
    #[error(
        "restart window is 0s: expected a period above zero (for a limit without a window, \
         RestartLimit::consecutive)"
    )]
    ZeroWindow,
    /// `reset_after` is 0 s, which would make every run healthy.
    #[error(
        "reset_after is 0s: expected a period above zero (for a count that never grows, \
         RestartLimit::Unlimited and ConstantBackoff)"
    )]
    ZeroReset,
    /// A list has an exit code that no process can have.
    #[error("{list} has the code {code}: expected 0 to 255")]
    Code {
        /// The name of the list, such as `success_codes`.
        list: &'static str,
        /// The refused code.
        code: i32,
    },
}

/// Returns the period, or the error if the period is zero.
pub(super) fn period(value: Duration, error: PolicyError) -> Result<Duration, PolicyError> {
    if value.is_zero() {
        Err(error)
    } else {
        Ok(value)
    }
}
