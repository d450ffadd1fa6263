//! The end that the watchdog makes of a sim: its agents are killed, and if need be this process ends.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::libc;

use super::sims::sims;
use super::verdict::Verdict;
use super::watched::{LOCKED, LOCKED_AGAIN, Watched, lock};
use crate::sim::ending;
use crate::sim::failure::SimFailure;
use crate::timeline::{Timeline, TimelineClock};

/// real-time: how long the thread of an ended sim may take to come back before this process ends.
const COMING_BACK: Duration = Duration::from_secs(5);

/// The exit code of a Rust test program in which a test has failed.
const FAILED: libc::c_int = 101;

impl Watched {
    /// Says that the harness has the sim's thread again, which ends by itself. Returns why the sim was ended, or why it
    /// has to fail although its body has come to an end meanwhile.
    pub(crate) fn ends(&self) -> Option<Verdict> {
        self.shared.is_let_go.store(true, Ordering::Relaxed);
        let verdict = lock(&self.verdict);
        let is_coming = |verdict: &mut Option<Verdict>| {
            verdict.is_none() && self.sight.is_over.load(Ordering::Acquire)
        };
        // What the body has come to since the watchdog began to end the sim does not count.
        let given = self
            .given
            .wait_timeout_while(verdict, COMING_BACK, is_coming)
            .unwrap_or_else(PoisonError::into_inner)
            .0
            .clone();
        given.or_else(|| {
            let server = self.shared.lock();
            Some(Verdict {
                text: server.excess()?.to_owned(),
                timeline: server.timeline(),
                given: Instant::now(),
                at: Duration::ZERO,
                is_held: false,
            })
        })
    }

    /// Ends the sim: kills its agents, and lets no more agents in.
    pub(super) fn end(
        &self,
        clock: Duration,
        is_held: bool,
        why: impl FnOnce(&crate::sim::agent::Server, &[u32]) -> String,
    ) {
        if is_held && let Some(mut server) = self.shared.lock_within(LOCKED) {
            // Nobody has taken in what the agents did while the thread was held.
            server.pump(Duration::ZERO);
            // The text names the agents that wait to be taken in, and nobody else takes them in any more.
            server.welcome_all(&[]);
        }
        // What the sim sees from here on, because a descriptor is free or a process is missing, is the watchdog's
        // doing.
        self.sight.is_over.store(true, Ordering::Release);
        let mut foreign = Vec::new();
        // Taken before the spare descriptor is free: another thread may use that one, and change what there is to say.
        let trouble = self
            .shared
            .lock_within(LOCKED)
            .map(|server| server.troubles.clone());
        drop(lock(&self.spare).take());
        self.each_foreign(|pid, _| foreign.push(pid));
        match self.shared.lock_within(LOCKED) {
            Some(mut server) => {
                server.troubles = trouble.unwrap_or_default();
                let text = why(&server, &foreign);
                // Given before any agent is killed: the body may take such an end for the one that it waits for, and
                // end well.
                self.give(Verdict {
                    text,
                    timeline: server.timeline(),
                    given: Instant::now(),
                    at: clock,
                    is_held,
                });
                // The sim's thread may be blocked, and wait for one of them.
                for (_, member) in server.alive() {
                    member.kill();
                }
                server.refuse_all();
            }
            None => self.give(Verdict {
                text: format!(
                    "nothing has moved for {:?} of real time\n  a thread does not let go of the sim's own state",
                    self.limit
                ),
                timeline: Timeline::new(TimelineClock::Virtual, []),
                given: Instant::now(),
                at: clock,
                is_held: true,
            }),
        }
        if is_held {
            self.kill_foreign();
        }
        self.abort.notify_one();
    }

    fn give(&self, verdict: Verdict) {
        *lock(&self.verdict) = Some(verdict);
        self.given.notify_all();
        self.shared.is_given_up.store(true, Ordering::Relaxed);
    }

    /// Kills what the code under test still starts after the end, until the sim's thread comes back. If the thread does
    /// not come back in time, ends this process.
    pub(super) fn enforce(&self, verdict: &Verdict, clock: Duration) {
        if let Some(server) = self.shared.lock_within(LOCKED_AGAIN) {
            for (_, member) in server.alive() {
                member.kill();
            }
        }
        if verdict.is_held {
            self.kill_foreign();
        }
        if clock - verdict.at >= COMING_BACK && !self.may_be_lost {
            self.end_process(verdict);
        }
    }

    /// Says what there is to say of the sim, and ends this process like one in which a test has failed: a thread cannot
    /// be ended from outside.
    fn end_process(&self, verdict: &Verdict) {
        self.end_processes();
        let text = format!(
            "{}\n  its thread has not come back within {COMING_BACK:?} of that: this process ends, and its other \
             tests with it",
            verdict.text
        );
        let timeline = verdict.timeline.clone();
        let failure = SimFailure::abandoned(text, self.remarks(), timeline);
        // The thread may have come back meanwhile, if it waited for one of the processes that were just ended.
        if !self.shared.is_let_go.load(Ordering::Relaxed) {
            for other in sims() {
                other.end_processes();
            }
            crate::said::say(&self.titled(&failure.to_string()));
            // SAFETY: _exit takes a number, and does not return. What exit(3) does before it ends the process may wait
            // for something that the sim's thread holds.
            unsafe { libc::_exit(FAILED) }
        }
    }

    /// Ends every process of the sim.
    fn end_processes(&self) {
        if let Some(server) = self.shared.lock_within(LOCKED_AGAIN) {
            let address = server.address().to_owned();
            drop(server);
            // If /proc cannot be read, nothing more can be done.
            let _ = ending::end_by_address(&address, self.thread, &self.before, &self.pool);
        }
    }
}
