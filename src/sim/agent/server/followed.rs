//! A supervisor that the server listens to.

use tokio::time::Instant;

use crate::supervisor::SupervisorEvents;

/// A supervisor that the server listens to.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(super) events: SupervisorEvents,
    pub(super) agent: usize,
    /// The agent's run that the supervisor has started last; `None` before its first.
    pub(super) run: Option<u32>,
    /// The member that is this run, if its process was still there when the server heard of it.
    pub(super) member: Option<usize>,
    /// The origin of the sim's clock.
    pub(super) origin: Instant,
}
