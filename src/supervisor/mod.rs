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

mod process;

mod spawner;

mod watcher;

mod restart_loop;

mod readiness;

mod notifications;

mod orphans;

mod probe;

mod error;

mod lock;

mod settings;

mod event;

mod request;

mod run;

mod probing;

mod life;

mod control;

mod builder;

mod group;

pub use control::Supervisor;
pub use error::SupervisorError;
pub use event::{Outcome, RunError, State, Status, SupervisorEvent, SupervisorEvents};
pub use group::{GroupOutcome, SupervisorGroup, SupervisorGroupBuilder};
pub use orphans::Orphans;
pub use policy::{
    Decision, EndCause, GaveUp, GiveUpScope, PolicyError, RestartLimit, RestartPolicy,
    RestartTracker, RestartTrackerBuilder, RunEnd, SiblingStrategy,
};
pub use probe::{Probe, ProbeFailure};
pub use process::WatchResult;
pub use readiness::Readiness;
pub use restart_loop::{RestartError, RestartLoop, RestartLoopBuilder, Started, Starter};
pub use settings::SupervisorBuilder;
pub use spawner::{
    AgentHandle, AgentStdio, CloseError, SignalError, SpawnError, Spawner, SpawnerOptions,
};
pub use watcher::{WatchError, Watcher};
