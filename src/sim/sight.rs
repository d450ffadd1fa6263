//! What shows of a sim to the watchdog and to other sims.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use tokio::sync::Notify;

use crate::agent::parent_and_start;

/// What others want to know about the gate: the watchdog, and the gates of other sims.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// How often the runtime came to rest.
    pub(crate) parks: AtomicU64,
    /// How often tokio has begun to look for events, and how often it has gone on, together: odd while it looks, or
    /// waits for them.
    pub(crate) looks: AtomicU64,
    /// Whether code under test may be at work on the sim's thread: not while the gate is.
    pub(crate) runs_code: AtomicBool,
    /// Whether the runtime is at rest now.
    pub(crate) is_parked: AtomicBool,
    /// Whether the gate had nothing against time passing, the last time.
    pub(crate) is_open: AtomicBool,
    /// How often the thread had slept when that was so, the last time.
    slept: AtomicI64,
    /// How often that was so, the runtime went on without any sleep, and the code under test had a turn. What wakes
    /// it for nothing, as every child's end does once tokio listens for SIGCHLD, does not count.
    pub(crate) turns: AtomicU64,
    /// Whether it went on so, and nobody has had a turn yet.
    went_on: AtomicBool,
    /// When that was so, the last time that it was.
    pub(crate) opened: Mutex<Option<Instant>>,
    /// Whether the sim is being ended: time passes no more.
    pub(crate) is_over: AtomicBool,
    /// Every child that had not said hello when the gate saw it.
    pub(crate) seen: Mutex<HashSet<u32>>,
    /// The processes that are no agents and held time at the last look, and when each started, in the kernel's ticks.
    busy: Mutex<Vec<(u32, u64)>>,
    /// Why the sim cannot go on.
    fault: Mutex<Option<String>>,
    /// Told when there is a reason.
    pub(crate) faulted: Notify,
    /// What the gate cannot see, and why.
    pub(crate) blind: Mutex<Option<String>>,
}

impl Sight {
    /// The sim cannot go on. The first reason is the cause of the others.
    pub(crate) fn fault(&self, why: String) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        fault.get_or_insert(why);
        self.faulted.notify_one();
    }

    /// Why it cannot go on.
    pub(crate) fn why_faulted(&self) -> Option<String> {
        self.fault
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The gate has seen a process that is no agent.
    pub(crate) fn see(&self, pid: u32) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.insert(pid);
    }

    /// The gate looks at all processes anew.
    pub(crate) fn begin_look(&self) {
        self.lock_busy().clear();
    }

    /// The gate has seen that a process that is no agent holds time.
    pub(crate) fn see_busy(&self, pid: u32) {
        if let Some((_, start)) = parent_and_start(pid) {
            self.lock_busy().push((pid, start));
        }
    }

    /// Those that hold time, of which none may be there any more.
    pub(crate) fn busy(&self) -> Vec<(u32, u64)> {
        self.lock_busy().clone()
    }

    fn lock_busy(&self) -> MutexGuard<'_, Vec<(u32, u64)>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of this thread's sim has a turn, or one of its tasks may have had one.
    pub(crate) fn see_turn(&self) {
        if self.went_on.swap(false, Ordering::Relaxed) {
            self.turns.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The runtime of this thread comes to rest, and the gate has nothing against that.
    pub(crate) fn open(&self) {
        self.slept.store(sleeps(), Ordering::Relaxed);
    }

    /// The runtime of this thread goes on.
    pub(crate) fn unpark(&self) {
        if self.is_open.load(Ordering::Relaxed) && self.slept.load(Ordering::Relaxed) == sleeps() {
            self.went_on.store(true, Ordering::Relaxed);
        }
        self.is_parked.store(false, Ordering::Relaxed);
    }
}

/// How often this thread has slept. It cannot fail for a thread that asks about itself.
fn sleeps() -> i64 {
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}
