//! Keeping an agent running over whole lifetimes.

mod builder;
mod event;
mod group;
mod life;
mod lock;
mod orphans;
mod probe;
mod readiness;

use tokio::sync::{mpsc, oneshot, watch};

pub use builder::{SupervisorBuilder, SupervisorError};
pub use event::{Outcome, RunError, State, Status, SupervisorEvent, SupervisorEvents};
pub use group::{GroupOutcome, SupervisorGroup, SupervisorGroupBuilder};
pub use orphans::Orphans;
pub use probe::{Probe, ProbeFailure};
pub use readiness::Readiness;

use life::{Command, Request};

/// Keeps one agent running: the reference that the rules are held to.
///
/// Detailed operation, from [`start`](SupervisorBuilder::start) on:
///
/// 1. It spawns the agent as [`Spawner::spawn`](crate::Spawner::spawn) does. A spawn that fails is
///    an end of that run with [`EndCause::StartFailed`](crate::EndCause::StartFailed); go to 5.
/// 2. It waits until the agent is ready, as [`Readiness`] says. An agent that ends before that has
///    failed to start, whatever its exit code. One that is not ready at the start timeout is stopped
///    as in 6, and that run ends with [`EndCause::StartTimeout`](crate::EndCause::StartTimeout).
/// 3. The agent is up. What counts as a healthy run counts from here. With a
///    [`watchdog`](SupervisorBuilder::watchdog), an agent that misses a heartbeat is killed, and that
///    run ends with [`EndCause::WatchdogTimeout`](crate::EndCause::WatchdogTimeout); go to 5. With a
///    [`probe`](SupervisorBuilder::probe), an agent that has failed as many in a row as that says is
///    stopped as in 6, and that run ends with [`EndCause::Unhealthy`](crate::EndCause::Unhealthy).
/// 4. The agent ends. Its status is read and it is reaped at once; what it left in its process group
///    is killed before the next run starts.
/// 5. The [`RestartTracker`](crate::RestartTracker) decides. A restart waits for the backoff's delay,
///    counted from the end, and goes to 1 with the next run's number. Otherwise the supervisor rests,
///    with an [`Outcome`], until it is told to start again.
/// 6. A stop shuts the host's half of the socket, sends the stop signal to the process group, waits
///    for the grace, sends SIGKILL to the group, and returns after the agent was reaped. While an
///    agent is being stopped none is started. A stop during a delay ends the delay.
///
/// Every request is carried out in the order of its arrival, and each state answers it at once but
/// for the time that stopping takes. Nothing is started after a stop has returned until a
/// [`start`](Supervisor::start) or a [`restart`](Supervisor::restart).
///
/// Dropping the supervisor kills the agent and its process group, without a grace, and so a probe that
/// runs; the task that this takes ends with the runtime at the latest, and they with it.
///
/// Source: the loop of the Go package `supervise`, over whole lifetimes; the form is that of s6-supervise's
/// documentation.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::{
///     ExponentialBackoff, Outcome, RestartLimit, RestartTracker, SpawnerOptions, Supervisor,
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
    commands: mpsc::UnboundedSender<Command>,
    status: watch::Receiver<Status>,
}

impl Supervisor {
    /// Waits until it rests: until it has finished, given up, stopped or failed.
    ///
    /// Cancel-safe.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`] where its task has ended: with its runtime, or by a panic of the
    /// backoff.
    pub async fn wait(&self) -> Result<Outcome, SupervisorError> {
        let mut status = self.status.clone();
        let rests = status.wait_for(|status| matches!(status.state, State::Resting(_)));
        match rests.await.as_deref() {
            Ok(Status {
                state: State::Resting(outcome),
                ..
            }) => Ok(outcome.clone()),
            _ => Err(SupervisorError::Gone),
        }
    }

    /// Stops the agent, and returns after it was reaped. Where the supervisor rests already, nothing
    /// happens, and the outcome is the one that it rests with. Any number of stops at once are one.
    ///
    /// Not cancelled by dropping the future: the stop goes on.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn stop(&self) -> Result<Outcome, SupervisorError> {
        self.ask(Request::Stop).await?.ok_or(SupervisorError::Gone)
    }

    /// Stops the agent if it runs and starts it at once, without a delay. Everything counts from 0
    /// again, also after giving up. Requests that come while one is carried out are one with it.
    /// Returns after the start was tried.
    ///
    /// Not cancelled by dropping the future.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn restart(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Restart).await.map(drop)
    }

    /// Starts the agent if it does not run: at once, also during a delay, and also after it finished,
    /// was stopped or given up; everything counts from 0 again. An agent that runs is left alone.
    /// Returns after the start was tried.
    ///
    /// Not cancelled by dropping the future.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn start(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Start).await.map(drop)
    }

    /// Clears the counts: the next delay is the first again, and the limit has counted nothing. What
    /// it does at the moment goes on.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Gone`], as for [`wait`](Supervisor::wait).
    pub async fn reset(&self) -> Result<(), SupervisorError> {
        self.ask(Request::Reset).await.map(drop)
    }

    /// What it does now.
    #[must_use]
    pub fn status(&self) -> Status {
        self.status.borrow().clone()
    }

    /// Waits until what it does matches, and returns that. States that pass quickly may not be seen:
    /// [`SupervisorEvents`] has them all.
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

    /// Asks, and does not wait for it; where nobody is there any more, nothing is to be done.
    fn order(&self, request: Request) {
        let (done, _) = oneshot::channel();
        let _ = self.commands.send(Command { request, done });
    }
}
