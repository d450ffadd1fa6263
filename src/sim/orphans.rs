//! Processes of the code under test that are in no tree below this process: those that lost their parents, as what
//! `sh -c 'agent | cat &'` starts, and what a program had started before it became an agent, as in
//! `sh -c 'job & exec agent'`.

use std::collections::HashSet;

use super::mark::Mark;
use crate::agent::parent_and_start;
use crate::leaks::Unreadable;

#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// Those that live. Some may be agents by now.
    left: HashSet<u32>,
    /// The processes that were no agents at the last look.
    before: HashSet<u32>,
}

impl Orphans {
    /// Looks for more of them where one that was no agent is gone: those who have the mark. `there` are those that
    /// are no agents and can be reached, now. `is_known` tells agents, and what is none of the sim's. True where
    /// there are more.
    pub(crate) fn look(
        &mut self,
        mark: Option<&Mark>,
        there: HashSet<u32>,
        has_ended: bool,
        is_known: &impl Fn(u32) -> bool,
    ) -> Result<bool, Unreadable> {
        let count = self.left.len();
        let is_gone = |pid: &u32| !there.contains(pid) && !is_known(*pid);
        if let Some(mark) = mark
            && (has_ended || self.before.iter().any(is_gone))
        {
            for one in mark.processes()? {
                let is_other = |pid: u32| !is_known(pid) && !there.contains(&pid);
                // What an agent starts it tells itself.
                let is_left = |parent: u32| parent != std::process::id() && is_other(parent);
                if is_other(one.pid)
                    && parent_and_start(one.pid).is_some_and(|(parent, _)| is_left(parent))
                {
                    self.add(one.pid);
                }
            }
        }
        self.before = there;
        Ok(self.left.len() > count)
    }

    /// A process is one of them.
    pub(crate) fn add(&mut self, pid: u32) {
        self.left.insert(pid);
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        !self.left.is_empty()
    }

    /// Their process ids, of those that live and are no agents.
    pub(crate) fn living(&mut self, is_over: impl Fn(u32) -> bool) -> Vec<u32> {
        self.left.retain(|pid| !is_over(*pid));
        let mut living: Vec<u32> = self.left.iter().copied().collect();
        living.sort_unstable();
        living
    }
}
