//! What a supervisor does and says.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ProbeFailure;
use crate::causes::WithCauses;
use crate::policy::{GaveUp, RunEnd};
use crate::spawner::{CloseError, SpawnError};
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;
use crate::watcher::WatchError;
use agent_stub::Signal;

/// Something that a supervisor did or saw. Runs are numbered from 1.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SupervisorEvent {
    /// The agent was started.
    Started {
        /// The run.
        run: u64,
        /// The agent's process id.
        pid: u32,
    },
    /// The agent could not be started.
    StartFailed {
        /// The run.
        run: u64,
        /// Why.
        error: Arc<SpawnError>,
    },
    /// The agent is up.
    Ready {
        /// The run.
        run: u64,
    },
    /// The agent was not ready in time; it is being stopped.
    StartTimedOut {
        /// The run.
        run: u64,
    },
    /// The agent missed a heartbeat; it is killed.
    MissedHeartbeat {
        /// The run.
        run: u64,
    },
    /// A probe of the agent failed. Where it is one too many, the agent is being stopped.
    ProbeFailed {
        /// The run.
        run: u64,
        /// How many have failed in a row.
        failed: u32,
        /// How this one did.
        failure: ProbeFailure,
    },
    /// The agent is being stopped: the signal goes to its process group.
    Stopping {
        /// The run.
        run: u64,
        /// The stop signal.
        signal: Signal,
    },
    /// The agent ended and was reaped.
    Ended {
        /// The run.
        run: u64,
        /// How.
        status: ExitStatus,
        /// The run as the restart decision sees it.
        end: RunEnd,
    },
    /// There will be a restart.
    BackingOff {
        /// What the backoff was asked for.
        attempt: u32,
        /// How long from now.
        delay: Duration,
    },
    /// The supervisor rests until it is told to start again.
    Resting(Outcome),
}

/// How a supervisor came to rest.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// The policy wants no restart after this end.
    Finished {
        /// Whether the run ended well.
        success: bool,
        /// How it ended.
        end: RunEnd,
    },
    /// There were too many restarts.
    GaveUp(GaveUp),
    /// It was stopped, and where a run had to be ended for that, that is how the run ended.
    Stopped(Option<ExitStatus>),
    /// It cannot tell how the agent ended, and so cannot decide: something else in this program
    /// waits for all children, or the kernel refused to wait. The agent was killed.
    Failed(Arc<RunError>),
}

/// Why a supervisor cannot tell how its agent ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Waiting failed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Stopping failed.
    #[error(transparent)]
    Close(#[from] CloseError),
}

/// What a supervisor does at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// What it does.
    pub state: State,
    /// The runs so far, start attempts that failed included.
    pub runs: u64,
    /// The agent's process id, while there is an agent.
    pub pid: Option<u32>,
}

/// What a supervisor does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum State {
    /// It is down until it is its turn in its [`SupervisorGroup`](crate::SupervisorGroup).
    Waiting,
    /// An agent was started, or is about to be, and is not up yet.
    Starting,
    /// The agent is up.
    Up,
    /// The agent ended; there will be a restart.
    BackingOff,
    /// The agent is being stopped.
    Stopping,
    /// Nothing happens until it is told to start again.
    Resting(Outcome),
}

impl fmt::Display for SupervisorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SupervisorEvent::Started { run, .. } => write!(f, "run {run} started"),
            SupervisorEvent::StartFailed { run, error } => {
                write!(f, "run {run} failed to start: {}", WithCauses(error))
            }
            SupervisorEvent::Ready { run } => write!(f, "run {run} is up"),
            SupervisorEvent::StartTimedOut { run } => write!(f, "run {run} was not ready in time"),
            SupervisorEvent::MissedHeartbeat { run } => {
                write!(f, "run {run} missed a heartbeat")
            }
            SupervisorEvent::ProbeFailed {
                run,
                failed,
                failure,
            } => write!(
                f,
                "a probe of run {run} failed, {failed} in a row: {failure}"
            ),
            SupervisorEvent::Stopping { run, signal } => write!(f, "run {run} is sent {signal}"),
            SupervisorEvent::Ended { run, status, .. } => write!(f, "run {run} ended: {status}"),
            SupervisorEvent::BackingOff { delay, .. } => write!(f, "next start in {delay:?}"),
            SupervisorEvent::Resting(outcome) => outcome.fmt(f),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Finished { end, .. } => write!(f, "finished: {}", end.cause),
            Outcome::GaveUp(gave_up) => gave_up.fmt(f),
            Outcome::Stopped(Some(status)) => write!(f, "stopped: {status}"),
            Outcome::Stopped(None) => f.write_str("stopped"),
            Outcome::Failed(error) => write!(f, "failed: {}", WithCauses(error)),
        }
    }
}

/// The events of one supervisor, each with its time, in order. None is lost: they wait until they
/// are read.
#[derive(Debug)]
pub struct SupervisorEvents {
    pub(super) events: mpsc::UnboundedReceiver<Told>,
}

/// An event as it was told.
#[derive(Debug)]
pub(crate) struct Told {
    /// By the supervisor's clock.
    pub(crate) at: Timestamp,
    /// By tokio's, which everything in one runtime shares.
    pub(crate) instant: Instant,
    pub(crate) event: SupervisorEvent,
}

impl SupervisorEvents {
    /// The next event and its time by the supervisor's clock. None after the supervisor was dropped
    /// and its last event read.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<(Timestamp, SupervisorEvent)> {
        let told = self.events.recv().await?;
        Some((told.at, told.event))
    }

    /// The next event if there is one now.
    pub fn try_next(&mut self) -> Option<(Timestamp, SupervisorEvent)> {
        self.try_told().map(|told| (told.at, told.event))
    }

    pub(crate) fn try_told(&mut self) -> Option<Told> {
        self.events.try_recv().ok()
    }
}
