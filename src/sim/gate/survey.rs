//! The survey: who of the sim is at work, told with as few looks as will do.

use std::sync::PoisonError;

use super::rest::agents_are_at_work;
use super::state::Gate;
use super::suspects::{Beside, Suspects};
use crate::sim::agent::Server;

/// Who is at work.
pub(super) enum Survey {
    /// An agent: it comes to rest by itself.
    Agent,
    /// A process that is about to be an agent, or is dying.
    Start,
    /// A process was taken in just now.
    Welcomed,
    /// A thread of the code under test.
    Thread,
    /// Something that is no agent, or that cannot be seen.
    Other,
    /// Nobody.
    Nobody,
}

/// How many threads this process has, if that can be told, and the children of the sim's thread.
pub(super) type Listed = (Option<u64>, Vec<u32>);

impl Gate {
    /// Looks at every process of the sim. Something that cannot be seen may be at work.
    pub(super) fn survey(
        &mut self,
        server: &mut Server,
        suspects: Suspects,
        beside: Beside,
    ) -> Survey {
        let mut listed = None;
        let is_short = match beside {
            Beside::All => false,
            Beside::New => {
                listed = self.children.list_with_threads().ok();
                let has_started = |listed| self.has_started_others(server, listed);
                !listed.as_ref().is_none_or(has_started)
            }
            Beside::Nothing => true,
        };
        let nobody_comes =
            || server.silent_strangers().is_empty() && server.hellos().next().is_none();
        if is_short && !self.has_others && nobody_comes() {
            self.saw_all = false;
            // The process's first thread is told if a child has died, or if the body has sent a signal to its own
            // process.
            let may_be_told = match suspects {
                Suspects::All => true,
                Suspects::One(member) => !server.members[member].is_alive(),
                Suspects::Nobody => false,
            };
            return if agents_are_at_work(server) {
                Survey::Agent
            } else if may_be_told && self.threads.leader_is_at_work() {
                self.foreigners.running = vec![std::process::id()];
                Survey::Thread
            } else {
                Survey::Nobody
            };
        }
        self.saw_all = true;
        let seen = self.look(server, listed);
        let mut blind = self
            .sight
            .blind
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match seen {
            Ok(survey) => {
                *blind = None;
                survey
            }
            Err(why) => {
                self.has_others = true;
                *blind = Some(why);
                Survey::Other
            }
        }
    }

    /// Whether there may be threads or processes that are no agents and were not there at the last look.
    fn has_started_others(&self, server: &Server, (threads, children): &Listed) -> bool {
        let is_known = |pid: &u32| self.before.contains(pid) || server.member_of(*pid).is_some();
        *threads != self.threads_seen || !children.iter().all(is_known)
    }
}
