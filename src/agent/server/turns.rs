//! Who acts next: what the clock or the test lets happen, one at a time.

use std::collections::BTreeMap;

use agent_stub::protocol::Order;

use crate::Timestamp;

/// Where a process stands among those of the sim: by agent, by run, and then by who started whom. It
/// comes from the script and the code under test, never from who was faster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// The agent's place.
    pub(crate) agent: usize,
    pub(crate) run: u32,
    /// For which time each of its ancestors, from the run on, started the next; empty for the run.
    pub(crate) path: Vec<u32>,
}

/// Why a process may act. Of what is due at one instant, the first comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// The test told it to: in the order in which it did.
    Told(u64),
    /// A signal came: as in the kernel, before what it does by itself.
    Signal,
    /// Its script comes to something that others can see, or a wait of it is over.
    Script,
}

/// A turn: who may act from when on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    at: Timestamp,
    reason: Reason,
    rank: Rank,
    /// The number of the wait or of the turn; 0 for what is told.
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
    /// A wait of the member is over then.
    pub(super) fn wait(&mut self, at: Timestamp, rank: Rank, member: usize, id: u64) {
        self.add(at, Reason::Script, rank, member, id, Order::Go(id));
    }

    /// The member asks to act.
    pub(super) fn ask(&mut self, now: Timestamp, rank: Rank, member: usize, id: u64, signal: bool) {
        let reason = if signal {
            Reason::Signal
        } else {
            Reason::Script
        };
        self.add(now, reason, rank, member, id, Order::Go(id));
    }

    /// The member begins its script.
    pub(super) fn begin(&mut self, now: Timestamp, rank: Rank, member: usize, script: Order) {
        self.add(now, Reason::Script, rank, member, 0, script);
    }

    /// The test tells the member to do something.
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

    /// The next turn that is due, which is granted. Who cannot act, as it is stopped, has its turn later.
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

    /// Whether the next turn that is due is the first of its member.
    pub(super) fn next_begins(&self, now: Timestamp) -> bool {
        let first = self.waiting.first_key_value();
        first.is_some_and(|(turn, order)| turn.at <= now && matches!(order, Order::Do(_)))
    }

    /// Who has the next turn.
    pub(super) fn first(&self) -> Option<usize> {
        self.waiting.keys().next().map(|turn| turn.member)
    }

    /// When the earliest turn is due that is still to come.
    pub(super) fn next_after(&self, now: Timestamp) -> Option<Timestamp> {
        let mut later = self.waiting.keys().map(|turn| turn.at);
        later.find(|at| *at > now)
    }

    /// Whether the member may act at this instant, once it is granted.
    pub(super) fn has_due(&self, now: Timestamp, member: usize) -> bool {
        let mut due = self.waiting.keys().take_while(|turn| turn.at <= now);
        due.any(|turn| turn.member == member)
    }

    /// The member has ended.
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
