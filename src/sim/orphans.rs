//! Processes of the code under test that lost their parents before they said hello, as `sh -c 'agent & true'` leaves
//! one: nobody's children here, and about to be agents.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::children;
use super::mark::Mark;
use super::patience::Patience;
use crate::agent::parent_and_start;
use crate::leaks::Unreadable;

/// real-time: how long time stands still for one of them. It may have anything to do before it says hello, and it may
/// never say it.
const HELLO: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(crate) struct Orphans {
    /// Those that may still become agents, and how long they are waited for.
    left: HashMap<u32, Patience>,
    /// The processes that were no agents at the last look.
    before: HashSet<u32>,
}

impl Orphans {
    /// Looks for more of them where one that was no agent is gone: those who have the mark. `there` are those that
    /// are no agents and have a parent, now. `is_known` tells agents, and what is none of the sim's.
    pub(crate) fn look(
        &mut self,
        mark: Option<&Mark>,
        there: HashSet<u32>,
        has_ended: bool,
        is_known: &impl Fn(u32) -> bool,
    ) -> Result<(), Unreadable> {
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
                    self.left.entry(one.pid).or_default();
                }
            }
        }
        self.before = there;
        Ok(())
    }

    /// Whether there are any.
    pub(crate) fn are_there(&self) -> bool {
        !self.left.is_empty()
    }

    /// Whether one of them is about to be an agent: `address` is the word that those have in their arguments.
    pub(crate) fn begin(&mut self, address: &str, is_known: &impl Fn(u32) -> bool) -> bool {
        let mut begin = false;
        self.left.retain(|&pid, patience| {
            let folder = format!("/proc/{pid}");
            let state = children::state(&folder);
            if is_known(pid) || matches!(state, None | Some('Z' | 'X')) {
                return false;
            }
            let is_awake = state != Some('S');
            let running = if is_awake { &[pid][..] } else { &[] };
            // While it is forked it has its parent's words, in which the address may be a part of one.
            let has_address = || {
                let words = children::contents(&format!("{folder}/cmdline")).unwrap_or_default();
                let address = address.as_bytes();
                words.is_empty() && is_awake
                    || words.windows(address.len()).any(|part| part == address)
            };
            begin |= !patience.is_over(HELLO, running) && has_address();
            true
        });
        begin
    }
}
