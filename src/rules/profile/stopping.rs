//! How a subject stops a service.

use std::time::Duration;

use agent_stub::Signal;

use super::setting::Setting;

/// When a stop returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReturn {
    /// When the service has been reaped.
    Reaped,
    /// At once, when the stop is requested.
    AtOnce,
}

/// What a second stop does while the first is still in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepeatedStop {
    /// It does nothing more.
    Harmless,
    /// It kills the service without waiting for the grace to end.
    Escalates,
}

/// Which processes a stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopScope {
    /// Only the process that the subject started.
    Process,
    /// The process group of that process.
    Group,
    /// All its descendants, whatever their process group or session.
    Tree,
}

/// How a subject stops a service.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct StopProfile {
    /// When a stop returns; `None` if the subject cannot stop a service.
    pub returns: Option<StopReturn>,
    /// The signal that a stop sends first.
    pub signal: Setting<Signal>,
    /// How long after the first signal a stop sends SIGKILL.
    pub grace: Setting<Duration>,
    /// What a second stop does while the first is still in progress.
    pub repeated: Option<RepeatedStop>,
    /// Which processes a stop ends.
    pub scope: Option<StopScope>,
    /// Whether a stop continues a process that is stopped, for example by SIGSTOP, so that the
    /// process can act on the stop signal.
    pub wakes_frozen: bool,
    /// Whether the subject ends what a run leaves in its process group before it starts the next
    /// run.
    pub clears_leftovers: bool,
}
