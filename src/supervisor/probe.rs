//! Asking an agent that is up whether it is healthy.

use std::ffi::OsString;
use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::SupervisorBuilder;
use super::orphans::Adopter;
use crate::causes::WithCauses;
use crate::clock::Clock;
use crate::spawner::{AgentHandle, SpawnError, Spawner};
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;
use crate::watcher::WatchError;
use agent_stub::Signal;

/// A command that tells whether a service is healthy: by exit code 0 that it is, by anything else
/// that it is not. So do no answer within the timeout, and a command that cannot be started.
///
/// So many failures in a row end the run, as a stop does, and that end is a failure, whatever the exit
/// code: the restart policy applies to it. One success in between, and counting begins anew.
///
/// The first probe starts one period after the run is up, each other one period after the start of the
/// one before, or when that has ended where it takes longer: there is never a second one beside it. With
/// each run both the period and the count begin anew. There is none while nothing is up, while a run is
/// being stopped, or during a delay. One that has not answered at its timeout is killed, with its
/// process group, and one that runs when its run ends, too.
///
/// Source: the liveness probes of Kubernetes (`exec`, `periodSeconds`, `timeoutSeconds`,
/// `failureThreshold`), which the defaults are of; HEALTHCHECK of Dockerfiles, whose failures nothing
/// follows.
///
/// ```
/// use std::num::NonZeroU32;
/// use std::time::Duration;
/// use supervise_harness::Probe;
///
/// let probe = Probe::new("curl")
///     .args(["--fail", "http://localhost:8080/health"])
///     .every(Duration::from_secs(30));
/// assert_eq!(probe.timeout, Duration::from_secs(1));
/// assert_eq!(probe.failures, NonZeroU32::new(3).unwrap());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// The period; above zero.
    pub every: Duration,
    /// How long one may take to answer; above zero.
    pub timeout: Duration,
    /// How many failures in a row end the run.
    pub failures: NonZeroU32,
}

impl Probe {
    /// Probes by this program: every 10 s, for 1 s at most, until 3 have failed in a row.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Probe {
        Probe {
            program: program.into(),
            args: Vec::new(),
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: NonZeroU32::MIN.saturating_add(2),
        }
    }

    /// More arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Probe {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// The period; above zero.
    #[must_use]
    pub fn every(mut self, period: Duration) -> Probe {
        self.every = period;
        self
    }

    /// How long one may take to answer; above zero.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Probe {
        self.timeout = timeout;
        self
    }

    /// How many failures in a row end the run.
    #[must_use]
    pub fn failures(mut self, failures: NonZeroU32) -> Probe {
        self.failures = failures;
        self
    }
}

/// How a [`Probe`] failed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ProbeFailure {
    /// It ended so.
    Ended(ExitStatus),
    /// It has not answered in time, and was killed.
    TimedOut,
    /// It could not be started; why.
    NotStarted(Arc<SpawnError>),
    /// Nobody knows how it ended; why.
    Lost(Arc<WatchError>),
}

impl fmt::Display for ProbeFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProbeFailure::Ended(status) => status.fmt(f),
            ProbeFailure::TimedOut => f.write_str("no answer in time"),
            ProbeFailure::NotStarted(error) => WithCauses(error).fmt(f),
            ProbeFailure::Lost(error) => WithCauses(error).fmt(f),
        }
    }
}

/// The probes of one run. Dropping it ends the one that runs.
pub(super) struct Probing {
    spawner: Spawner,
    agent_id: String,
    probe: Probe,
    clock: Arc<dyn Clock>,
    /// Who must not take one for an orphan.
    adopter: Option<Arc<Adopter>>,
    /// When the next one starts, where none is left.
    due: Timestamp,
    asking: Option<Asking>,
    /// How many have failed in a row.
    failed: u32,
}

/// A probe that runs.
struct Asking {
    handle: AgentHandle,
    /// When it is killed; `None` where it was.
    deadline: Option<Timestamp>,
}

/// A probe that failed.
pub(super) struct Failed {
    /// The how-many-th in a row.
    pub(super) count: u32,
    pub(super) failure: ProbeFailure,
    /// Whether they are as many as end the run.
    pub(super) is_last: bool,
}

/// What one probe came to.
type Answer = Result<(), ProbeFailure>;

impl Probing {
    /// Of a run that is up from now on, where it is probed.
    pub(super) fn of(parts: &SupervisorBuilder) -> Option<Probing> {
        let probe = parts.probe.clone()?;
        // Whether it can be had was seen before the supervisor started.
        let spawner = parts.spawner.of_program(&probe.program, &probe.args).ok()?;
        Some(Probing {
            spawner,
            agent_id: parts.agent_id.clone(),
            due: parts.clock.now() + probe.every,
            probe,
            clock: Arc::clone(&parts.clock),
            adopter: parts.orphans.clone(),
            asking: None,
            failed: 0,
        })
    }

    /// Waits for the next failure. Cancel-safe: a probe that runs goes on.
    pub(super) async fn failed(&mut self) -> Failed {
        loop {
            match self.answer().await {
                Ok(()) => self.failed = 0,
                Err(failure) => {
                    self.failed = self.failed.saturating_add(1);
                    return Failed {
                        count: self.failed,
                        failure,
                        is_last: self.failed >= self.probe.failures.get(),
                    };
                }
            }
        }
    }

    async fn answer(&mut self) -> Answer {
        loop {
            let Some(asking) = &mut self.asking else {
                self.sleep_until(self.due).await;
                self.ask()?;
                continue;
            };
            let then = asking.deadline.unwrap_or(self.due);
            let watcher = asking.handle.watcher();
            let never = CancellationToken::new();
            let end = tokio::select! {
                // An answer that is there is in time.
                biased;
                end = watcher.wait(&never) => end,
                () = self.sleep_until(then) => return Err(self.late()),
            };
            let is_answered = self.asking.take().is_some_and(|a| a.deadline.is_some());
            match end {
                // It has failed when it was killed.
                _ if !is_answered => {}
                Ok(result) if result.status == (ExitStatus::Exited { code: 0 }) => return Ok(()),
                Ok(result) => return Err(ProbeFailure::Ended(result.status)),
                Err(error) => return Err(ProbeFailure::Lost(Arc::new(error))),
            }
        }
    }

    async fn sleep_until(&self, then: Timestamp) {
        let left = then.saturating_since(self.clock.now());
        self.clock.sleep(left).await;
    }

    /// Starts one.
    fn ask(&mut self) -> Answer {
        let now = self.clock.now();
        self.due = now + self.probe.every;
        let adopter = self.adopter.as_deref();
        let handle = Adopter::start(adopter, || self.spawner.spawn(&self.agent_id))
            .map_err(|error| ProbeFailure::NotStarted(Arc::new(error)))?;
        // Where it is reaped first, before Linux 6.9, its group is out of the drop's reach.
        handle.process().kill_group_at_reap();
        self.asking = Some(Asking {
            handle,
            deadline: Some(now + self.probe.timeout),
        });
        Ok(())
    }

    /// The one that runs has not answered in time. It is killed; where it was and is there all the
    /// same, as in the middle of an access to a dead disk, it has not answered the next one either.
    fn late(&mut self) -> ProbeFailure {
        let now = self.clock.now();
        if let Some(asking) = &mut self.asking {
            if asking.deadline.take().is_none() {
                self.due = now + self.probe.every;
            }
            // It is this process's child: what it has become may not be signalled, but still has not
            // answered.
            let _ = asking.handle.process().signal_group(Signal::KILL);
        }
        ProbeFailure::TimedOut
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::FakeClock;
    use crate::spawner::SpawnerOptions;

    /// What SIGKILL does not end no test can make: here it was not sent yet.
    #[tokio::test]
    async fn one_that_is_there_after_it_was_killed_has_not_answered_the_next_either() {
        let clock = FakeClock::new();
        let spawner = SpawnerOptions::new()
            .agent_path(agent_stub::path().unwrap())
            .args(["--script", "stay"])
            .clock(clock.clone())
            .build()
            .unwrap();
        let handle = spawner.spawn("worker").unwrap();
        let every = Duration::from_secs(10);
        let mut probing = Probing {
            agent_id: "worker".to_owned(),
            due: clock.now() + every,
            probe: Probe::new("unused").every(every),
            clock: Arc::new(clock.clone()),
            adopter: None,
            asking: Some(Asking {
                handle,
                deadline: None,
            }),
            failed: 1,
            spawner,
        };
        let advance = async {
            clock.wait_for_sleepers(1).await;
            clock.advance(every);
        };
        let (failed, ()) = tokio::join!(probing.failed(), advance);
        assert!(matches!(failed.failure, ProbeFailure::TimedOut));
        assert_eq!((failed.count, failed.is_last), (2, false));
        assert_eq!(probing.due, clock.now() + every);
    }
}
