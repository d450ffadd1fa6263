//! A test harness for process supervision.

// In the order of the data flow: a module imports only what stands before it.
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

#[cfg(feature = "properties")]
pub mod properties;

pub use agent_stub as stub;
pub use agent_stub::Signal;
pub use backoff::{
    BackoffError, BackoffStrategy, ConstantBackoff, Delays, ExponentialBackoff,
    ExponentialBackoffBuilder, Jitter, LinearBackoff,
};
pub use clock::{Clock, FakeClock, Sleep, TokioClock};
pub use policy::{
    Decision, EndCause, GaveUp, PolicyError, RestartLimit, RestartPolicy, RestartTracker,
    RestartTrackerBuilder, RunEnd,
};
pub use process::WatchResult;
pub use restart_loop::{RestartError, RestartLoop, RestartLoopBuilder, Started, Starter};
pub use spawner::{
    AgentHandle, AgentStdio, CloseError, SignalError, SpawnError, Spawner, SpawnerOptions,
};
pub use status::ExitStatus;
pub use supervisor::{
    Outcome, Readiness, RunError, State, Status, Supervisor, SupervisorBuilder, SupervisorError,
    SupervisorEvent, SupervisorEvents,
};
pub use timestamp::Timestamp;
pub use tokio_util::sync::CancellationToken;
pub use watcher::{WatchError, Watcher};
