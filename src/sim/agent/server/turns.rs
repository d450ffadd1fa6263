//! Decides who acts next. What the clock or the test lets happen, happens one at a time.

use std::collections::BTreeMap;

use agent_stub::protocol::Order;

use crate::sim::agent::rank::Rank;
use crate::timestamp::Timestamp;

/// Why a process may act. Of the turns that are due at one instant, the one with the first of these
/// reasons comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// The test told it to. The number puts these orders in the order in which the test gave them.
    Told(u64),
    /// A signal came. As in the kernel, this comes before what the process does by itself.
    Signal,
    /// Its script comes to something that others can see, or one of its waits is over.
    Script,
}

/// A turn: which member may act, and from when on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Timestamp,
    reason: Reason,
    rank: Rank,
    /// The number of the wait or of the turn; 0 for a script or an order of the test.
    id: u64,
    member: usize,
}

/// The turns that wait to be granted.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    waiting: BTreeMap<Turn, Order>,
    /// How many orders the test has given.
    told: u64,
}

impl Turns {
    /// Adds the turn that the member has when its wait is over, at `at`.
    pub(super) fn wait(&mut self, at: Timestamp, rank: Rank, member: usize, id: u64) {
        self.add(at, Reason::Script, rank, member, id, Order::Go(id));
    }

    /// Adds the turn that the member asks for.
    pub(super) fn ask(&mut self, now: Timestamp, rank: Rank, member: usize, id: u64, signal: bool) {
        let reason = if signal {
            Reason::Signal
        } else {
            Reason::Script
        };
        self.add(now, reason, rank, member, id, Order::Go(id));
    }

    /// Adds the turn in which the member begins its script.
    pub(super) fn begin(&mut self, now: Timestamp, rank: Rank, member: usize, script: Order) {
        self.add(now, Reason::Script, rank, member, 0, script);
    }

    /// Adds the turn in which the member obeys an order of the test.
    pub(super) fn tell(&mut self, now: Timestamp, rank: Rank, member: usize, order: Order) {
        self.told += 1;
        self.add(now, Reason::Told(self.told), rank, member, 0, order);
    }

    fn add(
        &mut self,
        at: Timestamp,
        reason: Reason,
        rank: Rank,
        member: usize,
        id: u64,
        order: Order,
    ) {
        let turn = Turn {
            at,
            reason,
            rank,
            id,
            member,
        };
        self.waiting.insert(turn, order);
    }

    /// Takes out the next turn that is due, to grant it. A member that cannot act, because it is stopped,
    /// has its turn later.
    pub(super) fn next(
        &mut self,
        now: Timestamp,
        can_act: impl Fn(usize) -> bool,
    ) -> Option<(usize, Order)> {
        let mut due = self.waiting.keys().take_while(|turn| turn.at <= now);
        let turn = due.find(|turn| can_act(turn.member))?.clone();
        let order = self.waiting.remove(&turn)?;
        Some((turn.member, order))
    }

    /// Whether the next turn that is due brings a script: that of a new run, or one that the test has
    /// sent.
    pub(super) fn next_begins(&self, now: Timestamp) -> bool {
        let first = self.waiting.first_key_value();
        first.is_some_and(|(turn, order)| turn.at <= now && matches!(order, Order::Do(_)))
    }

    /// The member that has the next turn.
    pub(super) fn first(&self) -> Option<usize> {
        self.waiting.keys().next().map(|turn| turn.member)
    }

    /// The earliest instant after `now` at which a turn is due.
    pub(super) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let mut later = self.waiting.keys().map(|turn| turn.at);
        later.find(|at| *at > now)
    }

    /// Whether the member has a turn that is due and was not granted yet.
    pub(super) fn has_due(&self, now: Timestamp, member: usize) -> bool {
        let mut due = self.waiting.keys().take_while(|turn| turn.at <= now);
        due.any(|turn| turn.member == member)
    }

    /// Drops the turns of a member that has ended.
    pub(super) fn forget(&mut self, member: usize) {
        self.waiting.retain(|turn, _| turn.member != member);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn rank(agent: usize, path: &[u32]) -> Rank {
        Rank {
            agent,
            run: 1,
            path: path.to_vec(),
        }
    }

    fn order(turns: &mut Turns, now: Timestamp) -> Vec<usize> {
        std::iter::from_fn(|| turns.next(now, |_| true).map(|(member, _)| member)).collect()
    }

    #[test]
    fn at_one_instant_orders_come_first_then_signals_then_scripts_by_rank() {
        let now = Timestamp::ORIGIN;
        let mut turns = Turns::default();
        turns.ask(now, rank(0, &[2]), 1, 1, false);
        turns.ask(now, rank(0, &[1, 7]), 2, 1, false);
        turns.ask(now, rank(0, &[]), 3, 9, false);
        turns.wait(now, rank(0, &[]), 4, 8);
        turns.ask(now, rank(1, &[]), 5, 1, true);
        turns.tell(now, rank(1, &[]), 6, Order::Go(0));
        turns.tell(now, rank(0, &[]), 7, Order::Go(0));
        assert_eq!(order(&mut turns, now), [6, 7, 5, 4, 3, 2, 1]);
    }

    #[test]
    fn who_cannot_act_has_its_turn_when_it_can() {
        let now = Timestamp::ORIGIN;
        let mut turns = Turns::default();
        turns.wait(now, rank(0, &[]), 1, 1);
        turns.wait(now, rank(1, &[]), 2, 1);
        assert_eq!(turns.next(now, |member| member != 1).unwrap().0, 2);
        assert!(turns.next(now, |member| member != 1).is_none());
        assert_eq!(order(&mut turns, now), [1]);
    }

    #[test]
    fn what_is_due_later_waits_and_what_has_ended_is_forgotten() {
        let later = Timestamp::ORIGIN + Duration::from_secs(1);
        let mut turns = Turns::default();
        turns.wait(later, rank(0, &[]), 0, 1);
        turns.ask(Timestamp::ORIGIN, rank(1, &[]), 1, 1, false);
        assert!(turns.has_due(Timestamp::ORIGIN, 1) && !turns.has_due(Timestamp::ORIGIN, 0));
        turns.forget(1);
        assert_eq!(order(&mut turns, Timestamp::ORIGIN), [0; 0]);
        assert_eq!(turns.next_after(Timestamp::ORIGIN), Some(later));
        assert_eq!(order(&mut turns, later), [0]);
    }
}
