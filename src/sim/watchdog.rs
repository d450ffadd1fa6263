//! What ends a sim in which nothing moves.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::gate::Sight;
use crate::agent::Shared;

/// real-time: how often the watchdog looks.
const LOOK: Duration = Duration::from_millis(50);

/// One sim, as the watchdog sees it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sight: Arc<Sight>,
    limit: Duration,
    last: Mutex<(u64, u64, Instant)>,
    /// Why the sim was ended.
    verdict: Mutex<Option<String>>,
    /// Told when it is.
    pub(crate) abort: Notify,
}

impl Watched {
    /// A sim that is ended when nothing has moved for so long.
    pub(crate) fn new(shared: Arc<Shared>, sight: Arc<Sight>, limit: Duration) -> Arc<Watched> {
        let watched = Arc::new(Watched {
            shared,
            sight,
            limit,
            last: Mutex::new((0, 0, Instant::now())),
            verdict: Mutex::new(None),
            abort: Notify::new(),
        });
        register(&watched);
        watched
    }

    pub(crate) fn verdict(&self) -> Option<String> {
        self.verdict
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn look(&self) {
        let parks = self.sight.parks.load(Ordering::Relaxed);
        let progress = self.shared.lock().progress;
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (last_progress, parks_then, since) = *last;
        if progress != last_progress {
            *last = (progress, parks, Instant::now());
            return;
        }
        if since.elapsed() < self.limit {
            return;
        }
        // Once is enough: the sim is ending.
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if verdict.is_none() {
            *verdict = Some(self.diagnose(parks - parks_then));
            // What blocks the thread of the sim may be waiting for one of them.
            for (_, member) in self.shared.lock().alive() {
                member.kill();
            }
            // Twice, since the first permit may be taken by nobody.
            self.abort.notify_one();
        }
    }

    /// What everything is blocked on.
    fn diagnose(&self, parks: u64) -> String {
        let server = self.shared.lock();
        let mut text = format!("nothing has moved for {:?} of real time", self.limit);
        let mut line = |what: String| {
            text.push_str("\n  ");
            text.push_str(&what);
        };
        let open = self.sight.is_open.load(Ordering::Relaxed);
        if parks == 0 && !open {
            line(
                "the code under test holds the runtime's thread: it blocks it, as std's `wait` and `sleep` do, or \
                 never yields"
                    .to_owned(),
            );
        } else if open && self.shared.is_virtual {
            line(match server.next_deadline() {
                Some(next) => format!(
                    "virtual time stands at {} although everything waits, and the next agent is due at {next}: a \
                     task in `spawn_blocking` holds it, such as one that waits for a child",
                    server.now
                ),
                None => format!(
                    "everything waits at {}, and no timer is pending: what the code under test waits for will \
                     never come",
                    server.now
                ),
            });
        } else if parks > 1_000_000 {
            line("the code under test goes round without an agent that does anything".to_owned());
        }
        for (_, member) in server.alive() {
            line(member.doing());
        }
        for member in server.zombies() {
            line(member.doing());
        }
        let foreign = self
            .sight
            .foreign
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for &pid in foreign.iter() {
            let program = super::children::program_of(pid);
            line(format!(
                "a child that is no agent runs, and time waits for it: {program}"
            ));
        }
        if let Some(blind) = &*self
            .sight
            .blind
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            line(blind.clone());
        }
        text
    }
}

/// One thread looks after all sims of the process, and sleeps while there are none.
fn register(watched: &Arc<Watched>) {
    static SIMS: Mutex<Vec<Weak<Watched>>> = Mutex::new(Vec::new());
    static WATCHDOG: OnceLock<Option<Thread>> = OnceLock::new();
    SIMS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .push(Arc::downgrade(watched));
    let thread = WATCHDOG.get_or_init(|| {
        let started = thread::Builder::new()
            .name("sim-watchdog".to_owned())
            .spawn(|| {
                // It forks nothing and reaps nothing.
                let _thread = super::children::SimThread::enter();
                loop {
                    let sims: Vec<_> = {
                        let mut sims = SIMS.lock().unwrap_or_else(PoisonError::into_inner);
                        sims.retain(|sim| sim.strong_count() > 0);
                        sims.iter().filter_map(Weak::upgrade).collect()
                    };
                    if sims.is_empty() {
                        thread::park();
                        continue;
                    }
                    for sim in sims {
                        sim.look();
                    }
                    thread::park_timeout(LOOK);
                }
            });
        // Without it a sim that is stuck stays stuck; nothing else depends on it.
        started.ok().map(|handle| handle.thread().clone())
    });
    if let Some(thread) = thread {
        thread.unpark();
    }
}
