//! How a group came to rest.

use std::fmt;

use crate::supervisor::event::Outcome;

/// How a group came to rest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GroupOutcome {
    /// Each child came to rest by itself, and none was given up.
    Finished,
    /// A child was given up, and nothing is left running. If several were, this is the first one.
    GaveUp {
        /// The child's name, as given to `Supervisor::builder`.
        agent_id: String,
        /// How the child came to rest: [`Outcome::GaveUp`] or [`Outcome::Failed`].
        outcome: Outcome,
    },
    /// The group was stopped.
    Stopped,
}

impl fmt::Display for GroupOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GroupOutcome::Finished => f.write_str("finished"),
            GroupOutcome::GaveUp { agent_id, outcome } => write!(f, "{agent_id:?}: {outcome}"),
            GroupOutcome::Stopped => f.write_str("stopped"),
        }
    }
}
