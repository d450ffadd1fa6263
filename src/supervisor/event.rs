//! What a supervisor does, and the events with which it reports that.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::probe_failure::ProbeFailure;
use crate::causes::WithCauses;
use crate::status::ExitStatus;
use crate::supervisor::policy::{GaveUp, RunEnd};
use crate::supervisor::spawner::{CloseError, SpawnError};
use crate::supervisor::watcher::WatchError;
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// Something that a supervisor did or saw. Runs are numbered from 1.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SupervisorEvent {
    /// The agent was started.
    Started {
        /// The run's number.
        run: u64,
        /// The agent's process id.
        pid: u32,
    },
    /// The agent could not be started.
    StartFailed {
        /// The run's number.
        run: u64,
        /// Why the start failed.
        error: Arc<SpawnError>,
    },
    /// The agent is up.
    Ready {
        /// The run's number.
        run: u64,
    },
    /// The agent was not ready in time. The supervisor stops it.
    StartTimedOut {
        /// The run's number.
        run: u64,
    },
    /// The agent missed a heartbeat. The supervisor kills it.
    MissedHeartbeat {
        /// The run's number.
        run: u64,
    },
    /// A probe of the agent failed. If as many have failed in a row as end the run, the supervisor
    /// stops the agent.
    ProbeFailed {
        /// The run's number.
        run: u64,
        /// How many probes have failed in a row, this one included.
        failed: u32,
        /// How this probe failed.
        failure: ProbeFailure,
    },
    /// The supervisor stops the agent: it sends the stop signal to the agent's process group.
    Stopping {
        /// The run's number.
        run: u64,
        /// The stop signal.
        signal: Signal,
    },
    /// The agent ended and was reaped.
    Ended {
        /// The run's number.
        run: u64,
        /// How the agent ended.
        status: ExitStatus,
        /// The run as the restart decision sees it.
        end: RunEnd,
    },
    /// The supervisor waits before it starts the agent again.
    BackingOff {
        /// The attempt that the backoff was asked about; 0 when the count starts again.
        attempt: u32,
        /// How long the supervisor waits, from now.
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
        /// Whether the end of the run counts as a success.
        success: bool,
        /// How the run ended.
        end: RunEnd,
    },
    /// The limit allows no more restarts.
    GaveUp(GaveUp),
    /// The supervisor was stopped. If it had to end a run for that, this is how the run ended.
    Stopped(Option<ExitStatus>),
    /// The supervisor does not know how the agent ended, and so cannot decide. Something else in
    /// this program waits for all children, SIGCHLD is ignored, or the kernel refused to wait or to
    /// send a signal. The supervisor has killed the agent, if the kernel let it.
    Failed(Arc<RunError>),
}

/// Why a supervisor does not know how its agent ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Waiting for the agent failed.
    #[error(transparent)]
    Watch(#[from] WatchError),
    /// Stopping the agent failed.
    #[error(transparent)]
    Close(#[from] CloseError),
}

/// What a supervisor does at one moment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// The supervisor's state.
    pub state: SupervisorState,
    /// The number of runs so far, failed start attempts included.
    pub runs: u64,
    /// The agent's process id, while there is an agent.
    pub pid: Option<u32>,
}

/// The states of a supervisor.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SupervisorState {
    /// The agent is down until it is its turn in its [`SupervisorGroup`](crate::supervisor::SupervisorGroup).
    Waiting,
    /// The agent was started, or is about to be, and is not up yet.
    Starting,
    /// The agent is up.
    Up,
    /// The agent ended. The supervisor waits before it starts the agent again.
    BackingOff,
    /// The agent is being stopped.
    Stopping,
    /// The supervisor does nothing until it is told to start again.
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

/// The events of one supervisor, each with its time, in order. No event is lost: events wait until
/// they are read.
#[derive(Debug)]
pub struct SupervisorEvents {
    pub(super) events: mpsc::UnboundedReceiver<StampedEvent>,
}

/// An event and when the supervisor reported it.
#[derive(Debug)]
pub(crate) struct StampedEvent {
    /// The time by the supervisor's clock.
    pub(crate) at: Timestamp,
    /// The time by tokio's clock, which everything in one runtime shares.
    pub(crate) instant: Instant,
    pub(crate) event: SupervisorEvent,
}

impl SupervisorEvents {
    /// Waits for the next event, and returns it with its time by the supervisor's clock. Returns
    /// `None` after the supervisor's end, once its last event was read.
    ///
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<(Timestamp, SupervisorEvent)> {
        let told = self.events.recv().await?;
        Some((told.at, told.event))
    }

    /// Returns the next event if there is one now.
    pub fn try_next(&mut self) -> Option<(Timestamp, SupervisorEvent)> {
        self.try_told().map(|told| (told.at, told.event))
    }

    pub(crate) fn try_told(&mut self) -> Option<StampedEvent> {
        self.events.try_recv().ok()
    }
}
