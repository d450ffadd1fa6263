//! The server's intake: what has come on its connections, from the kernel and from the supervisors.

use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{EpollEvent, EpollTimeout};
use nix::sys::time::TimeSpec;

use super::state::{LISTENER, Server};

/// real-time: how long a look waits until every process that was signalled is dead or at rest.
const DYING: Duration = Duration::from_secs(1);

#[cfg(not(feature = "supervisor"))]
impl Server {
    /// Takes in what the supervisors have said: there are none.
    #[allow(clippy::unused_self, reason = "as where there are some")]
    pub(crate) fn hear_supervisors(&self) {}
}

impl Server {
    /// Takes in what has come, and waits for it at most for `wait`. Returns whether anything has come.
    pub(crate) fn pump(&mut self, wait: Duration) -> bool {
        let before = self.progress;
        // Supervisors first: the server has to know that a process was started before that process says a
        // word.
        self.hear_supervisors();
        let mut events = [EpollEvent::empty(); 64];
        if !wait.is_zero() {
            // `ppoll`, since `epoll_wait` counts in milliseconds. An error is EINTR: nothing has come.
            let mut epoll = [PollFd::new(self.epoll.0.as_fd(), PollFlags::POLLIN)];
            let _ = ppoll(&mut epoll, Some(TimeSpec::from_duration(wait)), None);
        }
        loop {
            let ready = self
                .epoll
                .wait(&mut events, EpollTimeout::ZERO)
                .unwrap_or(0);
            for event in &events[..ready] {
                match event.data() {
                    LISTENER => self.accept(),
                    token => match usize::try_from(token / 2) {
                        Ok(place) if token % 2 == 0 => self.receive(place),
                        Ok(member) => self.look(member, None),
                        Err(_) => {}
                    },
                }
            }
            if ready < events.len() {
                break;
            }
        }
        for member in self.zombies.union(&self.dying).copied().collect::<Vec<_>>() {
            self.look(member, None);
        }
        self.progress != before
    }

    /// Takes in, while the code under test runs, what this code has done by itself: which children it has
    /// ended or reaped. With the gate, nothing else is taken in. A message that is still on its way would be
    /// there in one run of the test and not in the next.
    pub(crate) fn see_deaths(&mut self) {
        if !self.is_gated {
            self.pump(Duration::ZERO);
            return;
        }
        self.hear_supervisors();
        // A child that was signalled is awake until it is dead or at rest.
        let begun = std::time::Instant::now();
        while begun.elapsed() < DYING && self.alive().any(|(_, member)| member.may_be_dying()) {
            std::thread::yield_now();
        }
        let is_child = |member: &usize| self.members[*member].is_child;
        let children = self.alive.union(&self.zombies).copied().filter(is_child);
        for member in children.collect::<Vec<_>>() {
            self.look(member, None);
        }
    }

    pub(super) fn receive(&mut self, place: usize) {
        let mut messages = Vec::new();
        let Some(&member) = self.places.get(&place) else {
            return self.receive_stranger(place);
        };
        let Some(connection) = &mut self.members[member].connection else {
            return;
        };
        if connection.has_unsent() {
            connection.flush();
            self.listen_for_room(place, member);
        }
        let Some(connection) = &mut self.members[member].connection else {
            return;
        };
        connection.receive(&mut messages);
        let (open, cut) = (connection.is_open(), connection.is_cut());
        self.spend(member, &mut messages);
        for message in messages {
            self.hear(member, message);
        }
        if !open {
            self.progress += 1;
            // Epoll forgets a socket when its last descriptor is closed, and the member keeps one.
            if let Some(connection) = &self.members[member].connection {
                let _ = self.epoll.delete(connection.as_fd());
            }
            self.places.remove(&place);
            if cut {
                let who = self.members[member].who.clone();
                self.finding(&who, "its connection ended in the middle of a message");
            }
        }
    }
}
