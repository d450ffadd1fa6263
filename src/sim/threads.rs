//! The threads of the code under test: those that the sim's thread has started, and those that they have started in
//! turn.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;

use nix::libc;
use nix::unistd::gettid;

use super::children::{self, Call, ThreadsChildren};
use super::mark::{Mark, Whose};
use super::starved::ran_for;

/// real-time: how long the process's first thread may run and still be taken to handle a signal, in nanoseconds.
const HANDLER: u64 = 1_000_000;

/// How long a thread that an ended sim has started may run before it counts as none of this sim's business, in
/// nanoseconds on a processor. A pool of threads that is there for all sims was made in one of them.
const SHARED: u64 = 20_000_000;

/// What the threads of the code under test do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// All of them wait.
    AtRest,
    /// This thread is at work, or handles a signal.
    Busy(u32),
    /// The thread of this name waits for events of its own, as the thread of another runtime does.
    OwnRuntime(String),
}

/// The threads of this process that have the sim's mark.
#[derive(Debug)]
pub(crate) struct Threads {
    /// The children of marked threads. They are kept here because zombies keep no mark.
    own: HashSet<u32>,
    /// Whether there were any such threads at the last look.
    pub(crate) are_there: bool,
    /// The process's first thread, unless that is the sim's own thread.
    leader: Option<Leader>,
    /// How long the first thread had run when it was seen at work, in nanoseconds.
    leader_ran: Option<u64>,
    /// How long each thread of an ended sim had run when it was seen at work, in nanoseconds.
    shared_ran: HashMap<u32, u64>,
}

/// The process's first thread. The gate looks at it again and again.
#[derive(Debug)]
struct Leader {
    number: u32,
    /// Its `stat`, held open. `None` if there was no descriptor for it.
    stat: Option<File>,
}

impl Leader {
    fn new(number: u32) -> Leader {
        let stat = File::open(format!("/proc/self/task/{number}/stat"));
        Leader {
            number,
            stat: stat.ok(),
        }
    }

    fn state(&self) -> Option<char> {
        match &self.stat {
            Some(stat) => children::state_in(children::read_all(stat)),
            None => children::state(&format!("/proc/self/task/{}", self.number)),
        }
    }
}

/// The processes that the other threads of this process have started.
#[derive(Debug, Default)]
pub(crate) struct OthersChildren {
    /// Started by threads of the code under test.
    pub(crate) own: Vec<u32>,
    /// Started by other threads that run no sim. They may still start agents.
    pub(crate) strangers: Vec<u32>,
}

impl OthersChildren {
    /// For a process in which nothing tells whose a thread is.
    pub(crate) fn unknown(others: &[ThreadsChildren]) -> OthersChildren {
        let children = others.iter().flat_map(|(_, children)| children);
        OthersChildren {
            own: Vec::new(),
            strangers: children.copied().collect(),
        }
    }
}

impl Threads {
    /// Made on the sim's own thread.
    pub(crate) fn new() -> Threads {
        let leader = std::process::id();
        let is_other = gettid().as_raw().unsigned_abs() != leader;
        Threads {
            own: HashSet::new(),
            are_there: false,
            leader: is_other.then(|| Leader::new(leader)),
            leader_ran: None,
            shared_ran: HashMap::new(),
        }
    }

    /// Sorts the children of the threads that run no sim. `others` are those threads, each with its
    /// children.
    pub(crate) fn sort(&mut self, mark: &Mark, others: &[ThreadsChildren]) -> OthersChildren {
        let mut sorted = OthersChildren::default();
        let mut all = HashSet::new();
        for (thread, children) in others {
            if children.is_empty() {
                continue;
            }
            let is_ours = mark.is_on(*thread);
            for &child in children {
                all.insert(child);
                if self.own.contains(&child) || is_ours || mark.is_on(child) {
                    self.own.insert(child);
                    sorted.own.push(child);
                } else {
                    sorted.strangers.push(child);
                }
            }
        }
        self.own.retain(|child| all.contains(child));
        sorted
    }

    /// What those of the threads `others` do that have the mark, or that an ended sim has started. Says also whether
    /// the process's first thread may be handling a signal that was sent to the process. `is_pool` tells the threads of
    /// the sim's blocking pool.
    pub(crate) fn activity(
        &mut self,
        mark: &Mark,
        others: &[u32],
        is_pool: &impl Fn(u32) -> bool,
    ) -> io::Result<Activity> {
        let leader = std::process::id();
        self.are_there = false;
        for &thread in others {
            let whose = mark.whose(thread);
            let is_ours = whose == Whose::Ours;
            if thread == leader && !is_ours {
                if self.leader_is_at_work() {
                    return Ok(Activity::Busy(thread));
                }
                continue;
            }
            if whose == Whose::AnEndedSims && self.shared_is_at_work(thread) {
                return Ok(Activity::Busy(thread));
            }
            if !is_ours {
                continue;
            }
            self.are_there = true;
            let task = format!("/proc/self/task/{thread}");
            match children::state(&task) {
                Some('S') => {}
                None | Some('T' | 't' | 'Z' | 'X') => continue,
                Some(_) => return Ok(Activity::Busy(thread)),
            }
            let call = children::call_of(&task);
            if call == Call::None {
                return Ok(Activity::Busy(thread));
            }
            if !is_pool(thread) && waits_for_events(call) {
                let name = fs::read_to_string(format!("{task}/comm")).unwrap_or_default();
                return Ok(Activity::OwnRuntime(name.trim_end().to_owned()));
            }
        }
        Ok(Activity::AtRest)
    }

    /// Whether a thread that an ended sim has started is at work, and has not been for long. What it does may be for
    /// this sim.
    fn shared_is_at_work(&mut self, thread: u32) -> bool {
        let task = format!("/proc/self/task/{thread}");
        let is_at_work = match children::state(&task) {
            Some('S') => {
                let call = children::call_of(&task);
                // A thread that waits for other such threads does not go on because of what an agent does.
                self.are_there |= call != Call::Blocked(libc::SYS_futex);
                call == Call::None
            }
            Some('R' | 'D') => {
                self.are_there = true;
                true
            }
            _ => false,
        };
        let ran = if is_at_work { ran_for(thread) } else { None };
        let Some(ran) = ran else {
            self.shared_ran.remove(&thread);
            return false;
        };
        let since = *self.shared_ran.entry(thread).or_insert(ran);
        ran.saturating_sub(since) < SHARED
    }

    /// Whether the process's first thread is at work, and has not been for longer than a signal handler takes. That
    /// thread takes the signals that are sent to the process.
    pub(crate) fn leader_is_at_work(&mut self) -> bool {
        let runs = |leader: &&Leader| leader.state() == Some('R');
        let Some(leader) = self.leader.as_ref().filter(runs) else {
            self.leader_ran = None;
            return false;
        };
        let Some(ran) = ran_for(leader.number) else {
            return false;
        };
        let since = *self.leader_ran.get_or_insert(ran);
        ran.saturating_sub(since) < HANDLER
    }
}

/// Whether the call is epoll_wait(2).
fn waits_for_events(call: Call) -> bool {
    #[cfg(target_arch = "x86_64")]
    if call == Call::Blocked(libc::SYS_epoll_wait) {
        return true;
    }
    call == Call::Blocked(libc::SYS_epoll_pwait)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc;
    use std::thread;

    use nix::sys::wait::{Id, WaitPidFlag, waitid};

    use super::*;

    /// While wait4(2) and waitid(2) look for a child, the thread has the state of a thread that sleeps.
    #[test]
    fn a_thread_that_looks_for_its_children_is_at_work() {
        let mark = Mark::take().unwrap();
        let is_over = AtomicBool::new(false);
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let seen = thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            let is_over = &is_over;
            scope.spawn(move || {
                tell.send(gettid().as_raw().unsigned_abs()).unwrap();
                let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
                while !is_over.load(Ordering::Relaxed) {
                    waitid(Id::All, flags).unwrap();
                }
            });
            let thread = told.recv().unwrap();
            let mut threads = Threads::new();
            let looks = (0..2000).map(|_| threads.activity(&mark, &[thread], &|_| false).unwrap());
            let seen: Vec<Activity> = looks
                .filter(|seen| !matches!(seen, Activity::Busy(_)))
                .collect();
            is_over.store(true, Ordering::Relaxed);
            seen
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(seen, []);
    }
}
