//! The other runtimes of this process. All of them find a signal through one pipe, and whichever looks first tells the
//! tasks of all. Each of them also reaps the dropped children of all.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, raise};
use nix::unistd::Pid;

use super::children::{self, Children};
use super::sight::Sight;
use super::signals;
use super::starved::{Waited, ran_for};

/// How long a runtime looks for events at most, in time on a processor. A thread that runs for longer is doing
/// something else.
const LOOK: Duration = Duration::from_millis(1);

/// real-time: how long the sim waits for threads that neither go on nor come to rest.
const LONGEST: Duration = Duration::from_secs(1);

/// real-time: how long a signal may wait for a thread that takes it. There may be no processor for that thread.
const PENDING: Duration = Duration::from_secs(1);

/// How often tokio has to look after a signal. Either it finds the signal, or a runtime that looked at that time has.
const LOOKS_FOR_SIGNAL: u32 = 1;

/// How often tokio has to look after dropped children have ended. A runtime that looks while another one does reaps
/// nothing, and the other one may have begun before anybody was told of the SIGCHLD. So the first look makes somebody
/// be told, and the second follows that. Whoever is in the way of the third has been told itself.
const LOOKS_FOR_LEFT: u32 = 3;

/// The threads that may be about to tell this sim's tasks of the ends of processes, or to reap.
#[derive(Debug, Default)]
pub(crate) struct Tellers {
    /// How many processes had ended when the threads were listed.
    ends: u64,
    threads: Vec<Teller>,
    /// How long the threads have been waited for since they were listed.
    waited: Waited,
    /// How often tokio still has to look. After each of its looks, the threads that look just then are listed, too.
    looks_left: u32,
    has_looked: bool,
    /// Whether the threads that run no sim are listed as well.
    lists_all: bool,
    /// The first answer of [`signals::pending`], and when it came.
    pending: Option<(u64, Instant)>,
    /// The last answer of [`signals::arrived`].
    arrived: u64,
}

#[derive(Debug)]
struct Teller {
    thread: Pid,
    then: Then,
    /// How long the thread had run, in nanoseconds.
    ran: Option<u64>,
}

/// How a thread stood when it was listed. Once it stands otherwise, it has finished what it may have been doing.
#[derive(Debug)]
enum Then {
    /// How often the sim's runtime had looked for events.
    Looked(u64, Arc<Sight>),
    /// How often the thread had slept; `None` if that could not be told.
    Slept(Option<u64>),
}

impl Tellers {
    /// Whether there may be such threads. `ends` is how many processes have ended so far. `may_have_left` tells whether
    /// a child has ended that the code under test may have dropped before the gate saw it registered with tokio.
    pub(crate) fn are_there(
        &mut self,
        ends: u64,
        own: &Children,
        may_have_left: impl FnOnce() -> bool,
    ) -> bool {
        let arrived = signals::arrived();
        let mut has_arrived = std::mem::replace(&mut self.arrived, arrived) != arrived;
        match signals::pending() {
            0 => has_arrived |= self.pending.take().is_some(),
            pending => {
                let (waited_for, since) = *self.pending.get_or_insert((pending, Instant::now()));
                // A signal that all threads block may stay pending for ever.
                if waited_for == pending && since.elapsed() < PENDING {
                    return true;
                }
            }
        }
        if has_arrived {
            self.lists_all = true;
            self.looks_left = self.looks_left.max(LOOKS_FOR_SIGNAL);
        }
        if self.ends != ends {
            self.ends = ends;
            if !(children::other_sims().is_empty() && own.are_of_sims_alone()) {
                // The kernel's SIGCHLD may have met another one on its way to another thread, and become one with it.
                // So a further one is sent. The call fails only for what is no signal.
                let _ = raise(Signal::SIGCHLD);
                let may_have_left = may_have_left();
                self.lists_all |= may_have_left;
                let looks = if may_have_left {
                    LOOKS_FOR_LEFT
                } else {
                    LOOKS_FOR_SIGNAL
                };
                self.looks_left = self.looks_left.max(looks);
            }
        }
        if std::mem::take(&mut self.has_looked) {
            self.list();
        }
        self.threads.retain(|teller| !teller.is_done());
        if !self.threads.is_empty() {
            let number = |teller: &Teller| teller.thread.as_raw().unsigned_abs();
            let numbers: Vec<u32> = self.threads.iter().map(number).collect();
            if self.waited.for_these(&numbers) > LONGEST {
                self.threads.clear();
            }
        }
        if !self.threads.is_empty() {
            return true;
        }
        if self.looks_left == 0 {
            self.lists_all = false;
            return false;
        }
        self.looks_left -= 1;
        self.has_looked = true;
        true
    }

    /// Lists the sims that look for events now and, if asked to, all threads that may run a runtime of another kind.
    fn list(&mut self) {
        self.waited = Waited::default();
        let looks = |sight: &Sight| sight.looks.load(Ordering::Acquire);
        let sims = children::other_sims();
        let sims = sims.into_iter().map(|(thread, sight)| {
            let then = Then::Looked(looks(&sight), sight);
            Teller::new(thread, then)
        });
        self.threads = sims
            .filter(|sim| matches!(sim.then, Then::Looked(looks, _) if looks % 2 == 1))
            .collect();
        if !self.lists_all {
            return;
        }
        let others = children::threads_without_sims().unwrap_or_default();
        let others = others
            .into_iter()
            .filter(|thread| !children::is_quiet(*thread));
        self.threads.extend(others.map(|thread| {
            let then = Then::Slept(children::sleeps_of(thread));
            Teller::new(thread, then)
        }));
    }
}

impl Teller {
    fn new(thread: Pid, then: Then) -> Teller {
        let ran = ran_for(thread.as_raw().unsigned_abs());
        Teller { thread, then, ran }
    }

    fn has_run_for_long(&self) -> bool {
        let now = ran_for(self.thread.as_raw().unsigned_abs());
        let (Some(then), Some(now)) = (self.ran, now) else {
            // The thread has ended, or nothing can be told of it.
            return true;
        };
        Duration::from_nanos(now.saturating_sub(then)) > LOOK
    }

    fn is_done(&self) -> bool {
        let has_gone_on = match &self.then {
            Then::Looked(looks, sight) => sight.looks.load(Ordering::Acquire) != *looks,
            Then::Slept(sleeps) => children::sleeps_of(self.thread) != *sleeps,
        };
        has_gone_on || children::is_quiet(self.thread) || self.has_run_for_long()
    }
}
