//! What the watchdog and other sims can see of a sim.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use tokio::sync::Notify;

use crate::sim::agent::parent_and_start;

/// What the watchdog, and the gates of other sims, want to know about a sim and its gate.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// How often the runtime has come to rest.
    pub(crate) parks: AtomicU64,
    /// How often tokio has begun to look for events, plus how often it has gone on after that. The sum is odd while
    /// tokio looks for events or waits for them.
    pub(crate) looks: AtomicU64,
    /// Whether code under test may be at work on the sim's thread. It is not while the gate is at work.
    pub(crate) runs_code: AtomicBool,
    /// Whether the runtime is at rest now.
    pub(crate) is_parked: AtomicBool,
    /// Whether the gate allowed time to pass when it was asked last.
    pub(crate) is_open: AtomicBool,
    /// How often the thread had slept when the gate last allowed time to pass.
    slept: AtomicI64,
    /// How often the gate allowed time to pass, the runtime then went on without any sleep, and the code under test had
    /// a turn. A wake for nothing does not count: once tokio listens for SIGCHLD, every child's end wakes it.
    pub(crate) turns: AtomicU64,
    /// Whether the runtime went on without a sleep in that way, and nobody has had a turn yet.
    went_on: AtomicBool,
    /// When the gate last allowed time to pass.
    pub(crate) opened: Mutex<Option<Instant>>,
    /// Whether the sim is being ended: no more time passes.
    pub(crate) is_over: AtomicBool,
    /// Every child that had not said hello when the gate saw it.
    pub(crate) seen: Mutex<HashSet<u32>>,
    /// The processes that are no agents and held up time at the last look, each with its start, in the kernel's ticks.
    busy: Mutex<Vec<(u32, u64)>>,
    /// Why the sim cannot go on.
    fault: Mutex<Option<String>>,
    /// Notified when there is such a reason.
    pub(crate) faulted: Notify,
    /// What the gate cannot see, and why.
    pub(crate) blind: Mutex<Option<String>>,
}

impl Sight {
    /// Says that the sim cannot go on. The first reason is kept: it is the cause of the others.
    pub(crate) fn fault(&self, why: String) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(why);
        self.faulted.notify_one();
    }

    /// The reason why the sim cannot go on, if there is one.
    pub(crate) fn why_faulted(&self) -> Option<String> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes that the gate has seen a process that is no agent.
    pub(crate) fn see(&self, pid: u32) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(pid);
    }

    /// Notes that the gate looks at all processes anew.
    pub(crate) fn begin_look(&self) {
        self.lock_busy().clear();
    }

    /// Notes that the gate has seen a process that is no agent and holds up time.
    pub(crate) fn see_busy(&self, pid: u32) {
        if let Some((_, start)) = parent_and_start(pid) {
            self.lock_busy().push((pid, start));
        }
    }

    /// The processes that held up time at the last look, each with its start. They may all be gone by now.
    pub(crate) fn busy(&self) -> Vec<(u32, u64)> {
        self.lock_busy().clone()
    }

    fn lock_busy(&self) -> MutexGuard<'_, Vec<(u32, u64)>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that the body of this thread's sim has a turn, or that one of its tasks may have had one.
    pub(crate) fn see_turn(&self) {
        if self.went_on.swap(false, Ordering::Relaxed) {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Notes that the runtime of this thread comes to rest and that the gate allows time to pass.
    pub(crate) fn open(&self) {
        self.slept.store(sleeps(), Ordering::Relaxed);
    }

    /// Notes that the runtime of this thread goes on.
    pub(crate) fn unpark(&self) {
        if self.is_open.load(Ordering::Relaxed) && self.slept.load(Ordering::Relaxed) == sleeps() {
            self.went_on.store(true, Ordering::Relaxed);
        }
        self.is_parked.store(false, Ordering::Relaxed);
    }
}

/// How often this thread has slept. The call cannot fail for a thread that asks about itself.
fn sleeps() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}
