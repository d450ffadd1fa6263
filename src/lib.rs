//! A test harness for process supervision. It brings:
//!
//! - a child process that crashes, hangs or gets ready exactly when your test says so;
//! - building blocks for a supervisor of your own;
//! - a clock that a test moves by hand;
//! - checks of the laws that supervisors keep.
//!
//! # Virtual time over real processes
//!
//! A [`Sim`] runs plain tokio code, and the processes that this code starts, under one virtual
//! clock. Its children are [`Agent`]s: real processes that do what their [`Script`] or the test
//! says. The sim records everything that happens in a [`Timeline`], which is the same every time,
//! byte for byte.
//!
//! ```
//! use std::time::Duration;
//! use supervise_harness::{Script, Sim};
//!
//! let timeline = Sim::new().run(async |sim| {
//!     let worker = sim.agent("worker", Script::new().run_for(Duration::from_secs(3600)).exit(1));
//!     for _ in 0..2 {
//!         // The code under test.
//!         tokio::process::Command::from(worker.command()).status().await?;
//!         tokio::time::sleep(Duration::from_secs(60)).await;
//!     }
//!     Ok::<_, std::io::Error>(())
//! });
//! assert_eq!(timeline.gaps("worker"), [Duration::from_secs(60)]);
//! ```
//!
//! # What is left behind
//!
//! A [`leaks::Guard`] names and ends the processes that a test leaves behind. A [`Sim`] does this
//! by itself.
//!
//! # A child that crashes when told
//!
//! [`stub::path`] returns the path of a program that crashes, hangs, ignores signals, forks, floods
//! its output or gets ready exactly when its [script](stub::script) says so. Anything that can
//! start a process can start it.
//!
//! ```
//! use std::process::Command;
//! use supervise_harness::stub;
//!
//! let child = Command::new(stub::path()?).args(["--script", "die SIGSEGV"]).status()?;
//! assert_eq!(child.code(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Starting and watching
//!
//! - A [`Spawner`] starts an agent. The agent inherits one end of a socket pair and its standard
//!   streams, and no other descriptor.
//! - An [`AgentHandle`] stops the agent: it sends TERM to the agent's process group, waits for a
//!   grace period, and then sends KILL.
//! - A [`Watcher`] waits for the agent's end.
//!
//! # Deciding and delaying
//!
//! - A [`RestartTracker`] decides what follows the end of a run: a restart, no restart, or giving
//!   up.
//! - A [`BackoffStrategy`] says how long to wait before the restart.
//!
//! Both are pure: they read no clock and do no I/O.
//!
//! ```
//! use std::time::Duration;
//! use supervise_harness::{BackoffStrategy, ExponentialBackoff};
//!
//! let mut backoff = ExponentialBackoff::default();
//! assert_eq!(backoff.next_delay(3), Duration::from_secs(8));
//! assert_eq!(backoff.next_delay(u32::MAX), Duration::from_secs(60));
//! ```
//!
//! # Keeping it running
//!
//! - A [`RestartLoop`] tries to start something until a start succeeds or the loop gives up.
//! - A [`Supervisor`] keeps an agent running over many runs, and reports what it does as events.
//! - A [`SupervisorGroup`] keeps several agents running. It starts them in order, and it has a rule
//!   for what happens to the others when one of them ends.
//!
//! Many of these parts follow the Go package `supervise`, which starts a process, waits for its end
//! and starts it again after a backoff. The documentation of an item names that package where the
//! item comes from it.
//!
//! # Time
//!
//! Every part that waits takes the time from a [`Clock`]: either tokio's clock, or a [`FakeClock`],
//! on which an hour passes as soon as a test says so.
#![cfg_attr(
    feature = "properties",
    doc = "
# Laws

[`properties`] checks them: of a backoff, of restart decisions, of a restart loop. Ours or yours."
)]
#![cfg_attr(
    not(feature = "properties"),
    doc = "\n# Laws\n\nThe feature `properties` brings checks of them."
)]

// The modules are in the order of the data flow: a module imports only from modules above it.
mod causes;
mod said;

mod variables;

mod timestamp;

mod status;

mod backoff;

mod policy;

mod clock;

mod process;

mod spawner;

mod watcher;

mod restart_loop;

mod supervisor;

mod timeline;

mod agent;

pub mod leaks;

mod sim;

pub mod rules;

#[cfg(feature = "properties")]
pub mod properties;

#[cfg(feature = "properties")]
pub mod conformance;

pub use agent::{Agent, Following, Run, Script};
pub use agent_stub as stub;
pub use agent_stub::Signal;
pub use backoff::{
    BackoffError, BackoffStrategy, ConstantBackoff, Delays, ExponentialBackoff,
    ExponentialBackoffBuilder, Jitter, LinearBackoff,
};
pub use clock::{Clock, FakeClock, Sleep, TokioClock};
pub use policy::{
    Decision, EndCause, GaveUp, GiveUpScope, PolicyError, RestartLimit, RestartPolicy,
    RestartTracker, RestartTrackerBuilder, RunEnd, SiblingStrategy,
};
pub use process::WatchResult;
pub use restart_loop::{RestartError, RestartLoop, RestartLoopBuilder, Started, Starter};
pub use sim::{BodyResult, Sim, SimBuilder, SimError, SimFailure, SimHandle};
pub use spawner::{
    AgentHandle, AgentStdio, CloseError, SignalError, SpawnError, Spawner, SpawnerOptions,
};
pub use status::ExitStatus;
pub use supervisor::{
    GroupOutcome, Orphans, Outcome, Probe, ProbeFailure, Readiness, RunError, State, Status,
    Supervisor, SupervisorBuilder, SupervisorError, SupervisorEvent, SupervisorEvents,
    SupervisorGroup, SupervisorGroupBuilder,
};
pub use timeline::{Event, RunSpan, Timeline, TimelineClock, TimelineError, What, Who};
pub use timestamp::Timestamp;
pub use tokio_util::sync::CancellationToken;
pub use watcher::{WatchError, Watcher};

#[cfg(test)]
#[path = "../fixtures/sweeper.rs"]
mod sweeper;

/// Compiles the README's examples together with the documentation's.
#[cfg(all(doctest, feature = "properties"))]
#[doc = include_str!("../README.md")]
struct Readme;
