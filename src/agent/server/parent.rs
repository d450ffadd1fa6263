//! The parent of a run that is no child of this process, such as a shell: who reaps the run.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::Server;
use crate::process::{ended_status, open_pidfd, reaped_status};
use crate::status::ExitStatus;

/// Whoever reaps a run.
#[derive(Debug)]
pub(crate) enum Parent {
    /// This process: the run is its child.
    This,
    /// Another process that the code under test has started, and its process id.
    Other(OwnedFd, u32),
    /// Init, or whoever takes in orphans: when it reaps the run, it pleases itself.
    Init,
}

impl Parent {
    /// That of a run that is no child of this process, whose process id is that.
    pub(super) fn of(pid: u32) -> Parent {
        let parent = parent_and_start(pid).map(|(parent, _)| parent);
        let is_ours = |parent: &u32| descends_from(*parent, std::process::id());
        let other = |pid| Some(Parent::Other(open_pidfd(pid).ok()?, pid));
        parent
            .filter(is_ours)
            .and_then(other)
            .unwrap_or(Parent::Init)
    }

    pub(super) fn is_this(&self) -> bool {
        matches!(self, Parent::This)
    }

    fn is_dead(&self) -> bool {
        let Parent::Other(pidfd, _) = self else {
            return false;
        };
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Whether it counts as the one that reaped a run which is reaped now. Of two that are killed together, a parent
    /// may still get to that, or not. Nor is it sure of one that ends with what it reads, as a shell in a loop of its
    /// `read`: the run closes that before its parent is told of its end. `readers` are those that read at last.
    pub(super) fn has_reaped(&self, readers: &HashSet<u32>) -> bool {
        match self {
            Parent::This => true,
            Parent::Other(_, pid) if self.is_dead() && readers.contains(pid) => false,
            Parent::Other(pidfd, _) if self.is_dead() => {
                let pidfd = pidfd.as_fd();
                let status = ended_status(pidfd).or_else(|| reaped_status(pidfd));
                !matches!(status, Some(ExitStatus::Signaled { .. }))
            }
            Parent::Other(..) => true,
            Parent::Init => false,
        }
    }
}

impl Server {
    /// Whether a run has ended whose parent, which is another process than this, is still to reap it.
    pub(crate) fn awaits_reap_by_others(&self) -> bool {
        let is_others = |member: &usize| matches!(self.members[*member].parent, Parent::Other(..));
        self.zombies.iter().any(is_others)
    }

    /// Takes note of children of this process that were reaped in this turn of the code under test, as a thread of
    /// its own does before it starts the next.
    pub(crate) fn see_reaped(&mut self) {
        let is_reaped = |&member: &usize| {
            let this = &self.members[member];
            this.parent.is_this() && this.death().is_some_and(|death| death.is_reaped)
        };
        let zombies = self.zombies.iter().copied();
        for member in zombies.filter(is_reaped).collect::<Vec<_>>() {
            self.reap(member);
        }
    }

    /// Takes note of which processes that are no agents read, at rest.
    pub(crate) fn see_readers(&mut self, readers: HashSet<u32>) {
        self.readers = readers;
    }

    /// Takes note of what became of runs that are no children of this process: which were reaped, and which their
    /// parent has left. To be asked where all are at rest, so that a parent that ends with its run has ended.
    pub(crate) fn look_at_parents(&mut self) {
        for member in std::mem::take(&mut self.reaped_by_others) {
            self.reap(member);
        }
        for &member in &self.alive {
            let parent = &mut self.members[member].parent;
            if parent.is_dead() {
                *parent = Parent::Init;
            }
        }
    }
}

/// Whether a process is that one, or below it.
fn descends_from(mut pid: u32, ancestor: u32) -> bool {
    while pid != ancestor {
        match parent_and_start(pid) {
            Some((parent, _)) if parent != 0 => pid = parent,
            _ => return false,
        }
    }
    true
}

/// A process's parent, and when it started, in the kernel's ticks.
pub(crate) fn parent_and_start(pid: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // After the program's name in parentheses, from the third field: the 4th and the 22nd.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
}
