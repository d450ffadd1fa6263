//! The handle of the reference supervisor.

use tokio::sync::{mpsc, oneshot, watch};

use super::error::SupervisorError;
use super::event::{Outcome, Status, SupervisorState};
use super::request::{Command, Request};

/// Keeps one agent running. It is the reference supervisor: the rules are tested against it.
///
/// Detailed operation, from [`start`](super::SupervisorBuilder::start) on:
///
/// 1. The supervisor spawns the agent as [`Spawner::spawn`](super::Spawner::spawn) does. If the
///    spawn fails, the run ends with [`EndCause::StartFailed`](super::EndCause::StartFailed), and
///    step 5 follows.
/// 2. It waits until the agent is ready, as [`Readiness`](super::Readiness) defines it. An agent that ends before it
///    is ready has failed to start, whatever its exit code. If the agent is not ready at the start
///    timeout, the supervisor stops it as in step 6, and the run ends with
///    [`EndCause::StartTimeout`](super::EndCause::StartTimeout).
/// 3. The agent is up. The time that makes a run healthy is measured from here. With a
///    [`watchdog`](super::SupervisorBuilder::watchdog), the supervisor kills an agent that misses a
///    heartbeat, and the run ends with
///    [`EndCause::WatchdogTimeout`](super::EndCause::WatchdogTimeout), and step 5 follows. With a
///    [`probe`](super::SupervisorBuilder::probe), the supervisor stops the agent as in step 6 after as
///    many failures in a row as the probe says, and the run ends with
///    [`EndCause::Unhealthy`](super::EndCause::Unhealthy).
/// 4. The agent ends. The supervisor reads its status and reaps it at once. Before the next run
///    starts, it kills what the agent left in its process group.
/// 5. The [`RestartTracker`](super::RestartTracker) decides. Before a restart the supervisor waits
///    for the backoff's delay, counted from the end of the run. Then it goes to step 1 with the
///    next run's number. If there is no restart, it rests, with an [`Outcome`], until it is told to
///    start again.
/// 6. A stop shuts the host's half of the socket, sends the stop signal to the process group, waits
///    for the grace, sends SIGKILL to the group, and returns after the supervisor has reaped the
///    agent. While an agent is being stopped, the supervisor starts none. A stop during a delay
///    ends the delay.
///
/// The supervisor carries out requests in the order of their arrival. In every state it answers a
/// request at once, except for the time that stopping takes. After a stop has returned, it starts
/// nothing until a [`start`](Supervisor::start) or a [`restart`](Supervisor::restart).
///
/// Dropping the supervisor kills the agent and its process group, without a grace, and also a probe
/// that runs. The supervisor's task does this after the drop. The task ends at the latest with the
/// runtime, and the agent and the probe are killed then.
///
/// Source: the loop of the Go package `supervise`, extended to whole lifetimes. This description
/// has the form of s6-supervise's documentation.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::backoff::ExponentialBackoff;
/// use supervise_harness::supervisor::{
///     Outcome, RestartLimit, RestartTracker, SpawnerOptions, Supervisor,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spawner = SpawnerOptions::new()
///     .agent_path(agent_stub::path()?)
///     .args(["--script", "exit 7"])
///     .build()?;
/// let (supervisor, _events) = Supervisor::builder(spawner, "worker")
///     .tracker(RestartTracker::builder().limit(RestartLimit::consecutive(2)?).build()?)
///     .backoff(ExponentialBackoff::builder().initial(Duration::from_millis(1)).build()?)
///     .start()?;
///
/// let Outcome::GaveUp(gave_up) = supervisor.wait().await? else { panic!() };
/// assert_eq!(gave_up.to_string(), "gave up after 2 restarts in a row: exit code 7");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping the supervisor kills its agent"]
pub struct Supervisor {
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) status: watch::Receiver<Status>,
}

impl Supervisor {
    /// Waits until the supervisor rests: until it has finished, given up, stopped or failed.
    /// Returns the outcome.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`] if the supervisor's task has ended: its runtime is gone, or the
    /// backoff panicked.
    pub async fn wait(&self) -> Result<Outcome, SupervisorError> {
        let mut status = self.status.clone();
        let rests = status.wait_for(|status| matches!(status.state, SupervisorState::Resting(_)));
        match rests.await.as_deref() {
            Ok(Status {
                state: SupervisorState::Resting(outcome),
                ..
            }) => Ok(outcome.clone()),
            _ => Err(SupervisorError::Gone),
        }
    }

    /// Stops the agent, and returns after the supervisor has reaped it. If the supervisor already
    /// rests, does nothing and returns the outcome that it rests with. Several stops at the same
    /// time count as one.
    ///
    /// Dropping the future does not cancel the stop.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn stop(&self) -> Result<Outcome, SupervisorError> {
        self.ask(Request::Stop).await?.ok_or(SupervisorError::Gone)
    }

    /// Stops the agent if it runs, and starts it at once, without a delay. All counts begin again
    /// at 0, also after the supervisor gave up. Start and restart requests that arrive during a
    /// restart are answered by the same start. Returns after the start attempt, whether it
    /// succeeded or failed.
    ///
    /// Dropping the future does not cancel the restart.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn restart(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Restart).await.map(drop)
    }

    /// Starts the agent if it does not run. It starts at once, also during a delay, and also after
    /// the supervisor finished, was stopped or gave up. All counts begin again at 0 then. Does
    /// nothing to an agent that already runs. Returns after the start attempt, whether it succeeded
    /// or failed.
    ///
    /// Dropping the future does not cancel the start.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn start(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Start).await.map(drop)
    }

    /// Clears the counts: the next delay is the first delay again, and the limit has counted
    /// nothing. The supervisor goes on with what it is doing.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn reset(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Reset).await.map(drop)
    }

    /// Returns what the supervisor does now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until `matches` accepts the supervisor's status, and returns that status. May miss
    /// states that pass quickly; [`SupervisorEvents`](super::SupervisorEvents) misses no event.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn wait_for(
        &self,
        matches: impl FnMut(&Status) -> bool,
    ) -> Result<Status, SupervisorError> {
        let mut status = self.status.clone();
        let found = status.wait_for(matches).await;
        found
            .map(|status| status.clone())
            .map_err(|_| SupervisorError::Gone)
    }

    async fn ask(&self, request: Request) -> Result<Option<Outcome>, SupervisorError> {
        let (done, answer) = oneshot::channel();
        self.commands
            .send(Command { request, done })
            .map_err(|_| SupervisorError::Gone)?;
        answer.await.map_err(|_| SupervisorError::Gone)
    }

    /// Sends a request, and does not wait for the answer. If the supervisor's task is gone, there
    /// is nothing left to do, so this is no error.
    pub(super) fn order(&self, request: Request) {
        let (done, _) = oneshot::channel();
        let _ = self.commands.send(Command { request, done });
    }
}
