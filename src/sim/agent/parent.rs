//! The parent of a run that is no child of this process, such as a shell. The parent reaps the run.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::pidfd::{ended_status, open_pidfd, reaped_status};
use crate::status::ExitStatus;

/// The process that reaps a run.
#[derive(Debug)]
pub(crate) enum Parent {
    /// This process: the run is its child. Also for descendants and without the gate, where no parent is
    /// looked up.
    This,
    /// Another process that the code under test has started: its pidfd and its process id.
    Other(OwnedFd, u32),
    /// Init, or another process that takes in orphans. It reaps the run when it pleases.
    Init,
}

impl Parent {
    /// The parent of the run with the process id `pid`, which is no child of this process.
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

    pub(super) fn is_dead(&self) -> bool {
        let Parent::Other(pidfd, _) = self else {
            return false;
        };
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Whether this parent counts as the one that reaped a run which is reaped now. It does not if that is a
    /// matter of chance:
    ///
    /// - A parent that was killed together with its run may still have reaped the run, or not.
    /// - A parent that ends with what it reads, such as a shell with a loop around `read`, may not have
    ///   reaped the run: the run closes its output before the parent is told of the run's end.
    ///
    /// `readers` are the processes that were reading when all were last at rest.
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

/// Whether the process `pid` is `ancestor` or descends from it.
fn descends_from(mut pid: u32, ancestor: u32) -> bool {
    while pid != ancestor {
        match parent_and_start(pid) {
            Some((parent, _)) if parent != 0 => pid = parent,
            _ => return false,
        }
    }
    true
}

/// The parent of a process, and when the process started, in the kernel's clock ticks.
pub(crate) fn parent_and_start(pid: u32) -> Option<(u32, u64)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // What follows the program's name in parentheses begins with the third field. These are the 4th and the
    // 22nd.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    let parent = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((parent, start))
}
