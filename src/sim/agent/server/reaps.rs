//! Which of the runs that have ended were reaped, by this process or by another.

use std::collections::HashSet;

use super::state::Server;
use crate::sim::agent::parent::Parent;

impl Server {
    /// Whether a run has ended that its parent, which is another process than this one, has still to reap.
    pub(crate) fn awaits_reap_by_others(&self) -> bool {
        let is_others = |member: &usize| matches!(self.members[*member].parent, Parent::Other(..));
        self.zombies.iter().any(is_others)
    }

    /// Records the children of this process that were reaped in this turn of the code under test. A thread of
    /// that code may reap one child and then start the next in the same turn.
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

    /// Remembers which processes that are no agents read, now that all are at rest.
    pub(crate) fn see_readers(&mut self, readers: HashSet<u32>) {
        self.readers = readers;
    }

    /// Looks what became of the runs that are no children of this process: which were reaped, and which have
    /// lost their parent. Call it when all are at rest, so that a parent that ends with its run has ended.
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
