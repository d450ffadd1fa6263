//! Which ends of a run a subject follows with a restart.

use super::setting::Setting;
use crate::supervisor::RestartPolicy;

/// Which ends of a run count as success.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SuccessList {
    /// Exit code 0 alone.
    #[default]
    Fixed,
    /// The service can choose exit codes and signals.
    CodesAndSignals,
}

impl SuccessList {
    /// Whether the service can choose.
    #[must_use]
    pub fn is_supported(self) -> bool {
        self != SuccessList::Fixed
    }
}

/// What a subject does after a start that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailedStarts {
    /// It declares nothing.
    #[default]
    Undeclared,
    /// It tries again after the delay, as it does after a crash.
    AsCrashes,
}

impl FailedStarts {
    /// Whether a failed start is tried again.
    #[must_use]
    pub fn are_retried(self) -> bool {
        self == FailedStarts::AsCrashes
    }
}

/// Which ends of a run a subject follows with a restart.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct RestartProfile {
    /// Which ends of a run are followed by a restart.
    pub policy: Setting<RestartPolicy>,
    /// Which ends of a run are success.
    pub success: SuccessList,
    /// Whether the service can choose ends that are never followed by a restart, and ends that
    /// always are.
    pub overrides: bool,
    /// What the subject does after a start that failed.
    pub failed_starts: FailedStarts,
}
