//! What a supervisor is made of.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};

use super::event::{State, Status, SupervisorEvents};
use super::life::{Life, Link};
use super::lock::Lock;
use super::orphans::{Adopter, Orphans};
use super::{Probe, Readiness, Supervisor};
use crate::backoff::{BackoffStrategy, ExponentialBackoff};
use crate::clock::Clock;
use crate::policy::RestartTracker;
use crate::spawner::Spawner;

/// Why a supervisor cannot be started or asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// A period that must be above zero.
    #[error("{field} is 0s: expected a period above zero ({instead})")]
    ZeroPeriod {
        /// The setting.
        field: &'static str,
        /// What to use instead.
        instead: &'static str,
    },
    /// A probe whose program or arguments no program can have.
    #[error("the probe cannot be started, ever: {reason}")]
    BadProbe {
        /// The spawner's words.
        reason: String,
    },
    /// A group of nobody.
    #[error("a group needs a child: expected one or more")]
    NoChildren,
    /// Two children of a group are called the same, and nobody could tell which was meant.
    #[error("two children of the group are called {agent_id:?}: expected a name for each")]
    SameName {
        /// The name.
        agent_id: String,
    },
    /// Another supervisor has the lock, or what one that crashed has left.
    #[error("{} is locked{}: the service is in other hands", path.display(), by(*holder))]
    Locked {
        /// The file.
        path: PathBuf,
        /// The process that holds the lock, where that can be told: a supervisor, or the agent that one
        /// has left.
        holder: Option<u32>,
    },
    /// The lock cannot be taken at all.
    #[error("cannot take the lock {}: {reason}", path.display())]
    Lock {
        /// The file.
        path: PathBuf,
        /// The kernel's reason.
        reason: String,
    },
    /// There is no tokio runtime to run it.
    #[error("a supervisor needs a tokio runtime: start it inside one")]
    NoRuntime,
    /// The supervisor's task has ended, with its runtime or by a panic of the backoff.
    #[error("the supervisor has ended: its runtime is gone, or its backoff panicked")]
    Gone,
}

/// By whom.
fn by(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" by process {pid}"))
}

/// Builds a [`Supervisor`].
#[must_use]
pub struct SupervisorBuilder {
    pub(super) spawner: Spawner,
    pub(super) agent_id: String,
    pub(super) tracker: RestartTracker,
    pub(super) backoff: Box<dyn BackoffStrategy + Send>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) readiness: Readiness,
    pub(super) start_timeout: Option<Duration>,
    pub(super) watchdog: Option<Duration>,
    pub(super) probe: Option<Probe>,
    pub(super) orphans: Option<Arc<Adopter>>,
    lock_path: Option<PathBuf>,
    /// Held as long as the supervisor lives.
    pub(super) lock: Option<Lock>,
}

impl fmt::Debug for SupervisorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorBuilder")
            .field("spawner", &self.spawner)
            .field("agent_id", &self.agent_id)
            .field("tracker", &self.tracker)
            .field("readiness", &self.readiness)
            .field("start_timeout", &self.start_timeout)
            .field("watchdog", &self.watchdog)
            .field("probe", &self.probe)
            .field("lock", &self.lock_path)
            .finish_non_exhaustive()
    }
}

impl Supervisor {
    /// A supervisor of the agents that this spawner starts. The spawner's grace and stop signal are
    /// those of the stops, and its clock is the one that all delays and timeouts go by.
    ///
    /// Defaults: restart on failure, without a limit; a backoff from 1 s doubling to 60 s, without
    /// jitter; up at exec; no start timeout; no watchdog; no probe; no lock.
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
    /// What decides about restarts.
    pub fn tracker(mut self, tracker: RestartTracker) -> Self {
        self.tracker = tracker;
        self
    }

    /// How long to wait before a restart.
    pub fn backoff(mut self, backoff: impl BackoffStrategy + Send + 'static) -> Self {
        self.backoff = Box::new(backoff);
        self
    }

    /// When the agent counts as up.
    pub fn readiness(mut self, readiness: Readiness) -> Self {
        self.readiness = readiness;
        self
    }

    /// How long a start may take until the agent is up; above zero. Default: for ever.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// How long an agent that is up may be silent; above zero. What it says on its socket, by a line
    /// as for [`Readiness::Notified`], is a heartbeat. An agent that misses one is killed at once, for
    /// it may act on no signal, and its run ends with
    /// [`EndCause::WatchdogTimeout`](crate::EndCause::WatchdogTimeout). Default: for ever.
    ///
    /// Source: `WatchdogSec=` of systemd.service(5).
    pub fn watchdog(mut self, period: Duration) -> Self {
        self.watchdog = Some(period);
        self
    }

    /// How to ask an agent that is up whether it is healthy. So many failures in a row, and it is
    /// stopped, and its run ends with [`EndCause::Unhealthy`](crate::EndCause::Unhealthy). Default: it
    /// is not asked.
    ///
    /// The program is found, and started, as the agent's is: with its environment and in its working
    /// directory, in a process group of its own. Its standard streams lead nowhere, and nobody is at the
    /// other end of its socket.
    pub fn probe(mut self, probe: Probe) -> Self {
        self.probe = Some(probe);
        self
    }

    /// The file whose lock says that the service is in this supervisor's hands, so that there is never
    /// a second one, nor a second copy of the service after a crash. Default: none.
    ///
    /// The start takes the lock, before it starts anything, and is refused where another has it. The
    /// agents inherit the open file, as descriptor 4: the lock holds until the supervisor and all that
    /// has the descriptor are gone, with no moment between. So what is left of a supervisor that was
    /// killed keeps a new one from starting until it has ended. An agent that closes what it inherits
    /// gives that up, and a descendant that outlives its agent holds the lock on.
    ///
    /// The file is made where it is not there, never removed, and names the supervisor and its agent
    /// for whoever is refused. It must be on a file system of this machine.
    ///
    /// Source: flock(2); setlock of daemontools, which is inherited as well; s6-supervise, which locks
    /// a file of the service directory.
    pub fn lock(mut self, path: impl Into<PathBuf>) -> Self {
        self.lock_path = Some(path.into());
        self
    }

    /// Tells those who adopt orphans of this supervisor's agents, so that what they leave in their
    /// process groups is known for orphans. Default: none.
    pub fn orphans(mut self, orphans: &Orphans) -> Self {
        self.orphans = Some(orphans.adopter());
        self
    }

    /// Takes the lock, if there is to be one.
    pub(super) fn take_lock(&mut self) -> Result<(), SupervisorError> {
        if let Some(path) = &self.lock_path {
            let lock = Lock::take(path)?;
            self.spawner.pass_on(lock.file());
            self.lock = Some(lock);
        }
        Ok(())
    }

    /// Starts the supervisor, and so the agent, on the current runtime.
    ///
    /// # Errors
    ///
    /// [`SupervisorError::Locked`] where another has the [lock](SupervisorBuilder::lock), and
    /// [`SupervisorError::Lock`] where it cannot be taken at all; [`SupervisorError::ZeroPeriod`] for a
    /// start timeout, a minimum uptime, a watchdog, or a probe's period or timeout of zero;
    /// [`SupervisorError::BadProbe`]; [`SupervisorError::NoRuntime`] outside a tokio runtime.
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

    /// Starts it; as a child of a group, to wait for its turn.
    pub(super) fn launch(
        self,
        runtime: &Handle,
        link: Option<Link>,
    ) -> (Supervisor, SupervisorEvents) {
        let (commands, requests) = mpsc::unbounded_channel();
        let (event_sender, events) = mpsc::unbounded_channel();
        let starting = Status {
            state: match link {
                None => State::Starting,
                Some(_) => State::Waiting,
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

/// The runtime to run on.
pub(super) fn runtime() -> Result<Handle, SupervisorError> {
    Handle::try_current().map_err(|_| SupervisorError::NoRuntime)
}
