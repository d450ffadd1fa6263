//! The zombies: the ended children that tokio, or another thread, has still to reap.

use std::collections::HashSet;
use std::time::Instant;

use nix::sys::signal::{Signal, raise};

use super::limits::{PATIENCE, REAPING};
use super::state::Gate;
use crate::sim::agent::{Member, Server};
use crate::sim::children::{self, is_zombie};

impl Gate {
    /// Whether there is a zombie that somebody of unknown origin may be about to reap. The sim's own threads have seen
    /// the zombies of their children, and wait. But another thread may have started this one.
    pub(super) fn zombies_are_unsettled(&mut self, server: &Server, own: &[u32]) -> bool {
        let is_foreign =
            |member: &&Member| self.mark.is_none() || member.is_child && !own.contains(&member.pid);
        // For the server, a process that the code under test has reaped in this turn is still a zombie.
        let is_there = |member: &&Member| member.death().is_none_or(|death| !death.is_reaped);
        let zombies = server.zombies().filter(is_foreign).filter(is_there);
        let zombies: Vec<u32> = zombies.map(|member| member.pid).collect();
        self.zombies.retain(|pid, _| zombies.contains(pid));
        let mut is_new = false;
        for pid in zombies {
            let since = *self.zombies.entry(pid).or_insert_with(Instant::now);
            is_new |= since.elapsed() < REAPING;
        }
        is_new && !children::other_threads_are_quiet()
    }

    /// Makes tokio reap, when it looks for events, the ended children that the code under test has left to it: whoever
    /// drops a child drops its registration. Tokio looks for such children after a SIGCHLD. The kernel's SIGCHLD may
    /// still be on its way, to any thread of this process. The one that is raised here is there at once.
    pub(super) fn have_tokio_reap(&mut self, server: &Server) {
        let is_left = |member: &&Member| {
            self.registered.contains(&member.pid)
                && !self.was_left.contains(&member.pid)
                && member.death().is_some_and(|death| !death.is_reaped)
        };
        let mut left: Vec<u32> = server
            .zombies()
            .filter(is_left)
            .map(|member| member.pid)
            .collect();
        if left.is_empty() {
            return;
        }
        let registered = self.ready.pids();
        left.retain(|pid| !registered.contains(pid));
        if left.is_empty() {
            return;
        }
        // This fails only for what is no signal.
        let _ = raise(Signal::SIGCHLD);
        self.was_left.retain(|pid| server.member_of(*pid).is_some());
        self.was_left.extend(&left);
        (self.left, self.left_since) = (left, Instant::now());
    }

    /// Does the same at the end of the body, for all children that were never seen registered: a runtime that is no
    /// sim's may have been in the way. Returns whether there are any. Children that tokio was never asked for are later
    /// found to be left behind.
    pub(super) fn have_tokio_reap_unseen(&mut self, server: &Server) -> bool {
        if !may_have_left(server, &self.registered) {
            return false;
        }
        // If they cannot be listed, the end of the sim says so.
        let mut left = self.children.list().unwrap_or_default();
        left.retain(|pid| {
            let is_known = self.before.contains(pid) || self.was_left.contains(pid);
            !is_known && is_zombie(*pid)
        });
        if left.is_empty() {
            return false;
        }
        self.was_left.extend(&left);
        (self.left, self.left_since) = (left, Instant::now());
        true
    }

    /// Waits a little until tokio has reaped those in `left`, if another sim's runtime is at it: the runtimes all reap
    /// for each other. If two of them look at once, tokio may miss a child, and has to look again.
    pub(super) fn await_reaps(&mut self, server: &Server) {
        let is_zombie = |pid: &u32| match server.member_of(*pid) {
            Some(member) => member.death().is_some_and(|death| !death.is_reaped),
            None => is_zombie(*pid),
        };
        let begun = Instant::now();
        while !self.left.is_empty() && begun.elapsed() < PATIENCE {
            self.left.retain(is_zombie);
            std::thread::yield_now();
        }
        if self.left_since.elapsed() > REAPING {
            self.left.clear();
        }
    }
}

/// Whether a child has ended that the code under test may have dropped before the gate saw it registered with tokio.
/// The gate looks after the registered children one by one.
pub(super) fn may_have_left(server: &Server, registered: &HashSet<u32>) -> bool {
    let is_unseen = |member: &Member| member.is_child && !registered.contains(&member.pid);
    server.has_dead_strangers() || server.zombies().any(is_unseen)
}
