//! What ends a sim in which nothing moves.

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
use crate::agent::{Shared, parent_and_start};
use crate::process::{ended_status, open_pidfd, send_signal};
use crate::timeline::{Timeline, TimelineClock};
use crate::{Signal, Timestamp};

/// real-time: how often the watchdog looks.
const LOOK: Duration = Duration::from_millis(20);

/// real-time: how much of the time between two looks counts, at most. Between them this process, or the
/// machine, may have been stopped, and the sim with it.
const COUNTED: Duration = Duration::from_millis(200);

/// real-time: how long the thread of a sim that was ended may take to come back, before the process ends.
const COMING_BACK: Duration = Duration::from_secs(5);

/// real-time: how long a sim's thread may sleep while an agent waits for the clock, before that is said.
const ASLEEP: Duration = Duration::from_millis(100);

/// real-time: how long an agent waits for a descriptor of this process, at most.
const LACKING: Duration = Duration::from_secs(2);

/// real-time: how long to wait for the server, whose holder is at work.
const LOCKED: Duration = Duration::from_secs(1);

/// The same where that was in vain before.
const LOCKED_AGAIN: Duration = Duration::from_millis(5);

/// The exit code of a Rust test program of which a test has failed.
const FAILED: libc::c_int = 101;

/// More turns than that without any sleep since something moved, with nothing else at work, and still no
/// end of them, and the code under test does not wait.
const BUSY: u64 = 100;

/// What the watchdog saw when something had moved last. Its times are of its own clock, which stands
/// still while the process does.
#[derive(Debug)]
struct Last {
    clock: Duration,
    /// When that went on.
    looked: Instant,
    progress: u64,
    /// How often the runtime had gone on without a sleep then.
    turns: u64,
    at: Duration,
    /// How often the runtime had come to rest, at the last look, and since when that is so.
    rests: (u64, Duration),
    /// What time it was in the sim, at the last look, and since when, unless it is from the beginning.
    now: (Timestamp, Option<Duration>),
    /// What was more than talk, at the last look, and since when there was no more of it.
    lives: (u64, Duration),
    /// In which sleep its thread was at the last look, after how many rests, and since when.
    sleep: Option<(String, u64, Duration)>,
    /// Since when there has been no descriptor for an agent that waits for one.
    lacks: Option<Duration>,
    /// Whether the server could be looked at.
    is_locked_out: bool,
    /// Who waits for a processor.
    starved: Starved,
}

impl Last {
    /// Goes on by the time since the last look, as far as that counts.
    fn tick(&mut self) -> Duration {
        self.clock += self.looked.elapsed().min(COUNTED);
        self.looked = Instant::now();
        self.clock
    }
}

/// What the server has to say at a look.
struct Seen {
    progress: u64,
    now: Timestamp,
    /// Who waits for the clock, and is due next.
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
    /// What had happened until then.
    pub(crate) timeline: Timeline,
    pub(crate) given: Instant,
    /// When that was by the watchdog's clock.
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
    /// The thread that runs it, and its name: a test's, mostly.
    thread: Pid,
    name: Option<String>,
    /// Whether somebody else looks after its thread where that does not come back.
    may_be_lost: bool,
    children: Children,
    /// Children that were there before the sim.
    before: HashSet<u32>,
    pool: Arc<Pool>,
    /// A descriptor to spare: without one, nothing can be ended where none is left.
    spare: Mutex<Option<OwnedFd>>,
    last: Mutex<Last>,
    verdict: Mutex<Option<Verdict>>,
    /// Told when there is one.
    given: Condvar,
    /// What else there is to say, a line each.
    remarks: Mutex<Vec<String>>,
    /// Told when it is to end.
    pub(crate) abort: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    /// The sim of this thread, ended when nothing has moved for so long.
    pub(crate) fn new(
        shared: Arc<Shared>,
        sight: Arc<Sight>,
        before: HashSet<u32>,
        pool: Arc<Pool>,
        (limit, may_be_lost): (Duration, bool),
    ) -> Arc<Watched> {
        // There may be none left already.
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

    /// The thread is the harness's own again, which ends by itself. Why the sim was ended, or has to fail
    /// although its body came to an end meanwhile.
    pub(crate) fn ends(&self) -> Option<Verdict> {
        self.shared.is_let_go.store(true, Ordering::Relaxed);
        let verdict = lock(&self.verdict);
        let is_coming = |verdict: &mut Option<Verdict>| {
            verdict.is_none() && self.sight.is_over.load(Ordering::Acquire)
        };
        // What the body came to meanwhile is no end of its own.
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
            // Another sim of this process may leave some.
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
            // Time that passes towards an end that is known gets there.
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
        // Long ago it may have waited for what was at work.
        let is_turning = clock - last.rests.1 < self.limit / 4;
        let is_busy = is_turning && turns - last.turns > BUSY;
        let passed = last.now.1;
        let time_passes = passed.is_some_and(|at| clock - at < self.limit / 4);
        // Nothing may have moved for a while before the thread was blocked.
        let is_held =
            clock - last.rests.1 >= self.limit / 2 && !self.sight.is_parked.load(Ordering::Relaxed);
        self.end(clock, is_held, |server, foreign| {
            self.diagnose(server, foreign, is_busy, is_held, time_passes)
        });
    }

    /// The processes that time may wait for: agents and what is about to be one, and what is no agent.
    fn at_work(&self) -> Vec<u32> {
        let address = self.shared.lock_within(LOCKED_AGAIN);
        let address = address.map(|server| server.address().to_owned());
        // An agent that is at rest is not ready to run.
        let mut all = address.map_or_else(Vec::new, |address| ready_with(&address));
        self.each_foreign(|pid, _| all.push(pid));
        all
    }

    /// None where somebody holds the server all the time.
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
            // Code that starts one program after the other is not stuck.
            progress: server.progress + server.ends,
            now: server.now,
            waiter: server.next_waiter().map(ToString::to_string),
            excess: server.excess().map(str::to_owned),
            lives: server.lives,
            talker: server.talker(),
            is_short: server.is_short(),
        })
    }

    /// The sim's thread that sleeps in real time holds up everybody else's. Said once.
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

    /// The text with the name of the sim's thread, which libtest names after the test.
    fn titled(&self, text: &str) -> String {
        match &self.name {
            Some(name) => format!("supervise-harness: in `{name}`: {text}"),
            None => format!("supervise-harness: {text}"),
        }
    }

    /// Ends the sim: kills its agents, and lets no other begin.
    fn end(
        &self,
        clock: Duration,
        is_held: bool,
        why: impl FnOnce(&crate::agent::Server, &[u32]) -> String,
    ) {
        if is_held && let Some(mut server) = self.shared.lock_within(LOCKED) {
            // Nobody has looked for as long.
            server.pump(Duration::ZERO);
            // The text names them; nobody else takes them in any more.
            server.welcome_all(&[]);
        }
        // What it sees from here on, with a descriptor or without a process, is our doing.
        self.sight.is_over.store(true, Ordering::Release);
        let mut foreign = Vec::new();
        // Another thread may use the spare one, and change what there is to say.
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
                // Before any of them is killed: the body may take that for what it waits for, and end well.
                self.give(Verdict {
                    text,
                    timeline: server.timeline(),
                    given: Instant::now(),
                    at: clock,
                    is_held,
                });
                // What blocks the thread of the sim may be waiting for one of them.
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

    /// Kills what the code under test starts after the end, until its thread comes back. Where that does
    /// not, this process ends.
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

    /// Says what there is to say of the sim, and ends this process as one of which a test has failed: a
    /// thread cannot be ended from outside.
    fn end_process(&self, verdict: &Verdict) {
        self.end_processes();
        let text = format!(
            "{}\n  its thread has not come back within {COMING_BACK:?} of that: this process ends, and its other \
             tests with it",
            verdict.text
        );
        let timeline = verdict.timeline.clone();
        let failure = SimFailure::abandoned(text, self.remarks(), timeline);
        // The code under test may be blocked in it.
        if !self.shared.is_let_go.load(Ordering::Relaxed) {
            for other in sims() {
                other.end_processes();
            }
            crate::said::say(&self.titled(&failure.to_string()));
            // SAFETY: _exit takes a number, and does not return. What exit(3) does before may wait for
            // what the sim's thread holds.
            unsafe { libc::_exit(FAILED) }
        }
    }

    /// Ends every process of the sim.
    fn end_processes(&self) {
        if let Some(server) = self.shared.lock_within(LOCKED_AGAIN) {
            let address = server.address().to_owned();
            drop(server);
            // Where /proc cannot be read nothing more can be done.
            let _ = ending::end_by_address(&address, self.thread, &self.before, &self.pool);
        }
    }

    fn kill_foreign(&self) {
        self.each_foreign(|_, pidfd| {
            // It fails only where there is nothing left to kill.
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

    /// Shows the running children of the sim's threads that are no agents, and what else has held time, one after the
    /// other: there may be a single descriptor to look at them with.
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
            // What is still a child was it when it was opened, as what has started then has the number still.
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

/// One thread looks after all sims of the process, and sleeps while there are none.
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
                // It forks nothing and reaps nothing.
                let _thread = SimThread::enter(None);
                loop {
                    let sims = sims();
                    if sims.is_empty() {
                        thread::park();
                        // At first there is nothing to see.
                        thread::park_timeout(LOOK);
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
    // Else it looks soon. In a look for each new one it would wait for all others, which are at work.
    if let Some(thread) = thread.as_ref().filter(|_| is_first) {
        thread.unpark();
    }
}
