//! The parts of a supervisor, and the reference supervisor that is made of them.
//!
//! # Starting and watching
//!
//! - A [`Spawner`] starts an agent. The agent inherits one end of a socket pair and its standard
//!   streams, and no other descriptor.
//! - An [`AgentHandle`] stops the agent: it sends TERM to the agent's process group, waits for a
//!   grace period, and then sends KILL.
//! - A [`Watcher`] waits for the agent's end.
//!
//! # Deciding
//!
//! A [`RestartTracker`] decides what follows the end of a run: a restart, no restart, or giving up.
//! A [`BackoffStrategy`](crate::backoff::BackoffStrategy) says how long to wait before the restart.
//! Both are pure: they read no clock and do no I/O.
//!
//! # Keeping it running
//!
//! - A [`RestartLoop`] tries to start something until a start succeeds or the loop gives up.
//! - A [`Supervisor`] keeps an agent running over many runs, and reports what it does as events.
//! - A [`SupervisorGroup`] keeps several agents running. It starts them in order, and it has a rule
//!   for what happens to the others when one of them ends.
//!
//! Every part that waits takes the time from a [`Clock`](crate::clock::Clock).
//!
//! Many of these parts follow the Go package `supervise`, which starts a process, waits for its end
//! and starts it again after a backoff. The documentation of an item names that package where the
//! item comes from it.

// In the order of the data flow: a module imports only from modules above it.
mod policy;

#[cfg(feature = "supervisor")]
mod process;

#[cfg(feature = "supervisor")]
mod spawner;

#[cfg(feature = "supervisor")]
mod watcher;

#[cfg(feature = "supervisor")]
mod restart_loop;

mod readiness;

#[cfg(feature = "supervisor")]
mod notifications;

#[cfg(feature = "supervisor")]
mod orphans;

mod probe;

#[cfg(feature = "supervisor")]
mod probe_failure;

#[cfg(feature = "supervisor")]
mod error;

#[cfg(feature = "supervisor")]
mod lock;

#[cfg(feature = "supervisor")]
mod settings;

#[cfg(feature = "supervisor")]
mod event;

#[cfg(feature = "supervisor")]
mod request;

#[cfg(feature = "supervisor")]
mod run;

#[cfg(feature = "supervisor")]
mod probing;

#[cfg(feature = "supervisor")]
mod life;

#[cfg(feature = "supervisor")]
mod control;

#[cfg(feature = "supervisor")]
mod builder;

#[cfg(feature = "supervisor")]
mod group;

#[cfg(feature = "supervisor")]
pub use control::Supervisor;
#[cfg(feature = "supervisor")]
pub use error::SupervisorError;
#[cfg(feature = "supervisor")]
pub use event::{Outcome, RunError, Status, SupervisorEvent, SupervisorEvents, SupervisorState};
#[cfg(feature = "supervisor")]
pub use group::{GroupOutcome, SupervisorGroup, SupervisorGroupBuilder};
#[cfg(feature = "supervisor")]
pub use orphans::Orphans;
pub use policy::{
    Decision, EndCause, GaveUp, GiveUpScope, PolicyError, RestartLimit, RestartPolicy,
    RestartTracker, RestartTrackerBuilder, RunEnd, SiblingStrategy,
};
pub use probe::Probe;
#[cfg(feature = "supervisor")]
pub use probe_failure::ProbeFailure;
#[cfg(feature = "supervisor")]
pub use process::WatchResult;
pub use readiness::Readiness;
#[cfg(feature = "supervisor")]
pub use restart_loop::{RestartError, RestartLoop, RestartLoopBuilder, Started, Starter};
#[cfg(feature = "supervisor")]
pub use settings::SupervisorBuilder;
#[cfg(feature = "supervisor")]
pub use spawner::{
    AgentHandle, AgentStdio, CloseError, SignalError, SpawnError, Spawner, SpawnerOptions,
};
#[cfg(feature = "supervisor")]
pub use watcher::{WatchError, Watcher};
