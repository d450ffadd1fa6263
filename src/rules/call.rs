//! What a subject was told to do, and what came of it.

use std::fmt;
use std::time::Duration;

use super::rest::RestReason;
use crate::timestamp::Timestamp;

/// A command that a subject can be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Control {
    /// Begin to keep the service running.
    Begin,
    /// Stop the service.
    Stop,
    /// Stop the service and start it again.
    Restart,
    /// Start the service if it is down.
    Start,
    /// Forget what the subject has counted.
    Reset,
    /// Say when the subject comes to rest, and how.
    Outcome,
    /// End the subject, and the service with it: the harness dropped the subject's session.
    End,
    /// No command: the harness killed the subject's process by SIGKILL. The call returned when that
    /// process had ended.
    Crash,
}

impl fmt::Display for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Control::Begin => "begin",
            Control::Stop => "stop",
            Control::Restart => "restart",
            Control::Start => "start",
            Control::Reset => "reset",
            Control::Outcome => "outcome",
            Control::End => "end",
            Control::Crash => "crash",
        })
    }
}

/// A command that the subject was given, and its result.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlCall {
    /// The name of the service that the call was about.
    pub service: String,
    /// The command.
    pub control: Control,
    /// When the call was made.
    pub from: Timestamp,
    /// When the call returned. `None` if it had not returned when the harness stopped waiting.
    pub to: Option<Timestamp>,
    /// The error that the call returned; `None` if it returned none.
    pub error: Option<String>,
    /// The rest that a [`Control::Outcome`] call returned.
    pub rest: Option<RestReason>,
}

impl ControlCall {
    /// A call that has not returned.
    #[cfg(feature = "conformance")]
    pub(crate) fn new(service: &str, control: Control, from: Timestamp) -> ControlCall {
        ControlCall {
            service: service.to_owned(),
            control,
            from,
            to: None,
            error: None,
            rest: None,
        }
    }

    /// How long the call took; `None` if it has not returned.
    #[must_use]
    pub fn took(&self) -> Option<Duration> {
        Some(self.to? - self.from)
    }
}
