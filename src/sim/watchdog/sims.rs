//! The sims under the watchdog, and the thread that looks after them.

use std::collections::HashSet;
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use nix::unistd::gettid;
use tokio::sync::Notify;

use super::last::Last;
use super::watched::{Watched, lock};
use crate::sim::agent::Shared;
use crate::sim::children::{Children, SimThread};
use crate::sim::pool::Pool;
use crate::sim::sight::Sight;
use crate::sim::starved::Starved;
use crate::timestamp::Timestamp;

/// real-time: how often the watchdog looks.
const LOOK: Duration = Duration::from_millis(20);

static SIMS: Mutex<Vec<Weak<Watched>>> = Mutex::new(Vec::new());

impl Watched {
    /// Watches the sim of this thread, and ends it when nothing has moved for `limit`.
    pub(crate) fn new(
        shared: Arc<Shared>,
        sight: Arc<Sight>,
        before: HashSet<u32>,
        pool: Arc<Pool>,
        (limit, may_be_lost): (Duration, bool),
    ) -> Arc<Watched> {
        // There may be no descriptor left already.
        let spare = shared.lock().descriptor().try_clone_to_owned().ok();
        let watched = Arc::new(Watched {
            shared,
            sight,
            limit,
            thread: gettid(),
            name: thread::current().name().map(str::to_owned),
            may_be_lost,
            children: Children::of_this_thread(),
            before,
            pool,
            spare: Mutex::new(spare),
            last: Mutex::new(Last {
                clock: Duration::ZERO,
                looked: Instant::now(),
                progress: 0,
                turns: 0,
                at: Duration::ZERO,
                lives: (0, Duration::ZERO),
                rests: (0, Duration::ZERO),
                now: (Timestamp::ORIGIN, None),
                sleep: None,
                lacks: None,
                is_locked_out: false,
                starved: Starved::default(),
            }),
            verdict: Mutex::new(None),
            given: Condvar::new(),
            remarks: Mutex::default(),
            abort: Notify::new(),
        });
        register(&watched);
        watched
    }
}

/// The sims that there are.
pub(super) fn sims() -> Vec<Arc<Watched>> {
    let mut sims = lock(&SIMS);
    sims.retain(|sim| sim.strong_count() > 0);
    sims.iter().filter_map(Weak::upgrade).collect()
}

/// Puts a sim under the watchdog: one thread that looks after all sims of the process, and sleeps while there are none.
fn register(watched: &Arc<Watched>) {
    static WATCHDOG: OnceLock<Option<Thread>> = OnceLock::new();
    let is_first = {
        let mut sims = lock(&SIMS);
        sims.push(Arc::downgrade(watched));
        sims.len() == 1
    };
    let thread = WATCHDOG.get_or_init(|| {
        let started = thread::Builder::new()
            .name("sim-watchdog".to_owned())
            .spawn(|| {
                // This thread forks nothing and reaps nothing.
                let _thread = SimThread::enter(None);
                loop {
                    let sims = sims();
                    if sims.is_empty() {
                        thread::park();
                        // A sim that has just begun has nothing to show yet.
                        thread::park_timeout(LOOK);
                        continue;
                    }
                    for sim in sims {
                        sim.look();
                    }
                    thread::park_timeout(LOOK);
                }
            });
        // Without this thread, a sim that is stuck stays stuck. Nothing else depends on it.
        started.ok().map(|handle| handle.thread().clone())
    });
    // If there are other sims, the watchdog looks soon. A look for each new sim would have to wait for all the others,
    // which are at work.
    if let Some(thread) = thread.as_ref().filter(|_| is_first) {
        thread.unpark();
    }
}
