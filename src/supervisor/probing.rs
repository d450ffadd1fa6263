//! A supervisor's probes of one run.

use std::sync::Arc;

use agent_stub::Signal;

use super::orphans::Adopter;
use super::probe::Probe;
use super::probe_failure::ProbeFailure;
use super::settings::SupervisorBuilder;
use super::spawner::{AgentHandle, Spawner};
use crate::clock::Clock;
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// The probes of one run. Dropping this value kills the probe that runs.
pub(super) struct Probing {
    spawner: Spawner,
    agent_id: String,
    probe: Probe,
    clock: Arc<dyn Clock>,
    /// Must know the probes, so that it takes none of them for an orphan.
    adopter: Option<Arc<Adopter>>,
    /// When the next probe starts, if the one before has ended by then.
    due: Timestamp,
    asking: Option<Asking>,
    /// How many probes have failed in a row.
    failed: u32,
}

/// A probe that runs.
struct Asking {
    handle: AgentHandle,
    /// When the probe is killed, or counts as failed once more if it is still there after that.
    deadline: Timestamp,
    /// Whether it was killed.
    is_killed: bool,
}

/// A probe that failed.
pub(super) struct Failed {
    /// How many probes have failed in a row, this one included.
    pub(super) count: u32,
    pub(super) failure: ProbeFailure,
    /// Whether that many failures end the run.
    pub(super) is_last: bool,
}

/// The result of one probe.
type Answer = Result<(), ProbeFailure>;

impl Probing {
    /// Begins to probe a run that is up from now on. `None` if the supervisor has no probe.
    pub(super) fn of(parts: &SupervisorBuilder) -> Option<Probing> {
        let probe = parts.probe.clone()?;
        // `validate_probe` has checked, before the supervisor started, that this succeeds.
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

    /// Waits for the next probe that fails. Cancel-safe: a probe that runs goes on.
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
            let then = asking.deadline;
            let watcher = asking.handle.watcher();
            let end = tokio::select! {
                // An answer that has already arrived is in time.
                biased;
                end = watcher.wait() => end,
                () = self.sleep_until(then) => return Err(self.late()),
            };
            let is_answered = self.asking.take().is_some_and(|asking| !asking.is_killed);
            match end {
                // This probe was killed, and counted as failed then.
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

    /// Starts a probe.
    fn ask(&mut self) -> Answer {
        let now = self.clock.now();
        self.due = now + self.probe.every;
        let adopter = self.adopter.as_deref();
        let handle = Adopter::start(adopter, || self.spawner.spawn(&self.agent_id))
            .map_err(|error| ProbeFailure::NotStarted(Arc::new(error)))?;
        // Before Linux 6.9 dropping the handle cannot kill the group of a probe that was already
        // reaped. The group is therefore killed when the probe is reaped.
        handle.process().kill_group_at_reap();
        self.asking = Some(Asking {
            handle,
            deadline: now + self.probe.timeout,
            is_killed: false,
        });
        Ok(())
    }

    /// Kills a probe that has not answered in time. A probe may still be there after it was killed,
    /// as in the middle of an access to a dead disk. Then the next probe counts as failed, too.
    fn late(&mut self) -> ProbeFailure {
        let now = self.clock.now();
        if let Some(asking) = &mut self.asking {
            let was_killed = std::mem::replace(&mut asking.is_killed, true);
            // If the timeout is longer than the period, the next probe was due before.
            asking.deadline = if was_killed || self.due <= now {
                now + self.probe.every
            } else {
                self.due
            };
            if was_killed {
                self.due = asking.deadline;
            }
            // This fails if the probe now runs as another user. It has still not answered.
            let _ = asking.handle.process().signal_group(Signal::KILL);
        }
        ProbeFailure::TimedOut
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::FakeClock;
    use crate::supervisor::spawner::SpawnerOptions;

    /// Starts probes that never answer.
    fn staying(clock: &FakeClock) -> Spawner {
        let options = SpawnerOptions::new()
            .agent_path(agent_stub::path().unwrap())
            .args(["--script", "stay"])
            .clock(clock.clone());
        options.build().unwrap()
    }

    /// No test can make a process that survives SIGKILL. Here SIGKILL was not sent yet.
    #[tokio::test]
    async fn one_that_is_there_after_it_was_killed_has_not_answered_the_next_either() {
        let clock = FakeClock::new();
        let spawner = staying(&clock);
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
                deadline: clock.now() + every,
                is_killed: true,
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

    /// As long a timeout as the period.
    #[tokio::test]
    async fn one_that_hangs_for_a_period_has_failed_once() {
        let clock = FakeClock::new();
        let spawner = staying(&clock);
        let every = Duration::from_secs(10);
        let mut probing = Probing {
            agent_id: "worker".to_owned(),
            due: clock.now(),
            probe: Probe::new("unused").every(every).timeout(every),
            clock: Arc::new(clock.clone()),
            adopter: None,
            asking: None,
            failed: 0,
            spawner,
        };
        for count in 1..=2 {
            tokio::select! {
                biased;
                failed = probing.failed() => panic!("{} failures at {}", failed.count, clock.now()),
                () = clock.wait_for_sleepers(1) => clock.advance(every),
            }
            assert_eq!(probing.failed().await.count, count);
        }
    }
}
