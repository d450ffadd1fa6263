//! The place of a descriptor in the order of the processes.

use std::os::fd::RawFd;

use super::state::Server;
use crate::pidfd::pid_of_pidfd;
use crate::sim::agent::rank::Rank;

/// Where a descriptor stands in the order of the processes. Tokio gets the events of ready descriptors in
/// this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A descriptor that belongs to no process of the sim, by its number.
    Other(RawFd),
    /// The end of a process that is no member, by its process id.
    Stranger(u32),
    /// A member's standard output (0), its standard error (1), or its end (`PIDFD`).
    Member(Rank, u8),
}

/// The end of a member comes after its standard output and standard error.
const PIDFD: u8 = 2;

impl Server {
    /// The place of a descriptor of this process in the order of the processes. The descriptor may be a pidfd
    /// of a process, or a pipe that a process of the sim writes to. Any other descriptor comes first. Then
    /// come processes that are no members, by process id, which is the order in which they were started.
    /// Members come last, by their rank.
    pub(crate) fn place_of(&self, descriptor: RawFd) -> Place {
        let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap_or_default();
        if link.as_os_str() != "anon_inode:[pidfd]" {
            return match self.streams.get(link.as_path()) {
                Some((rank, stream)) => Place::Member(rank.clone(), *stream),
                None => Place::Other(descriptor),
            };
        }
        let pid = pid_of_pidfd(descriptor).unwrap_or(0);
        match self.by_pid.get(&pid) {
            Some(&member) => Place::Member(self.members[member].rank(), PIDFD),
            None => Place::Stranger(pid),
        }
    }

    /// The places of the ends of this process's children that have ended since tokio last looked for events.
    pub(crate) fn ended_since_the_last_look(&self) -> Vec<Place> {
        let members = self.actors.iter().map(|&member| &self.members[member]);
        let ended =
            members.filter(|member| member.is_child && !member.is_alive() && !member.reaped);
        let ends = ended.map(|member| Place::Member(member.rank(), PIDFD));
        let strangers = self.strange_deaths.iter().map(|&pid| Place::Stranger(pid));
        ends.chain(strangers).collect()
    }
}
