//! How a process ended.

use std::fmt;

use agent_stub::Signal;

/// How a process ended: it exited with a code, or a signal killed it. The two never mix: a death by
/// SIGKILL is not exit code 137.
///
/// Source: `WatchResult` of the Go package `supervise`, waitid(2).
///
/// ```
/// use supervise_harness::{ExitStatus, Signal};
///
/// let crashed = ExitStatus::Signaled { signal: Signal::SEGV, core_dumped: false };
/// assert_eq!((crashed.exit_code(), crashed.signal()), (-1, Some(Signal::SEGV)));
/// assert_eq!(crashed.to_string(), "killed by SIGSEGV");
/// assert_eq!(crashed.code(), None);
/// assert_eq!(ExitStatus::Exited { code: 3 }.code(), Some(3));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// The process called exit.
    Exited {
        /// The exit code, 0 to 255.
        code: i32,
    },
    /// A signal killed the process.
    Signaled {
        /// The signal.
        signal: Signal,
        /// Whether the kernel wrote a core dump.
        core_dumped: bool,
    },
}

impl ExitStatus {
    /// Returns the exit code, 0 to 255; −1 for a death by signal, as in the Go package `supervise`.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        match self {
            ExitStatus::Exited { code } => code,
            ExitStatus::Signaled { .. } => -1,
        }
    }

    /// Returns the exit code, 0 to 255. `None` for a death by signal, as
    /// [`std::process::ExitStatus::code`] has it.
    #[must_use]
    pub fn code(self) -> Option<i32> {
        match self {
            ExitStatus::Exited { code } => Some(code),
            ExitStatus::Signaled { .. } => None,
        }
    }

    /// Returns the signal that killed the process, if one did.
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        match self {
            ExitStatus::Exited { .. } => None,
            ExitStatus::Signaled { signal, .. } => Some(signal),
        }
    }

    /// Whether the process exited with code 0.
    #[must_use]
    pub fn success(self) -> bool {
        self == ExitStatus::Exited { code: 0 }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExitStatus::Exited { code } => write!(f, "exit code {code}"),
            ExitStatus::Signaled {
                signal,
                core_dumped,
            } => {
                write!(
                    f,
                    "killed by {signal}{}",
                    if *core_dumped { ", core dumped" } else { "" }
                )
            }
        }
    }
}
