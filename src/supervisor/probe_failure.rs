//! How a probe failed.

use std::fmt;
use std::sync::Arc;

use super::spawner::SpawnError;
use super::watcher::WatchError;
use crate::causes::WithCauses;
use crate::status::ExitStatus;

/// How a [`Probe`](super::Probe) failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProbeFailure {
    /// The probe ended with this status, which is not exit code 0.
    Ended(ExitStatus),
    /// The probe did not answer in time, and was killed.
    TimedOut,
    /// The probe could not be started, for this reason.
    NotStarted(Arc<SpawnError>),
    /// Nobody knows how the probe ended, for this reason.
    Lost(Arc<WatchError>),
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeFailure::Ended(status) => status.fmt(f),
            ProbeFailure::TimedOut => f.write_str("no answer in time"),
            ProbeFailure::NotStarted(error) => WithCauses(error).fmt(f),
            ProbeFailure::Lost(error) => WithCauses(error).fmt(f),
        }
    }
}
