//! Processes of the code under test that the gate does not find on its way down from the sim's children:
//!
//! - processes that lost their parents, as those that `sh -c 'agent | cat &'` starts;
//! - processes that a program had started before it became an agent, as in `sh -c 'job & exec agent'`.

use std::collections::HashSet;

use super::mark::Mark;
use crate::leaks::Unreadable;
use crate::sim::agent::parent_and_start;

#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// The orphans that live. Some may be agents by now.
    left: HashSet<u32>,
    /// The processes that were no agents at the last look.
    before: HashSet<u32>,
}

impl Orphans {
    /// Looks for more orphans if a process that was no agent is gone: it takes the processes that have the mark.
    /// `there` are the processes that are no agents and can be reached now. `has_ended` says that such a process was
    /// seen to have ended. `is_known` is true for agents, and for processes that do not belong to the sim. Returns true
    /// if there are more orphans.
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
                // An agent itself tells what it starts, so its children are no orphans.
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

    /// Adds a process to the orphans.
    pub(crate) fn add(&mut self, pid: u32) {
        self.left.insert(pid);
    }

    /// Whether there are any orphans.
    pub(crate) fn are_there(&self) -> bool {
        !self.left.is_empty()
    }

    /// Forgets the orphans that `is_over` is true for: they have ended, or are agents. Returns the process ids of the
    /// others, in ascending order.
    pub(crate) fn living(&mut self, is_over: impl Fn(u32) -> bool) -> Vec<u32> {
        self.left.retain(|pid| !is_over(*pid));
        let mut living: Vec<u32> = self.left.iter().copied().collect();
        living.sort_unstable();
        living
    }
}
