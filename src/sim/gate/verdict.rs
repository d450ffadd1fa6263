//! The verdict of the gate: whether time may pass, and whose turn it is.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant as TokioInstant;

use super::limits::OTHERS;
use super::rest::ask_watchers;
use super::settling::has_tasks;
use super::state::Gate;
use super::suspects::{Beside, Suspects};
use super::zombies::may_have_left;
use crate::sim::agent::{Locked, Member, Server, Shared};

/// What tokio may do.
#[derive(Debug)]
pub(super) enum Verdict {
    /// The watchdog has ended the sim, and says what was seen until then.
    Over,
    /// The tasks have a turn, and time stands still.
    Turn,
    /// The tasks have a turn, and time stands still. Only the code under test is at work.
    Pending,
    /// Time may pass.
    Open,
}

impl Gate {
    pub(super) fn judge(&mut self) -> Verdict {
        let shared = Arc::clone(&self.shared);
        let server = shared.lock();
        // The watchdog takes this lock after it sets `is_over`, and before it frees its spare descriptor.
        if self.sight.is_over.load(Ordering::Acquire) {
            // The body may have come to its end, and wait until what it did last shows.
            shared.settled.notify_one();
            return Verdict::Over;
        }
        if self.sight.why_faulted().is_some() || self.check_clock() {
            // The sim cannot go on, and what happens from here on has no time.
            return Verdict::Turn;
        }
        let (suspects, beside) = self.suspects(&server);
        if server.is_ending {
            // The wait begins here, however long the look takes.
            let _ = self.is_unquiet_for_long();
        }
        let (mut server, quiet, mut news) = self.take_in(&shared, server, suspects, beside);
        // The next turn shows whether the process that has ended was reaped.
        news |= server.has_just_ended();
        // Asked before `is_pending`: what the others tell is pending by then.
        let quiet = quiet && (news || !self.others_may_tell(&server));
        let is_pending = !news && (self.body.is_woken() || self.ready.is_pending());
        if server.is_ending && !news && !is_pending {
            // Another sim may have forked a child, and a shell may be about to reap.
            if !quiet && !self.is_unquiet_for_long() {
                return Verdict::Turn;
            }
            server.look_at_parents();
            if self.have_tokio_reap_unseen(&server) {
                return Verdict::Turn;
            }
            // No more than that is done: nobody has a turn after the body.
            shared.settled.notify_one();
            return Verdict::Turn;
        }
        if !news && !is_pending && (quiet || self.is_unquiet_for_long()) {
            // Only one thing at a time: two that act at once would race.
            news = server.see_rest() || server.see_blocked() || ask_watchers(&mut server);
            if !news && let Some(member) = server.grant_next_turn() {
                news = true;
                server = self.see_turn(&shared, server, member);
            }
        }
        if quiet || news || is_pending {
            self.unquiet.end();
        }
        self.hand_over(&mut server, has_tasks());
        self.awaits_reap = server.awaits_reap_by_others();
        self.have_tokio_reap(&server);
        if news {
            shared.changed.notify_waiters();
            return Verdict::Turn;
        }
        match (quiet, is_pending) {
            (true, false) => Verdict::Open,
            (true, true) => Verdict::Pending,
            (false, _) => Verdict::Turn,
        }
    }

    /// Lets the member have the turn that it was granted. Then grants the next turns that begin a script, as long as
    /// each leads to nothing but rest: the code under test then has nothing new to come to rest with.
    fn see_turn<'a>(
        &mut self,
        shared: &'a Shared,
        mut server: Locked<'a>,
        mut member: usize,
    ) -> Locked<'a> {
        loop {
            let before = server.progress;
            // A thread or a shell that hears of the turn may signal anybody.
            let suspects = if self.has_others || server.has_blocked() {
                Suspects::All
            } else {
                Suspects::One(member)
            };
            let is_settled;
            (server, is_settled) = self.settle(shared, server, suspects, Beside::Nothing);
            let is_all = is_settled
                && server.progress == before
                && !self.has_others
                && server.next_turn_begins()
                && !self.ready.is_pending();
            if !is_all {
                if is_settled {
                    server.see_rest();
                }
                return server;
            }
            match server.grant_next_turn() {
                Some(next) => member = next,
                None => return server,
            }
        }
    }

    /// Whether something that is no agent has been at work for long while nothing else happens. It holds up time, but
    /// not the agents that are due already.
    fn is_unquiet_for_long(&mut self) -> bool {
        self.unquiet.is_over(OTHERS, &self.foreigners.running)
    }

    /// Which agents may have been woken since all were looked at, and what may have been done besides the agents. An
    /// agent signals nobody. But its death signals whoever started it, and closing a stream signals whoever writes
    /// there.
    fn suspects(&self, server: &Server) -> (Suspects, Beside) {
        let is_childless = |(_, member): (usize, &Member)| member.is_child && !member.is_descendant;
        let others_run = self.has_others || has_tasks() || !server.alive().all(is_childless);
        if others_run || self.has_run && !self.has_settled {
            return (Suspects::All, Beside::All);
        }
        let suspects = if server.has_blocked() {
            Suspects::All
        } else {
            Suspects::Nobody
        };
        let beside = if self.has_run {
            Beside::All
        } else {
            Beside::Nothing
        };
        (suspects, beside)
    }

    /// Lets the tasks go on: puts what they find in an order, and makes what they do come after it.
    pub(super) fn hand_over(&mut self, server: &mut Server, is_after_code: bool) {
        let is_one = server.actors.len() + server.strange_deaths.len() <= 1;
        // Tokio's drop may have reaped some of the processes that the code under test itself has ended. These are not
        // among the actors, but their output ends all the same.
        if !is_one || is_after_code && self.ready.is_pending() {
            let server = &*server;
            let rank = |descriptor| server.place_of(descriptor);
            self.ready
                .put_in_order(rank, &server.ended_since_the_last_look());
        }
        server.begin_step();
    }

    /// Whether another runtime may be about to tell the tasks of a signal, such as SIGCHLD, or to reap.
    fn others_may_tell(&mut self, server: &Server) -> bool {
        let registered = &self.registered;
        let may_have_left = || may_have_left(server, registered);
        self.tellers
            .are_there(server.ends, &self.children, may_have_left)
    }

    /// Whether anybody has passed time except tokio at rest. Code that passes time itself leaves behind everybody who
    /// waits by this clock. If so, the sim cannot go on.
    pub(super) fn check_clock(&mut self) -> bool {
        let now = TokioInstant::now();
        let is_running = TokioInstant::now() != now;
        let call = match self.went_on {
            _ if is_running => "tokio::time::resume",
            Some(before) if before != now => "tokio::time::advance",
            _ => return false,
        };
        self.sight.fault(format!(
            "the code under test called `{call}`: the sim's clock is passed by the sim alone, when everything waits \
             for it. Use `tokio::time::sleep`, which takes no real time here"
        ));
        true
    }
}
