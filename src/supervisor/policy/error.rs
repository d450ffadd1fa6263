//! Why a policy, a limit or a period is refused.

use std::fmt;
use std::time::Duration;

/// Why a tracker or a limit could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// The restart limit is 0.
    ZeroLimit,
    /// The window of the restart limit is 0 s.
    ZeroWindow,
    /// `reset_after` is 0 s, which would make every run healthy.
    ZeroReset,
    /// A list has an exit code that no process can have.
    Code {
        /// The name of the list, such as `success_codes`.
        list: &'static str,
        /// The refused code.
        code: i32,
    },
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PolicyError::ZeroLimit => f.write_str("restart limit is 0: expected 1 or more (for no restarts at all, RestartPolicy::Never)"),
            PolicyError::ZeroWindow => f.write_str("restart window is 0s: expected a period above zero (for a limit without a window, \
         RestartLimit::consecutive)"),
            PolicyError::ZeroReset => f.write_str("reset_after is 0s: expected a period above zero (for a count that never grows, \
         RestartLimit::Unlimited and ConstantBackoff)"),
            PolicyError::Code { list, code } => write!(f, "{list} has the code {code}: expected 0 to 255"),
        }
    }
}

impl std::error::Error for PolicyError {}

/// Returns the period, or the error if the period is zero.
pub(super) fn period(value: Duration, error: PolicyError) -> Result<Duration, PolicyError> {
    if value.is_zero() {
        Err(error)
    } else {
        Ok(value)
    }
}
