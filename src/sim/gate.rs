//! The idle gate: time may pass only when everything provably waits for it.
//!
//! Tokio calls it when no task is ready, before it would advance a paused clock. Here the gate looks
//! at the processes of the sim. As long as one of them has something to do, it wakes a task, and
//! tokio turns once more instead.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tokio::time::Instant as TokioInstant;

use super::children::{self, Children, has_no_words};
use super::sight::Sight;
use crate::Timestamp;
use crate::agent::{KernelState, Server, Shared};
use crate::process::{ended_status, open_pidfd};

use std::os::fd::AsFd;

/// How long the gate waits for processes that are at work, before tokio gets another turn.
const PATIENCE: Duration = Duration::from_millis(1);

/// How many turns tokio gets to reap a zombie before time goes on.
const ROUNDS: u32 = 12;

/// real-time: how long time stands still for a zombie that another thread may be about to reap.
const REAPING: Duration = Duration::from_millis(100);

/// real-time: how long time stands still for another thread's child that still runs this program. A
/// spawn returns before its exec is done.
const EXEC: Duration = Duration::from_secs(1);

/// Whether anything is at work.
enum Survey {
    Busy,
    Zombies,
    Quiet,
}

/// A zombie that somebody may be about to reap.
#[derive(Debug)]
struct Zombie {
    rounds: u32,
    since: Instant,
    /// Time goes on: how long it stays unreaped is in the timeline.
    is_left: bool,
}

#[derive(Debug)]
pub(crate) struct Gate {
    shared: Arc<Shared>,
    sight: Arc<Sight>,
    children: Children,
    /// Children of this thread that were there before the sim, and are none of its business.
    before: HashSet<u32>,
    /// The clock's origin.
    origin: TokioInstant,
    zombies: HashMap<u32, Zombie>,
    /// Children of other threads that have nothing to do with the sim.
    strangers: HashSet<u32>,
    /// Those that still run this program: since when.
    unexeced: HashMap<u32, Instant>,
    /// Other sims' children that have got through their exec, by thread, and how often that sim had
    /// come to rest when all had.
    execed: HashMap<Pid, (HashSet<u32>, Option<u64>)>,
    /// Those that have not: since when.
    forked: HashMap<u32, Instant>,
    /// What had happened in this sim, and which children it had, when the others were looked at.
    looked_at: Option<(u64, Vec<u32>)>,
}

impl Gate {
    /// To be made on the sim's thread, inside its runtime.
    pub(crate) fn new(shared: Arc<Shared>, sight: Arc<Sight>, before: HashSet<u32>) -> Gate {
        Gate {
            before,
            shared,
            sight,
            children: Children::of_this_thread(),
            origin: TokioInstant::now(),
            zombies: HashMap::new(),
            strangers: HashSet::new(),
            unexeced: HashMap::new(),
            execed: HashMap::new(),
            forked: HashMap::new(),
            looked_at: None,
        }
    }

    pub(crate) fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + (TokioInstant::now() - self.origin)
    }

    /// What tokio calls before it parks.
    pub(crate) fn park(&mut self) {
        let Some(open) = self.may_advance() else {
            self.shared.timer.notify_one();
            return;
        };
        self.sight.is_open.store(open, Ordering::Relaxed);
        if open {
            self.sight.open();
            let opened = self.sight.opened.lock();
            *opened.unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        if !open {
            // A task that wakes keeps tokio from advancing.
            self.shared.timer.notify_one();
        }
    }

    /// Nothing where the watchdog has ended the sim: it says what was seen until then.
    fn may_advance(&mut self) -> Option<bool> {
        let shared = Arc::clone(&self.shared);
        let mut server = shared.lock();
        // The watchdog has the lock between that and giving up the descriptor that it has to spare.
        if self.sight.is_over.load(Ordering::Acquire) {
            return None;
        }
        server.now = self.now();
        let before = server.progress;
        let quiet = self.settle(&mut server);
        if server.progress != before {
            shared.changed.notify_waiters();
        }
        // News are for the tasks first, and new waits for the timer.
        let news = server.progress != before || std::mem::take(&mut server.has_new_deadline);
        if !quiet || news {
            return Some(false);
        }
        // One at a time: two that act at once would race.
        if !server.end_next_wait() {
            return Some(true);
        }
        self.settle(&mut server);
        shared.changed.notify_waiters();
        Some(false)
    }

    /// Takes in what the processes do until none is at work. False where one still is after a while:
    /// it may be waiting for what only a task can do.
    fn settle(&mut self, server: &mut Server) -> bool {
        let deadline = Instant::now() + PATIENCE;
        server.pump(Duration::ZERO);
        loop {
            match self.survey(server) {
                Survey::Quiet if barrier(server) => {
                    let before = server.progress;
                    server.pump(Duration::ZERO);
                    if server.progress == before {
                        return true;
                    }
                }
                Survey::Quiet | Survey::Busy => {}
                // Only a task, or another thread, can reap it.
                Survey::Zombies => return false,
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            server.pump(left.min(Duration::from_micros(200)));
        }
    }

    /// Looks at every process of the sim. What cannot be seen may be at work.
    fn survey(&mut self, server: &mut Server) -> Survey {
        let seen = self.look(server);
        let mut blind = self
            .sight
            .blind
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match seen {
            Ok(survey) => {
                *blind = None;
                survey
            }
            Err(why) => {
                *blind = Some(why);
                Survey::Busy
            }
        }
    }

    /// Or what cannot be seen, and why.
    fn look(&mut self, server: &mut Server) -> Result<Survey, String> {
        if server.expects_hello() {
            return Ok(Survey::Busy);
        }
        for (_, member) in server.alive() {
            if !member.waits_asleep() && member.kernel_state() != KernelState::Stopped {
                return Ok(Survey::Busy);
            }
        }
        let children = self
            .children
            .list()
            .map_err(blind("the children of this thread cannot be listed"))?;
        let happened = (server.progress, children.clone());
        let mut zombies: Vec<u32> = server.zombies().map(|member| member.pid).collect();
        let (mut foreign, mut gone) = (Vec::new(), Vec::new());
        for pid in children {
            if server.member_of(pid).is_none() && !self.before.contains(&pid) {
                match is_zombie(pid) {
                    true => {
                        server.see_zombie(pid);
                        zombies.push(pid);
                        gone.push(pid);
                    }
                    false => foreign.push(pid),
                }
            }
        }
        let busy = !foreign.is_empty();
        if busy {
            // It comes and goes without a word.
            self.looked_at = None;
        }
        let mut seen = self
            .sight
            .seen
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        seen.extend(foreign.iter().chain(&gone));
        drop(seen);
        if busy || self.others_start_agents(server)? {
            return Ok(Survey::Busy);
        }
        self.zombies.retain(|pid, _| zombies.contains(pid));
        let mut waits = false;
        for pid in zombies {
            let fresh = Zombie {
                rounds: 0,
                since: Instant::now(),
                is_left: false,
            };
            let zombie = self.zombies.entry(pid).or_insert(fresh);
            zombie.rounds = zombie.rounds.saturating_add(1);
            if zombie.rounds > ROUNDS / 2 {
                // Tokio has had its chance: another thread needs time.
                std::thread::sleep(Duration::from_micros(50));
            }
            if zombie.rounds > ROUNDS && !zombie.is_left {
                zombie.is_left =
                    zombie.since.elapsed() > REAPING || children::other_threads_are_quiet();
            }
            waits |= !zombie.is_left;
        }
        Ok(if waits {
            Survey::Zombies
        } else if self.others_fork(happened)? {
            Survey::Busy
        } else {
            Survey::Quiet
        })
    }

    /// Whether another sim has forked a child that is not through its exec: until then it holds a copy
    /// of every descriptor, and a pipe of this sim does not end.
    ///
    /// What it forks while nothing happens in this sim matters no more: no pipe was made meanwhile. So
    /// sims that fork all the time hold nobody up.
    fn others_fork(&mut self, happened: (u64, Vec<u32>)) -> Result<bool, String> {
        if self.looked_at.as_ref() == Some(&happened) {
            let mut left = HashMap::new();
            for (pid, since) in std::mem::take(&mut self.forked) {
                if since.elapsed() < EXEC && starts(pid)? {
                    left.insert(pid, since);
                }
            }
            self.forked = left;
            return Ok(!self.forked.is_empty());
        }
        let sims = children::other_sims();
        self.execed
            .retain(|thread, _| sims.iter().any(|(other, _)| other == thread));
        self.forked.clear();
        for (thread, sight) in sims {
            // In this order: what it forks after it was seen at rest, it forks without our pipes.
            let is_parked = sight.is_parked.load(Ordering::Acquire);
            let parks = sight.parks.load(Ordering::Acquire);
            let (execed, clear_at) = self.execed.entry(thread).or_default();
            if is_parked && *clear_at == Some(parks) {
                continue;
            }
            let children = children::of_thread(thread)
                .map_err(blind("the children of another sim cannot be listed"))?;
            execed.retain(|pid| children.contains(pid));
            let mut is_clear = true;
            for pid in children {
                if execed.contains(&pid) {
                    continue;
                }
                if starts(pid)? {
                    self.forked.insert(pid, Instant::now());
                    is_clear = false;
                } else {
                    execed.insert(pid);
                }
            }
            *clear_at = (is_clear && is_parked).then_some(parks);
        }
        self.looked_at = Some(happened);
        Ok(!self.forked.is_empty())
    }

    /// Whether another thread has forked an agent that has not said hello.
    fn others_start_agents(&mut self, server: &Server) -> Result<bool, String> {
        let children = self.children.of_other_threads();
        let children = children.map_err(blind("the children of other threads cannot be listed"))?;
        self.strangers.retain(|pid| children.contains(pid));
        self.unexeced.retain(|pid, _| children.contains(pid));
        for pid in children {
            if server.member_of(pid).is_some() || self.strangers.contains(&pid) {
                continue;
            }
            // In the order in which an exec goes on, which it may do meanwhile.
            let is_unexeced = is_unexeced(pid);
            if is_unexeced {
                let since = *self.unexeced.entry(pid).or_insert_with(Instant::now);
                if since.elapsed() < EXEC {
                    return Ok(true);
                }
            }
            let execs = has_no_words(pid).map_err(blind(UNKNOWN_CHILD))?;
            let address = server.address();
            if execs || children::mentions(pid, address).map_err(blind(UNKNOWN_CHILD))? {
                // A zombie among them is no longer about to say anything.
                if !is_zombie(pid) {
                    return Ok(true);
                }
            } else if !is_unexeced {
                self.strangers.insert(pid);
            }
        }
        Ok(false)
    }
}

/// What to say where something cannot be seen.
fn blind(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}

const UNKNOWN_CHILD: &str = "what a child of another thread is cannot be told";

/// Whether a child of another sim is not through its exec. The second shows only when its descriptors are
/// closed.
fn starts(pid: u32) -> Result<bool, String> {
    let has_no_words = || has_no_words(pid).map_err(blind(UNKNOWN_CHILD));
    Ok(is_unexeced(pid) || has_no_words()? && !is_zombie(pid))
}

/// Whether a child was forked and still runs this program: with its arguments, too, where this program
/// may have been run again.
fn is_unexeced(pid: u32) -> bool {
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let arguments = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    let child = pid.to_string();
    program(&child) == program("self") && arguments(&child) == arguments("self")
}

/// Whether a child of this process is a zombie.
fn is_zombie(pid: u32) -> bool {
    open_pidfd(pid).is_ok_and(|pidfd| ended_status(pidfd.as_fd()).is_some())
}

/// Whether every process that said that it rests still does: a signal may have come since.
fn barrier(server: &mut Server) -> bool {
    let mut unknown = Vec::new();
    for (member, process) in server.alive() {
        match process.kernel_state() {
            // kill(2) wakes its target before it returns.
            KernelState::Sleeping | KernelState::Stopped => {}
            KernelState::Running => return false,
            KernelState::Unknown => unknown.push(member),
        }
    }
    // Without /proc: each must answer, and say nothing else.
    for &member in &unknown {
        server.ping(member);
    }
    let deadline = Instant::now() + PATIENCE * 500;
    let before = server.progress;
    while unknown
        .iter()
        .any(|&member| server.members[member].awaits_pong())
    {
        server.pump(PATIENCE);
        if server.progress != before || Instant::now() > deadline {
            return false;
        }
    }
    server
        .alive()
        .all(|(_, member)| member.waits_asleep() || member.kernel_state() == KernelState::Stopped)
}
