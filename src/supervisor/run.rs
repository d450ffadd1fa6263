//! One run of a supervisor, and why it is over.

use super::event::RunError;
use super::notifications::Notifications;
use super::process::WatchResult;
use super::request::Command;
use super::spawner::AgentHandle;
use crate::timestamp::Timestamp;

/// Why the supervisor no longer watches a run.
pub(super) enum RunOver {
    /// The agent ended by itself.
    Ended(WatchResult),
    /// The agent was not ready in time.
    TimedOut,
    /// The agent missed a heartbeat.
    Silent,
    /// The agent failed its probes.
    Unhealthy,
    /// A request wants the agent stopped.
    Asked(Command),
    /// The handle was dropped.
    Dropped,
    /// Waiting for the agent failed, so nobody knows how it ended.
    Lost(RunError),
}

/// An agent that runs.
pub(super) struct Run {
    pub(super) handle: AgentHandle,
    pub(super) notifications: Option<Notifications>,
    /// When the agent was up; `None` before.
    pub(super) up: Option<Timestamp>,
}
