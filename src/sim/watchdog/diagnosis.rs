//! What the watchdog says of a sim in which nothing moves.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::watched::Watched;
use crate::sim::agent::Server;
use crate::sim::children::{is_zombie, mentions, program_of};
use crate::sim::foreign::children_of;
use crate::sim::kernel::{doing, unheard_signals};

impl Watched {
    /// Says what everything is blocked on.
    pub(super) fn diagnose(
        &self,
        server: &Server,
        foreign: &[u32],
        is_busy: bool,
        is_held: bool,
        time_passes: bool,
    ) -> String {
        // A fork of another thread closes the gate for a moment.
        let opened = self.sight.opened.lock();
        let opened = *opened.unwrap_or_else(PoisonError::into_inner);
        let is_open = self.sight.is_open.load(Ordering::Relaxed)
            || opened.is_some_and(|at| at.elapsed() < self.limit / 2);
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
                None if self.pool.may_be_at_work() => format!(
                    "virtual time stands at {} although everything waits: a task in `spawn_blocking` holds it, such \
                     as one that sleeps in real time, or waits for what does not come",
                    server.now
                ),
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
        if !is_held {
            self.shared.waits.texts().into_iter().for_each(&mut line);
        }
        for trouble in &server.troubles {
            line(trouble.clone());
        }
        for program in server.strangers() {
            line(format!(
                "a control connection has not said hello: that of {program}"
            ));
        }
        for (_, member) in server.alive() {
            line(member.doing() + &unheard_signals(member.pid));
        }
        for member in server.zombies() {
            line(member.doing());
        }
        let waits = match self.shared.is_virtual {
            true => ", and time waits for it",
            false => "",
        };
        for &pid in foreign {
            let mut text = format!("a child that is no agent runs{waits}: {}", program_of(pid));
            // A shell waits for what it has started, so the text names the last process below it.
            match last_below(pid, server.address()) {
                below if below == pid => text += &format!(", which {}", doing(pid)),
                below => {
                    text += &format!(
                        ", and below it {}, which {}",
                        program_of(below),
                        doing(below)
                    );
                }
            }
            line(text);
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

/// The process at the end of the line that begins with `pid` and goes on with the last child that lives and is no
/// agent.
fn last_below(pid: u32, address: &str) -> u32 {
    let is_agent = |pid| mentions(pid, address).unwrap_or(false);
    let mut last = pid;
    loop {
        let below = children_of(last).unwrap_or_default();
        let mut others = below
            .iter()
            .filter(|pid| !is_agent(**pid) && !is_zombie(**pid));
        match others.next_back() {
            Some(next) => last = *next,
            None => return last,
        }
    }
}
