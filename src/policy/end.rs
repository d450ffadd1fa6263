//! How a run ended, as a restart decision sees it.

use std::fmt;
use std::time::Duration;

use crate::{ExitStatus, Signal};

/// What ended a run, or kept it from beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// The process ended, with a code or by a signal.
    Exited(ExitStatus),
    /// No process came to be: the spawn or the exec failed.
    StartFailed,
    /// It was not ready in time, and was killed for it.
    StartTimeout,
    /// It missed a heartbeat, and was killed for it.
    WatchdogTimeout,
    /// It failed so many probes in a row, and was stopped for it.
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
/// use supervise_harness::{EndCause, RunEnd, Signal};
///
/// let crash = RunEnd::exited(1).after(Duration::from_millis(200));
/// let stopped = RunEnd::killed_by(Signal::TERM).on_request();
/// let missing = RunEnd::new(EndCause::StartFailed);
/// assert!(stopped.requested && !crash.requested && missing.up_for.is_zero());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[must_use]
pub struct RunEnd {
    /// What ended it.
    pub cause: EndCause,
    /// How long it was up: from the moment it counted as started, or ready where readiness is
    /// awaited, to its end. Zero if it never was.
    pub up_for: Duration,
    /// Whether a stop of ours ended it.
    pub requested: bool,
}

impl RunEnd {
    /// An end that nobody asked for, of a run that was never up.
    pub fn new(cause: EndCause) -> RunEnd {
        RunEnd {
            cause,
            up_for: Duration::ZERO,
            requested: false,
        }
    }

    /// It exited with this code.
    pub fn exited(code: i32) -> RunEnd {
        RunEnd::new(EndCause::Exited(ExitStatus::Exited { code }))
    }

    /// This signal killed it, without a core dump.
    pub fn killed_by(signal: Signal) -> RunEnd {
        RunEnd::new(EndCause::Exited(ExitStatus::Signaled {
            signal,
            core_dumped: false,
        }))
    }

    /// It had been up for this long.
    pub fn after(mut self, up_for: Duration) -> RunEnd {
        self.up_for = up_for;
        self
    }

    /// A stop of ours ended it.
    pub fn on_request(mut self) -> RunEnd {
        self.requested = true;
        self
    }
}
