//! How a supervisor is set up, checked and started.

use std::path::PathBuf;

use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::control::Supervisor;
use super::error::SupervisorError;
use super::event::{Status, SupervisorEvents, SupervisorState};
use super::life::Life;
use super::lock::Lock;
use super::orphans::Orphans;
use super::probe::Probe;
use super::readiness::Readiness;
use super::request::Link;
use super::settings::SupervisorBuilder;
use crate::backoff::{BackoffStrategy, ExponentialBackoff};

use crate::supervisor::policy::RestartTracker;
use crate::supervisor::spawner::Spawner;

impl Supervisor {
    /// Starts to build a supervisor of an agent named `agent_id`, which `spawner` starts. The
    /// spawner's grace and stop signal apply to every stop. The spawner's clock measures all delays
    /// and timeouts.
    ///
    /// Defaults: restart on failure, without a limit; a backoff that starts at 1 s and doubles up
    /// to 60 s, without jitter; up at exec; no start timeout; no watchdog; no probe; no lock.
    pub fn builder(spawner: Spawner, agent_id: impl Into<String>) -> SupervisorBuilder {
        SupervisorBuilder {
            clock: spawner.clock(),
            spawner,
            agent_id: agent_id.into(),
            tracker: RestartTracker::default(),
            backoff: Box::new(ExponentialBackoff::default()),
            readiness: Readiness::default(),
            start_timeout: None,
            watchdog: None,
            probe: None,
            orphans: None,
            lock_path: None,
            lock: None,
        }
    }
}

impl SupervisorBuilder {
    /// Sets the tracker, which decides about restarts.
    pub fn tracker(mut self, tracker: RestartTracker) -> Self {
        self.tracker = tracker;
        self
    }

    /// Sets the backoff: how long to wait before a restart.
    pub fn backoff(mut self, backoff: impl BackoffStrategy + Send + 'static) -> Self {
        self.backoff = Box::new(backoff);
        self
    }

    /// Sets when the agent counts as up.
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// Sets how long a start may take until the agent is up; above zero. Default: for ever.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// Sets how long an agent that is up may be silent; above zero. A line that the agent writes to
    /// its socket, as for [`Readiness::Notified`], is a heartbeat. The supervisor kills an agent
    /// that misses a heartbeat at once, because the agent may be unable to act on a stop signal.
    /// The run ends with [`EndCause::WatchdogTimeout`](crate::supervisor::EndCause::WatchdogTimeout). Default:
    /// for ever.
    ///
    /// Source: `WatchdogSec=` of systemd.service(5).
    pub fn watchdog(mut self, period: Duration) -> Self {
        self.watchdog = Some(period);
        self
    }

    /// Sets how to ask an agent that is up whether it is healthy. After as many failures in a row
    /// as the probe says, the supervisor stops the agent, and the run ends with
    /// [`EndCause::Unhealthy`](crate::supervisor::EndCause::Unhealthy). Default: the agent is not asked.
    ///
    /// The supervisor finds and starts the probe's program as it does the agent's: with the same
    /// environment and working directory, and in a process group of its own. The probe's standard
    /// streams are `/dev/null`. It has a socket as an agent has, but nobody reads or writes at the
    /// other end.
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    /// Sets the lock file. The lock on it says that the service belongs to this supervisor. It
    /// prevents a second supervisor, and a second copy of the service after a crash. Default: none.
    ///
    /// The start takes the lock before it starts anything, and fails if another process has the
    /// lock. The agents inherit the open file, as descriptor 4. The lock holds until the supervisor
    /// and every process that has the descriptor are gone, without a gap. After a supervisor was
    /// killed, its agent therefore keeps a new supervisor from starting until the agent has ended.
    /// An agent that closes the descriptor gives this protection up. A descendant that outlives its
    /// agent keeps the lock.
    ///
    /// The start creates the file if it does not exist, and the supervisor never removes it. The
    /// file names the supervisor and its agent, for the error of a supervisor that is refused. It
    /// must be on a file system of this machine.
    ///
    /// Source: flock(2); setlock of daemontools, whose lock is inherited as well; s6-supervise,
    /// which locks a file of the service directory.
    pub fn lock(mut self, path: impl Into<PathBuf>) -> Self {
        self.lock_path = Some(path.into());
        self
    }

    /// Tells `orphans` which agents this supervisor has, so that it takes what they leave in their
    /// process groups for orphans. Default: none.
    pub fn orphans(mut self, orphans: &Orphans) -> Self {
        self.orphans = Some(orphans.adopter());
        self
    }

    /// Takes the lock if a lock file is set.
    pub(super) fn take_lock(&mut self) -> Result<(), SupervisorError> {
        if let Some(path) = &self.lock_path {
            let lock = Lock::take(path)?;
            self.spawner.pass_on(lock.file());
            self.lock = Some(lock);
        }
        Ok(())
    }

    /// Starts the supervisor on the current runtime. The supervisor then starts the agent.
    ///
    /// # Errors
    ///
    /// - [`SupervisorError::Locked`] if another process has the [lock](SupervisorBuilder::lock),
    ///   and [`SupervisorError::Lock`] if the lock file cannot be opened, locked or written;
    /// - [`SupervisorError::ZeroPeriod`] if a start timeout, a minimum uptime, a watchdog, or a
    ///   probe's period or timeout is zero;
    /// - [`SupervisorError::BadProbe`] if the probe's program or arguments are invalid;
    /// - [`SupervisorError::NoRuntime`] outside a tokio runtime.
    pub fn start(mut self) -> Result<(Supervisor, SupervisorEvents), SupervisorError> {
        self.validate()?;
        let runtime = runtime()?;
        self.take_lock()?;
        Ok(self.launch(&runtime, None))
    }

    /// Refuses periods of zero, and a probe that nothing can start.
    pub(super) fn validate(&self) -> Result<(), SupervisorError> {
        if self.start_timeout == Some(Duration::ZERO) {
            return Err(SupervisorError::ZeroPeriod {
                field: "start_timeout",
                instead: "leave it out for a start that may take for ever",
            });
        }
        if self.watchdog == Some(Duration::ZERO) {
            return Err(SupervisorError::ZeroPeriod {
                field: "watchdog",
                instead: "leave it out for an agent that may be silent for ever",
            });
        }
        if self.readiness == Readiness::MinUptime(Duration::ZERO) {
            return Err(SupervisorError::ZeroPeriod {
                field: "the minimum uptime",
                instead: "Readiness::Exec",
            });
        }
        self.validate_probe()
    }

    fn validate_probe(&self) -> Result<(), SupervisorError> {
        let Some(probe) = &self.probe else {
            return Ok(());
        };
        if probe.every.is_zero() {
            return Err(SupervisorError::ZeroPeriod {
                field: "the probe's period",
                instead: "leave the probe out for an agent that is not asked",
            });
        }
        if probe.timeout.is_zero() {
            return Err(SupervisorError::ZeroPeriod {
                field: "the probe's timeout",
                instead: "leave the probe out for an agent that is not asked",
            });
        }
        let spawner = self.spawner.of_program(&probe.program, &probe.args);
        spawner
            .map(drop)
            .map_err(|error| SupervisorError::BadProbe {
                reason: error.to_string(),
            })
    }

    /// Starts the supervisor's task. With a link, it is a child of a group and waits for its turn.
    pub(super) fn launch(
        self,
        runtime: &Handle,
        link: Option<Link>,
    ) -> (Supervisor, SupervisorEvents) {
        let (commands, requests) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let starting = Status {
            state: match link {
                None => SupervisorState::Starting,
                Some(_) => SupervisorState::Waiting,
            },
            runs: 0,
            pid: None,
        };
        let (status_sender, status) = watch::channel(starting);
        let life = Life::new(self, requests, event_sender, status_sender, link);
        runtime.spawn(life.live());
        (Supervisor { commands, status }, SupervisorEvents { events })
    }
}

/// Returns the current tokio runtime.
pub(super) fn runtime() -> Result<Handle, SupervisorError> {
    Handle::try_current().map_err(|_| SupervisorError::NoRuntime)
}
