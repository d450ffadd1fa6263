//! The settings of a supervisor.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::lock::Lock;
use super::orphans::Adopter;
use super::policy::RestartTracker;
use super::probe::Probe;
use super::readiness::Readiness;
use super::spawner::Spawner;
use crate::backoff::BackoffStrategy;
use crate::clock::Clock;

/// Builds a [`Supervisor`](super::Supervisor).
#[must_use]
pub struct SupervisorBuilder {
    pub(super) spawner: Spawner,
    pub(super) agent_id: String,
    pub(super) tracker: RestartTracker,
    pub(super) backoff: Box<dyn BackoffStrategy + Send>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) readiness: Readiness,
    pub(super) start_timeout: Option<Duration>,
    pub(super) watchdog: Option<Duration>,
    pub(super) probe: Option<Probe>,
    pub(super) orphans: Option<Arc<Adopter>>,
    pub(super) lock_path: Option<PathBuf>,
    /// Held as long as the supervisor lives.
    pub(super) lock: Option<Lock>,
}

impl fmt::Debug for SupervisorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorBuilder")
            .field("spawner", &self.spawner)
            .field("agent_id", &self.agent_id)
            .field("tracker", &self.tracker)
            .field("readiness", &self.readiness)
            .field("start_timeout", &self.start_timeout)
            .field("watchdog", &self.watchdog)
            .field("probe", &self.probe)
            .field("lock", &self.lock_path)
            .finish_non_exhaustive()
    }
}
