//! The orders that members get: their turns, and what the test tells them.

use agent_stub::protocol::Order;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::state::Server;
use crate::sim::agent::member::KernelState;
use crate::timeline::EventSource;
use crate::timestamp::Timestamp;

impl Server {
    /// The earliest instant, after this one, at which a process may act.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.turns.next_after(self.now)
    }

    /// The member that has the next turn: the clock ends its wait next.
    pub(crate) fn next_waiter(&self) -> Option<&EventSource> {
        Some(&self.members.get(self.turns.first()?)?.who)
    }

    /// Grants the first turn that is due to a member that can act, and returns that member. A stopped member
    /// cannot act.
    pub(crate) fn grant_next_turn(&mut self) -> Option<usize> {
        let members = &self.members;
        let can_act = |member: usize| members[member].kernel_state() != KernelState::Stopped;
        let (member, order) = self.turns.next(self.now, can_act)?;
        self.begin_step();
        self.acting = Some(member);
        self.progress += 1;
        self.tell(member, &order);
        Some(member)
    }

    /// Whether the next turn that is due begins a script.
    pub(crate) fn next_turn_begins(&self) -> bool {
        self.turns.next_begins(self.now)
    }

    /// Sends an order to a member, at once or as soon as its connection has room.
    pub(super) fn tell(&mut self, member: usize, order: &Order) {
        let had_unsent = self.members[member].has_unsent();
        self.members[member].was_told |= !matches!(order, Order::Ping(_));
        self.members[member].order(order);
        if !had_unsent
            && self.members[member].has_unsent()
            && let Some((&place, _)) = self.places.iter().find(|(_, m)| **m == member)
        {
            self.listen_for_room(place, member);
        }
    }

    /// Has epoll say when the member's connection has room, as long as there are unsent orders.
    pub(super) fn listen_for_room(&self, place: usize, member: usize) {
        let Some(connection) = &self.members[member].connection else {
            return;
        };
        let flags = match connection.has_unsent() {
            true => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            false => EpollFlags::EPOLLIN,
        };
        let mut event = EpollEvent::new(flags, place as u64 * 2);
        // This fails only for a connection that is not open, and then nothing is unsent.
        let _ = self.epoll.modify(connection.as_fd(), &mut event);
    }

    /// Gives a member an order of the test: at once, or in virtual time when the member's turn comes.
    pub(crate) fn order(&mut self, member: usize, order: Order) {
        self.progress += 1;
        self.lives += 1;
        let statements = match &order {
            Order::Do(script) => script.statements(),
            _ => 1,
        };
        let told = &mut self.members[member].statements;
        *told = told.saturating_add(statements);
        if let Order::Open(gate) = &order {
            self.members[member].pass(&gate.0);
        }
        if self.is_virtual {
            let rank = self.members[member].rank();
            self.turns.tell(self.now, rank, member, order);
        } else {
            self.tell(member, &order);
        }
    }

    /// Gives a member an order at once, whoever's turn it is. It is for code that holds the sim's thread
    /// until the order is obeyed.
    #[cfg(feature = "conformance")]
    pub(crate) fn order_at_once(&mut self, member: usize, order: &Order) {
        self.progress += 1;
        self.tell(member, order);
    }

    /// Sends a ping, which a member answers only when it has nothing left to do but wait.
    pub(crate) fn ping(&mut self, member: usize) {
        self.last_ping += 1;
        self.tell(member, &Order::Ping(self.last_ping));
    }
}
