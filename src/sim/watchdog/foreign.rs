//! The processes of a sim that are no agents, as the watchdog finds them.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use super::watched::{LOCKED_AGAIN, Watched};
use crate::pidfd::{ended_status, open_pidfd, send_signal};
use crate::sim::agent::parent_and_start;
use agent_stub::Signal;

impl Watched {
    pub(super) fn kill_foreign(&self) {
        self.each_foreign(|_, pidfd| {
            // This fails only if there is nothing left to kill.
            let _ = send_signal(pidfd, Some(Signal::KILL));
        });
    }

    /// The children of the sim's threads.
    fn children(&self) -> HashSet<u32> {
        let mut children: HashSet<u32> = self
            .children
            .list()
            .unwrap_or_default()
            .into_iter()
            .collect();
        children.extend(self.pool.children().iter().map(|child| child.pid));
        children
    }

    /// Shows `each` the running children of the sim's threads that are no agents, and the other processes that have
    /// held up time. It shows one after the other: there may be a single descriptor to look at them with.
    pub(super) fn each_foreign(&self, mut each: impl FnMut(u32, BorrowedFd<'_>)) {
        let children = self.children();
        let mut all: Vec<(u32, Option<u64>)> = children.iter().map(|pid| (*pid, None)).collect();
        let busy = self.sight.busy().into_iter();
        let others = busy.filter(|(pid, _)| !children.contains(pid));
        all.extend(others.map(|(pid, start)| (pid, Some(start))));
        for (pid, start) in all {
            let server = self.shared.lock_within(LOCKED_AGAIN);
            let is_agent = server.is_some_and(|server| server.member_of(pid).is_some());
            if is_agent || self.before.contains(&pid) {
                continue;
            }
            // A process that is still a child was one when its pidfd was opened. Of the others, the start says whether
            // the number is still theirs.
            let is_it = || match start {
                None => self.children().contains(&pid),
                Some(_) => parent_and_start(pid).map(|(_, start)| start) == start,
            };
            if let Ok(pidfd) = open_pidfd(pid)
                && ended_status(pidfd.as_fd()).is_none()
                && is_it()
            {
                each(pid, pidfd.as_fd());
            }
        }
    }
}
