//! Ends a sim in which nothing moves.

mod diagnosis;

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use nix::libc;
use nix::unistd::{Pid, gettid};
use tokio::sync::Notify;

use super::children::{Children, SimThread};
use super::ending;
use super::failure::SimFailure;
use super::kernel::sleep_of;
use super::pool::Pool;
use super::sight::Sight;
use super::starved::{Starved, ready_with};
use crate::pidfd::{ended_status, open_pidfd, send_signal};
use crate::sim::agent::{Shared, parent_and_start};
use crate::timeline::{Timeline, TimelineClock};
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// real-time: how often the watchdog looks.
const LOOK: Duration = Duration::from_millis(20);

/// real-time: how much of the time between two looks counts, at most. In between, this process or the machine may have
/// been stopped, and the sim with it.
const COUNTED: Duration = Duration::from_millis(200);

/// real-time: how long the thread of an ended sim may take to come back before this process ends.
const COMING_BACK: Duration = Duration::from_secs(5);

/// real-time: how long a sim's thread may sleep while an agent waits for the clock, before the watchdog says so.
const ASLEEP: Duration = Duration::from_millis(100);

/// real-time: how long an agent waits for a descriptor of this process, at most.
const LACKING: Duration = Duration::from_secs(2);

/// real-time: how long to wait for the server's lock, whose holder is at work.
const LOCKED: Duration = Duration::from_secs(1);

/// How long to wait for the server's lock after an earlier wait for it was in vain.
const LOCKED_AGAIN: Duration = Duration::from_millis(5);

/// The exit code of a Rust test program in which a test has failed.
const FAILED: libc::c_int = 101;

/// The code under test does not wait if, since something last moved, the runtime has taken more turns than this without
/// any sleep, goes on to do so, and nothing else is at work.
const BUSY: u64 = 100;

/// What the watchdog saw when something last moved. The times are those of a clock of its own, which stands still while
/// this process is stopped.
#[derive(Debug)]
struct Last {
    clock: Duration,
    /// When that clock last went on.
    looked: Instant,
    progress: u64,
    /// How often the runtime had gone on without a sleep by then.
    turns: u64,
    at: Duration,
    /// How often the runtime had come to rest, at the last look, and since when it has not done so again.
    rests: (u64, Duration),
    /// The sim's time at the last look, and since when the sim has had that time; `None` if from the beginning.
    now: (Timestamp, Option<Duration>),
    /// How much had happened that is more than talk, at the last look, and since when no more of it has.
    lives: (u64, Duration),
    /// In which sleep the sim's thread was at the last look, after how many rests, and since when.
    sleep: Option<(String, u64, Duration)>,
    /// Since when there has been no descriptor for an agent that waits for one.
    lacks: Option<Duration>,
    /// Whether the server's lock could not be had at the last look.
    is_locked_out: bool,
    /// The processes that wait for a processor.
    starved: Starved,
}

impl Last {
    /// Moves the clock on by the time since the last look, as far as that time counts. Returns the clock's time.
    fn tick(&mut self) -> Duration {
        self.clock += self.looked.elapsed().min(COUNTED);
        self.looked = Instant::now();
        self.clock
    }
}

/// What the server says at a look.
struct Seen {
    progress: u64,
    now: Timestamp,
    /// The process that waits for the clock and is due next.
    waiter: Option<String>,
    excess: Option<String>,
    lives: u64,
    talker: Option<String>,
    is_short: bool,
}

/// Why a sim was ended.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    /// What had happened by then.
    pub(crate) timeline: Timeline,
    pub(crate) given: Instant,
    /// When the verdict was given, by the watchdog's clock.
    at: Duration,
    /// Whether the code under test held the thread.
    is_held: bool,
}

/// One sim, as the watchdog sees it.
#[derive(Debug)]
pub(crate) struct Watched {
    shared: Arc<Shared>,
    sight: Arc<Sight>,
    limit: Duration,
    /// The thread that runs the sim, and that thread's name, which mostly is a test's.
    thread: Pid,
    name: Option<String>,
    /// Whether somebody else looks after the sim's thread if it does not come back.
    may_be_lost: bool,
    children: Children,
    /// The children that were there before the sim.
    before: HashSet<u32>,
    pool: Arc<Pool>,
    /// A spare descriptor. Without it the watchdog could end nothing once this process has no descriptor left.
    spare: Mutex<Option<OwnedFd>>,
    last: Mutex<Last>,
    verdict: Mutex<Option<Verdict>>,
    /// Notified when there is a verdict.
    given: Condvar,
    /// What else there is to say, one line each.
    remarks: Mutex<Vec<String>>,
    /// Notified when the sim is to end.
    pub(crate) abort: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

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

    pub(crate) fn verdict(&self) -> Option<Verdict> {
        lock(&self.verdict).clone()
    }

    pub(crate) fn remarks(&self) -> Vec<String> {
        lock(&self.remarks).clone()
    }

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

    fn look(&self) {
        let mut last = lock(&self.last);
        let before = last.clock;
        let clock = last.tick();
        if self.shared.is_let_go.load(Ordering::Relaxed) {
            return;
        }
        if let Some(verdict) = self.verdict() {
            drop(last);
            return self.enforce(&verdict, clock);
        }
        let parks = self.sight.parks.load(Ordering::Relaxed);
        let turns = self.sight.turns.load(Ordering::Relaxed);
        let seen = self.see(&mut last);
        if let Some(excess) = seen.as_ref().and_then(|seen| seen.excess.clone()) {
            return self.end(clock, false, |_, _| excess);
        }
        if parks != last.rests.0 {
            last.rests = (parks, clock);
        }
        if let Some(seen) = seen {
            last.lacks = seen.is_short.then(|| last.lacks.unwrap_or(clock));
            // Another sim of this process may free some descriptors.
            let wait = self.limit.min(LACKING);
            if last.lacks.is_some_and(|since| clock - since >= wait) {
                let text = format!("an agent has waited for {wait:?} of real time to be let in");
                return self.end(clock, false, |_, _| text);
            }
            self.look_for_sleep(&mut last, &seen);
            let time_passes = seen.now != last.now.0;
            if time_passes {
                last.now = (seen.now, Some(clock));
            }
            if time_passes || seen.lives != last.lives.0 {
                last.lives = (seen.lives, clock);
            }
            if clock - last.lives.1 >= self.limit
                && let Some(talker) = seen.talker
            {
                let text = format!(
                    "nothing but talk for {:?} of real time\n  {talker}",
                    self.limit
                );
                return self.end(clock, false, |_, _| text);
            }
            // Time that passes towards an agent's deadline gets there.
            if seen.progress != last.progress || time_passes && seen.waiter.is_some() {
                (last.progress, last.turns, last.at) = (seen.progress, turns, clock);
                last.starved.end();
                return;
            }
        }
        if clock - last.at >= self.limit / 2 {
            let time = clock - before;
            if last.starved.spares(&self.at_work(), time) {
                last.at += time;
            }
        }
        if clock - last.at < self.limit {
            return;
        }
        // Only recent turns count: long ago the code under test may have waited for something that was at work.
        let is_turning = clock - last.rests.1 < self.limit / 4;
        let is_busy = is_turning && turns - last.turns > BUSY;
        let passed = last.now.1;
        let time_passes = passed.is_some_and(|at| clock - at < self.limit / 4);
        // Half the limit will do: nothing may have moved for a while before the thread was blocked.
        let is_held =
            clock - last.rests.1 >= self.limit / 2 && !self.sight.is_parked.load(Ordering::Relaxed);
        self.end(clock, is_held, |server, foreign| {
            self.diagnose(server, foreign, is_busy, is_held, time_passes)
        });
    }

    /// The processes that time may wait for: agents, processes that are about to be agents, and others that are no
    /// agents.
    fn at_work(&self) -> Vec<u32> {
        let address = self.shared.lock_within(LOCKED_AGAIN);
        let address = address.map(|server| server.address().to_owned());
        // An agent that is at rest is not ready to run, so it is not among these.
        let mut all = address.map_or_else(Vec::new, |address| ready_with(&address));
        self.each_foreign(|pid, _| all.push(pid));
        all
    }

    /// What the server says now. `None` if somebody holds the server's lock all the time.
    fn see(&self, last: &mut Last) -> Option<Seen> {
        let patience = if last.is_locked_out {
            LOCKED_AGAIN
        } else {
            LOCKED
        };
        let server = self.shared.lock_within(patience);
        last.is_locked_out = server.is_none();
        let server = server?;
        Some(Seen {
            // Each end counts: code that starts one program after the other is not stuck.
            progress: server.progress + server.ends,
            now: server.now,
            waiter: server.next_waiter().map(ToString::to_string),
            excess: server.excess().map(str::to_owned),
            lives: server.lives,
            talker: server.talker(),
            is_short: server.is_short(),
        })
    }

    /// Says, once, that the sim's thread sleeps in real time while an agent waits for the clock. This holds up
    /// everybody.
    fn look_for_sleep(&self, last: &mut Last, seen: &Seen) {
        let is_parked = self.sight.is_parked.load(Ordering::Relaxed);
        let waiter = seen.waiter.as_ref().filter(|_| !is_parked);
        let now = waiter.and_then(|_| sleep_of(self.thread));
        let (Some(waiter), Some(now)) = (waiter, now) else {
            last.sleep = None;
            return;
        };
        let rests = last.rests.0;
        let since = match &last.sleep {
            Some((before, at, since)) if (before, *at) == (&now, rests) => *since,
            _ => last.clock,
        };
        last.sleep = Some((now, rests, since));
        let mut remarks = lock(&self.remarks);
        if last.clock - since < ASLEEP || !remarks.is_empty() {
            return;
        }
        let remark = format!(
            "the code under test sleeps on the sim's thread, for more than {ASLEEP:?} of real time, while \
             {waiter} waits for the clock, which stands still meanwhile: write \
             `tokio::time::sleep(...).await` instead of `std::thread::sleep`"
        );
        crate::said::say(&self.titled(&remark));
        remarks.push(remark);
    }

    /// The text, after the name of the sim's thread. libtest names that thread after the test.
    fn titled(&self, text: &str) -> String {
        match &self.name {
            Some(name) => format!("supervise-harness: in `{name}`: {text}"),
            None => format!("supervise-harness: {text}"),
        }
    }

    /// Ends the sim: kills its agents, and lets no more agents in.
    fn end(
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
    fn enforce(&self, verdict: &Verdict, clock: Duration) {
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

    fn kill_foreign(&self) {
        self.each_foreign(|_, pidfd| {
            // This fails only if there is nothing left to kill.
            let _ = send_signal(pidfd, Some(Signal::KILL));
        });
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

    /// Shows `each` the running children of the sim's threads that are no agents, and the other processes that have
    /// held up time. It shows one after the other: there may be a single descriptor to look at them with.
    fn each_foreign(&self, mut each: impl FnMut(u32, BorrowedFd<'_>)) {
        let children = self.children();
        let mut all: Vec<(u32, Option<u64>)> = children.iter().map(|pid| (*pid, None)).collect();
        let busy = self.sight.busy().into_iter();
        let others = busy.filter(|(pid, _)| !children.contains(pid));
        all.extend(others.map(|(pid, start)| (pid, Some(start))));
        for (pid, start) in all {
            let server = self.shared.lock_within(LOCKED_AGAIN);
            let is_agent = server.is_some_and(|server| server.member_of(pid).is_some());
            if is_agent || self.before.contains(&pid) {
                continue;
            }
            // A process that is still a child was one when its pidfd was opened. Of the others, the start says whether
            // the number is still theirs.
            let is_it = || match start {
                None => self.children().contains(&pid),
                Some(_) => parent_and_start(pid).map(|(_, start)| start) == start,
            };
            if let Ok(pidfd) = open_pidfd(pid)
                && ended_status(pidfd.as_fd()).is_none()
                && is_it()
            {
                each(pid, pidfd.as_fd());
            }
        }
    }
}

static SIMS: Mutex<Vec<Weak<Watched>>> = Mutex::new(Vec::new());

/// The sims that there are.
fn sims() -> Vec<Arc<Watched>> {
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
