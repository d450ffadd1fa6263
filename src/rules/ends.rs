//! Sets of ends of runs.

use std::collections::BTreeSet;

use agent_stub::Signal;

use crate::status::ExitStatus;

/// A set of ends of runs, by exit code and by signal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ends {
    /// Exit codes.
    pub codes: BTreeSet<i32>,
    /// Signals that kill a run.
    pub signals: Vec<Signal>,
}

impl Ends {
    /// Whether the set has that end.
    #[must_use]
    pub fn contains(&self, status: ExitStatus) -> bool {
        match status {
            ExitStatus::Exited { code } => self.codes.contains(&code),
            ExitStatus::Signaled { signal, .. } => self.signals.contains(&signal),
        }
    }

    /// Whether the set has no ends.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.signals.is_empty()
    }
}
