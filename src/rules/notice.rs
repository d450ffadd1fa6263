//! What a subject reports about its service.

use std::fmt;
use std::time::Duration;

use super::rest::RestReason;
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// A report that a subject makes about its service.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// The run is up.
    Up,
    /// The run has ended with this status.
    Ended(ExitStatus),
    /// A start failed, so there was no run. The text says why.
    StartFailed(String),
    /// The subject will start the service after this delay.
    BackingOff(Duration),
    /// The subject does nothing until it is told to. It came to rest in this way.
    Resting(RestReason),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Notice::Up => f.write_str("up"),
            Notice::Ended(status) => write!(f, "ended: {status}"),
            Notice::StartFailed(error) => write!(f, "start failed: {error}"),
            Notice::BackingOff(delay) => write!(f, "backing off for {delay:?}"),
            Notice::Resting(rest) => rest.fmt(f),
        }
    }
}

/// A report of the subject, and when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Noticed {
    /// When the report was made.
    pub at: Timestamp,
    /// What the report says.
    pub notice: Notice,
}

impl Noticed {
    #[cfg(feature = "conformance")]
    pub(crate) fn new(at: Timestamp, notice: Notice) -> Noticed {
        Noticed { at, notice }
    }
}
