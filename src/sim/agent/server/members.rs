//! The members: which are there, which live, and which have ended.

use agent_stub::Signal;

use super::state::Server;
use crate::sim::agent::member::Member;
use crate::timestamp::Timestamp;

impl Server {
    /// Whether a process with this number is or was a member: it has said hello, or a supervisor has said
    /// that it started this process.
    pub(crate) fn knows(&self, pid: u32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// The last member that had this process id.
    pub(crate) fn last_of(&self, pid: u32) -> Option<&Member> {
        self.by_pid.get(&pid).map(|&member| &self.members[member])
    }

    /// The member with this process id, if it lives or is a zombie.
    pub(crate) fn member_of(&self, pid: u32) -> Option<&Member> {
        self.last_of(pid).filter(|member| !member.reaped)
    }

    /// The name that the kernel gives to a process that runs the agents' program.
    pub(crate) fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// The members that have not ended, each with its index in `members`.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.alive
            .iter()
            .map(|&member| (member, &self.members[member]))
    }

    /// Whether a process of the sim is left, or may still say hello.
    pub(crate) fn has_left(&mut self) -> bool {
        !self.alive.is_empty() || self.zombies().next().is_some() || self.expects_hello()
    }

    /// The runs that have ended and that somebody still has to reap. Descendants are left out.
    pub(crate) fn zombies(&self) -> impl Iterator<Item = &Member> {
        self.zombies
            .iter()
            .map(|&member| &self.members[member])
            .filter(|member| !member.is_descendant)
    }

    /// Whether the process with this number had ended before this turn of the code under test, and nobody has
    /// reaped it. An end in this turn does not count, even if it was taken in already: the watchdog takes in
    /// ends, too.
    pub(crate) fn had_ended(&self, pid: u32) -> bool {
        let is_earlier = |member: &Member| !self.is_gated || member.ended_in < self.turns_of_code;
        self.dead_strangers.contains(&pid)
            || self
                .zombies()
                .any(|member| member.pid == pid && is_earlier(member))
    }

    /// The signals that a run has trapped so far.
    pub(crate) fn signals(&self, member: usize) -> Vec<(Signal, u64, Timestamp)> {
        self.members[member].signals.clone()
    }
}
