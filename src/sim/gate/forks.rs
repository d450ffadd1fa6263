//! The forks of others: of the other sims, and of threads that are not the sim's.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use super::at_work::AtWork;
use super::blindness::{UNKNOWN_CHILD, blind};
use super::exec::{closes, is_unexeced, starts};
use super::limits::EXEC;
use super::state::Gate;
use crate::sim::agent::Server;
use crate::sim::children::{self, has_no_words, is_zombie};
use crate::sim::starved::Waited;

impl Gate {
    /// Whether another sim has forked a child that has not got through its exec. Until then the child holds a copy of
    /// every descriptor of this process, and a pipe of this sim does not end.
    ///
    /// A child that is forked while nothing happens in this sim does not matter any more: no pipe was made meanwhile.
    /// So sims that fork all the time hold up nobody.
    pub(super) fn others_fork(
        &mut self,
        turn: u64,
        happened: (u64, Vec<u32>),
    ) -> Result<bool, String> {
        if self.at_work_in != turn {
            self.at_work.clear();
            self.at_work_in = turn;
        }
        // A fork that was on its way may still hold what the body has closed meanwhile.
        let is_seen = self.looked_at.as_ref() == Some(&happened) && !self.has_run;
        if is_seen && self.at_work.is_empty() {
            let mut left = HashMap::new();
            for (pid, mut waited) in std::mem::take(&mut self.forked) {
                let is_over = waited.for_these(&[pid]) >= EXEC;
                if !is_over && (starts(pid)? || closes(&mut self.exec_ends, pid)) {
                    left.insert(pid, waited);
                }
            }
            self.forked = left;
            return Ok(!self.forked.is_empty());
        }
        let sims = children::other_sims();
        self.execed
            .retain(|thread, _| sims.iter().any(|(other, _)| other == thread));
        self.forked.clear();
        let (mut is_one_at_work, mut has_streams) = (false, None);
        for (thread, sight) in sims {
            // In this order: what the other sim forks after it was seen at rest has none of this sim's pipes.
            let is_parked = sight.is_parked.load(Ordering::Acquire);
            let parks = sight.parks.load(Ordering::Acquire);
            let (execed, clear_at) = self.execed.entry(thread).or_default();
            if is_parked && *clear_at == Some(parks) {
                self.at_work.remove(&thread);
                continue;
            }
            // A fork copies the descriptors before its child can be seen.
            let may_fork = sight.runs_code.load(Ordering::Acquire) && !children::is_quiet(thread);
            if may_fork && *has_streams.get_or_insert_with(|| self.ready.has_streams()) {
                let now = AtWork::now(thread, &sight);
                let since = self.at_work.entry(thread).or_insert_with(|| now.clone());
                if !since.has_gone_on(&now) {
                    is_one_at_work = true;
                    continue;
                }
            }
            let children = children::of_busy_thread(thread)
                .map_err(blind("the children of another sim cannot be listed"))?
                .unwrap_or_default();
            execed.retain(|pid| children.contains(pid));
            let mut is_clear = true;
            for pid in children {
                if execed.contains(&pid) {
                    continue;
                }
                if starts(pid)? || closes(&mut self.exec_ends, pid) {
                    self.forked.insert(pid, Waited::default());
                    is_clear = false;
                } else {
                    execed.insert(pid);
                }
            }
            *clear_at = (is_clear && is_parked).then_some(parks);
        }
        if !is_one_at_work {
            self.at_work.clear();
        }
        let forked = &self.forked;
        self.exec_ends.retain(|pid, _| forked.contains_key(pid));
        self.looked_at = Some(happened);
        Ok(is_one_at_work || !self.forked.is_empty())
    }

    /// Whether a thread that the code under test has not started, but may use, has forked an agent that has not said
    /// hello.
    pub(super) fn others_start_agents(
        &mut self,
        server: &Server,
        children: &[u32],
    ) -> Result<bool, String> {
        self.strangers.retain(|pid| children.contains(pid));
        self.unexeced.retain(|pid, _| children.contains(pid));
        for &pid in children {
            let is_known = server.member_of(pid).is_some() || server.has_said_hello(pid);
            if is_known || self.strangers.contains(&pid) {
                continue;
            }
            // Asked in the order in which an exec goes on, which it may do meanwhile.
            let is_unexeced = is_unexeced(pid);
            if is_unexeced && self.unexeced.entry(pid).or_default().for_these(&[pid]) < EXEC {
                return Ok(true);
            }
            let execs = has_no_words(pid).map_err(blind(UNKNOWN_CHILD))?;
            let address = server.address();
            if execs || children::mentions(pid, address).map_err(blind(UNKNOWN_CHILD))? {
                // A zombie among them is not about to say anything any more.
                if !is_zombie(pid) {
                    return Ok(true);
                }
            } else if !is_unexeced {
                self.strangers.insert(pid);
            }
        }
        Ok(false)
    }
}
