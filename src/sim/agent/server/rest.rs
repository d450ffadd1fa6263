//! Which members are at rest, which are blocked, and which go on after a stop.

use super::state::Server;
use crate::sim::agent::member::{KernelState, Member};
use crate::timeline::EventKind;

impl Server {
    /// Whether a run has come to rest for the first time, is blocked, or has ended. Always true without the
    /// gate.
    pub(crate) fn has_started(&self, member: usize) -> bool {
        let member = &self.members[member];
        !self.is_gated || member.has_rested || member.is_blocked_said || !member.is_alive()
    }

    /// Records which members are blocked, now that nothing else goes on. Returns whether one of them was not
    /// blocked before.
    pub(crate) fn see_blocked(&mut self) -> bool {
        let mut any = false;
        for member in self.alive.iter().copied().collect::<Vec<_>>() {
            // The stream has room again, and the member goes on in its turn.
            if self.turns.has_due(self.now, member) {
                continue;
            }
            let this = &mut self.members[member];
            if let Some(stream) = this.blocked
                && !std::mem::replace(&mut this.is_blocked_said, true)
            {
                any = true;
                self.record_of(member, EventKind::Blocked { stream });
            }
        }
        any
    }

    /// Records which members go on after they were frozen, now that all are at rest. Members that were
    /// stopped again or killed together with the SIGCONT are left out: whether they still said that they go
    /// on is a matter of chance. Returns whether any member goes on.
    pub(crate) fn see_thawed(&mut self) -> bool {
        let has_thawed = |(place, member): (usize, &Member)| {
            let goes_on = || member.kernel_state() != KernelState::Stopped;
            (member.has_thawed && goes_on()).then_some(place)
        };
        let thawed: Vec<usize> = self.alive().filter_map(has_thawed).collect();
        for &member in &thawed {
            self.members[member].has_thawed = false;
            self.record_of(member, EventKind::Thawed);
        }
        !thawed.is_empty()
    }

    /// Whether a member waits for room in a stream. Whoever reads or closes that stream wakes the member.
    pub(crate) fn has_blocked(&self) -> bool {
        let mut alive = self.alive();
        alive.any(|(_, member)| member.blocked.is_some())
    }

    /// Marks the members that have come to rest for the first time: they count as started. Returns whether
    /// there are any.
    pub(crate) fn see_rest(&mut self) -> bool {
        let before = self.progress;
        for member in self.alive.iter().copied().collect::<Vec<_>>() {
            let this = &self.members[member];
            if this.has_rested || !this.was_told || this.blocked.is_some() {
                continue;
            }
            let is_stopped = || this.kernel_state() == KernelState::Stopped;
            let is_at_rest = this.says_it_rests();
            if is_stopped() || is_at_rest && !self.turns.has_due(self.now, member) {
                self.members[member].has_rested = true;
                self.progress += 1;
            }
        }
        self.progress != before
    }
}
