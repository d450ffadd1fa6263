//! How a subject came to rest.

use std::fmt;

use crate::supervisor::EndCause;

/// How a subject came to rest, that is: does nothing until it is told to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RestReason {
    /// Its policy wants no restart after the last end.
    Finished {
        /// Whether the last end was success.
        success: bool,
    },
    /// There were too many restarts.
    GaveUp {
        /// How the last run ended, if the subject says so.
        cause: Option<EndCause>,
        /// How many restarts there were, if the subject says so.
        restarts: Option<u32>,
    },
    /// The subject was told to stop.
    Stopped,
    /// The subject rests for another reason, given in the text.
    Failed(String),
}

impl fmt::Display for RestReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestReason::Finished { success: true } => f.write_str("finished"),
            RestReason::Finished { success: false } => f.write_str("finished with a failure"),
            RestReason::GaveUp { cause, restarts } => {
                f.write_str("gave up")?;
                if let Some(restarts) = restarts {
                    write!(f, " after {restarts} restarts")?;
                }
                cause.map_or(Ok(()), |cause| write!(f, ": {cause}"))
            }
            RestReason::Stopped => f.write_str("stopped"),
            RestReason::Failed(error) => write!(f, "failed: {error}"),
        }
    }
}
