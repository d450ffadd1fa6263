//! How a run ended, as a restart decision sees it.

use std::fmt;
use std::time::Duration;

use crate::status::ExitStatus;
use agent_stub::Signal;

/// What ended a run, or prevented its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// The process exited with a code, or a signal ended it.
    Exited(ExitStatus),
    /// The start failed: the spawn or the exec failed, or the process ended before it was up.
    StartFailed,
    /// The process was not ready in time, so the supervisor stopped it.
    StartTimeout,
    /// The process missed a heartbeat, so the supervisor killed it.
    WatchdogTimeout,
    /// The process failed too many probes in a row, so the supervisor stopped it.
    Unhealthy,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndCause::Exited(status) => status.fmt(f),
            EndCause::StartFailed => f.write_str("start failed"),
            EndCause::StartTimeout => f.write_str("not ready in time"),
            EndCause::WatchdogTimeout => f.write_str("missed a heartbeat"),
            EndCause::Unhealthy => f.write_str("failed its probes"),
        }
    }
}

/// The end of a run.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::supervisor::{EndCause, RunEnd};
/// use supervise_harness::Signal;
///
/// let crash = RunEnd::exited(1).after(Duration::from_millis(200));
/// let stopped = RunEnd::killed_by(Signal::TERM).on_request();
/// let missing = RunEnd::new(EndCause::StartFailed);
/// assert!(stopped.requested && !crash.requested && missing.up_for.is_zero());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct RunEnd {
    /// What ended the run.
    pub cause: EndCause,
    /// How long the run was up. This time begins when the run counts as started, or as ready if the
    /// supervisor waits for readiness. Zero if the run was never up.
    pub up_for: Duration,
    /// Whether our own stop ended the run.
    pub requested: bool,
}

impl RunEnd {
    /// Makes the end of a run that was never up. Nobody requested this end.
    pub fn new(cause: EndCause) -> RunEnd {
        RunEnd {
            cause,
            up_for: Duration::ZERO,
            requested: false,
        }
    }

    /// Makes the end of a run that exited with this code.
    pub fn exited(code: i32) -> RunEnd {
        RunEnd::new(EndCause::Exited(ExitStatus::Exited { code }))
    }

    /// Makes the end of a run that this signal killed, without a core dump.
    pub fn killed_by(signal: Signal) -> RunEnd {
        RunEnd::new(EndCause::Exited(ExitStatus::Signaled {
            signal,
            core_dumped: false,
        }))
    }

    /// Sets how long the run was up.
    pub fn after(mut self, up_for: Duration) -> RunEnd {
        self.up_for = up_for;
        self
    }

    /// Marks the end as caused by our own stop.
    pub fn on_request(mut self) -> RunEnd {
        self.requested = true;
        self
    }
}
