//! What ends a sim in which nothing moves.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::children::{Children, SimThread, program_of};
use super::pool::Pool;
use super::sight::Sight;
use crate::agent::Shared;
use crate::process::{ended_status, open_pidfd, send_signal};
use crate::{Signal, Timestamp};

/// real-time: how often the watchdog looks.
const LOOK: Duration = Duration::from_millis(50);

/// More turns than that without any sleep since something moved, with nothing else at work, and still no
/// end of them, and the code under test does not wait.
const BUSY: u64 = 100;

/// What the watchdog saw when something had moved last.
#[derive(Debug)]
struct Last {
    progress: u64,
    /// How often the runtime had gone on without a sleep then.
    turns: u64,
    at: Instant,
    /// How often the runtime had come to rest, at the last look, and since when that is so.
    rests: (u64, Instant),
    /// What time it was in the sim, at the last look, and since when, unless it is from the beginning.
    now: (Timestamp, Option<Instant>),
}

/// One sim, as the watchdog sees it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sight: Arc<Sight>,
    limit: Duration,
    children: Children,
    /// Children that were there before the sim.
    before: HashSet<u32>,
    pool: Arc<Pool>,
    /// A descriptor to spare: without one, nothing can be ended where none is left.
    spare: Mutex<Option<OwnedFd>>,
    last: Mutex<Last>,
    /// Why the sim was ended.
    verdict: Mutex<Option<String>>,
    /// Told when it is.
    pub(crate) abort: Notify,
}

impl Watched {
    /// The sim of this thread, ended when nothing has moved for so long.
    pub(crate) fn new(
        shared: Arc<Shared>,
        sight: Arc<Sight>,
        before: HashSet<u32>,
        pool: Arc<Pool>,
        limit: Duration,
    ) -> Arc<Watched> {
        // There may be none left already.
        let spare = shared.lock().descriptor().try_clone_to_owned().ok();
        let watched = Arc::new(Watched {
            shared,
            sight,
            limit,
            children: Children::of_this_thread(),
            before,
            pool,
            spare: Mutex::new(spare),
            last: Mutex::new(Last {
                progress: 0,
                turns: 0,
                at: Instant::now(),
                rests: (0, Instant::now()),
                now: (Timestamp::ORIGIN, None),
            }),
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
        let turns = self.sight.turns.load(Ordering::Relaxed);
        let (progress, now) = {
            let server = self.shared.lock();
            (server.progress, server.now)
        };
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if now != last.now.0 {
            last.now = (now, Some(Instant::now()));
        }
        if parks != last.rests.0 {
            last.rests = (parks, Instant::now());
        }
        if progress != last.progress {
            (last.progress, last.turns, last.at) = (progress, turns, Instant::now());
            return;
        }
        // Long ago it may have waited for what was at work.
        let is_turning = last.rests.1.elapsed() < self.limit / 4;
        let is_busy = is_turning && turns - last.turns > BUSY;
        let passed = last.now.1;
        let time_passes = passed.is_some_and(|at| at.elapsed() < self.limit / 4);
        if last.at.elapsed() < self.limit {
            return;
        }
        // Once is enough: the sim is ending.
        let mut verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if verdict.is_none() {
            // Nothing may have moved for a while before the thread was blocked.
            let is_held = last.rests.1.elapsed() >= self.limit / 2
                && !self.sight.is_parked.load(Ordering::Relaxed);
            if is_held {
                // Nobody has looked for as long.
                self.shared.lock().pump(Duration::ZERO);
            }
            // What it sees from here on, with a descriptor or without a process, is our doing.
            self.sight.is_over.store(true, Ordering::Release);
            // Another thread may use it, and change them.
            let troubles = self.shared.lock().troubles.clone();
            drop(
                self.spare
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
            *verdict = Some(self.diagnose(troubles, is_busy, is_held, time_passes));
            self.shared.is_given_up.store(true, Ordering::Relaxed);
            // What blocks the thread of the sim may be waiting for one of them.
            for (_, member) in self.shared.lock().alive() {
                member.kill();
            }
            if is_held {
                self.each_foreign(|_, pidfd| {
                    // It fails only where there is nothing left to kill.
                    let _ = send_signal(pidfd, Some(Signal::KILL));
                });
            }
            self.abort.notify_one();
        }
    }

    /// The children of the sim's threads.
    fn children(&self) -> HashSet<u32> {
        let mut children: HashSet<u32> = self
            .children
            .list()
            .unwrap_or_default()
            .into_iter()
            .collect();
        children.extend(self.pool.children().iter().map(|child| child.pid));
        children
    }

    /// Shows the running children of the sim's threads that are no agents, one after the other: there
    /// may be a single descriptor to look at them with.
    fn each_foreign(&self, mut each: impl FnMut(u32, BorrowedFd<'_>)) {
        for pid in self.children() {
            let is_agent = self.shared.lock().member_of(pid).is_some();
            if is_agent || self.before.contains(&pid) {
                continue;
            }
            // What is still a child was it when it was opened.
            if let Ok(pidfd) = open_pidfd(pid)
                && ended_status(pidfd.as_fd()).is_none()
                && self.children().contains(&pid)
            {
                each(pid, pidfd.as_fd());
            }
        }
    }

    /// What everything is blocked on.
    fn diagnose(
        &self,
        troubles: Vec<String>,
        is_busy: bool,
        is_held: bool,
        time_passes: bool,
    ) -> String {
        let mut foreign = Vec::new();
        self.each_foreign(|pid, _| foreign.push(pid));
        // What another thread forks closes it for a moment.
        let opened = self.sight.opened.lock();
        let opened = *opened.unwrap_or_else(PoisonError::into_inner);
        let is_open = self.sight.is_open.load(Ordering::Relaxed)
            || opened.is_some_and(|at| at.elapsed() < self.limit / 2);
        let server = self.shared.lock();
        let mut text = format!("nothing has moved for {:?} of real time", self.limit);
        let mut line = |what: String| {
            text.push_str("\n  ");
            text.push_str(&what);
        };
        if is_held {
            line(
                "the code under test holds the runtime's thread: it blocks it, as std's `wait` and `sleep` do, or \
                 never yields"
                    .to_owned(),
            );
        } else if !self.shared.is_virtual {
            line("the code under test waits for what has not come".to_owned());
        } else if time_passes {
            line(format!(
                "virtual time passes, and is at {}, but no agent does anything: the code under test waits for time \
                 alone, again and again",
                server.now
            ));
        } else if is_open && is_busy {
            line(format!(
                "the code under test is at work all the time at {}, but no agent does anything: it may \
                 be talking to itself",
                server.now
            ));
        } else if is_open {
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
        }
        for trouble in troubles {
            line(trouble);
        }
        for program in server.strangers() {
            line(format!(
                "a control connection has not said hello: that of {program}"
            ));
        }
        for (_, member) in server.alive() {
            line(member.doing());
        }
        for member in server.zombies() {
            line(member.doing());
        }
        let waits = match self.shared.is_virtual {
            true => ", and time waits for it",
            false => "",
        };
        for pid in foreign {
            let program = program_of(pid);
            line(format!("a child that is no agent runs{waits}: {program}"));
        }
        if let Some(blind) = &*self
            .sight
            .blind
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
        {
            line(blind.clone());
        }
        if !text.contains('\n') {
            text.push_str(
                "\n  what the harness cannot see is at work, such as what another thread has forked",
            );
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
                let _thread = SimThread::enter(None);
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
