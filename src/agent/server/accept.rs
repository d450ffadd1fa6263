//! The connections that come in, until they say who they are.

use std::io;
use std::os::fd::AsFd;

use agent_stub::protocol::{Report, VERSION};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::super::member::Connection;
use super::Server;
use crate::timeline::Who;

/// How many connections are taken at one look: whoever connects without an end must not hold it up.
const AT_ONCE: usize = 256;

const NOT_ACCEPTED: &str = "a control connection cannot be accepted";

impl Server {
    pub(super) fn accept(&mut self) {
        for place in self.connections() {
            // Mostly it has said hello by now.
            self.receive(place);
        }
    }

    /// Takes the connections that wait, each a stranger's. Their places.
    pub(super) fn connections(&mut self) -> Vec<usize> {
        let mut places = Vec::new();
        for _ in 0..AT_ONCE {
            let Some(listener) = &self.listener else {
                return places;
            };
            let socket = match listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return places,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    // The kernel asks for a descriptor before it looks whether one is needed.
                    _ if !self.is_knocked_at() => return places,
                    _ => {
                        // It stays in the queue, and is tried again at the next look.
                        self.trouble(NOT_ACCEPTED, &error);
                        return places;
                    }
                },
            };
            self.troubles.retain(|text| !text.starts_with(NOT_ACCEPTED));
            if let Some((pid, what)) = self.refusal(&socket) {
                self.name_refused(pid, &what);
                continue;
            }
            let place = self.next_place;
            self.next_place += 1;
            self.progress += 1;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, place as u64 * 2);
            let watched = Connection::new(socket).and_then(|connection| {
                self.epoll.add(connection.as_fd(), event)?;
                Ok(connection)
            });
            match watched {
                Ok(connection) => {
                    self.strangers.insert(place, connection);
                    places.push(place);
                }
                Err(error) => self.trouble(
                    "a control connection was closed, since it cannot be watched",
                    &error,
                ),
            }
        }
        places
    }

    /// Whether a connection waits to be accepted.
    fn is_knocked_at(&self) -> bool {
        let Some(listener) = &self.listener else {
            return false;
        };
        let mut listener = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut listener, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// What this process cannot do for its agents: a finding, and for the watchdog to say.
    pub(crate) fn trouble(&mut self, what: &str, error: &io::Error) {
        let whose = match error.raw_os_error() {
            Some(libc::EMFILE) => {
                self.note_lack();
                ": this process, the test's own, has no descriptor left"
            }
            _ => "",
        };
        let text = format!("{what}: {error}{whose}");
        if !self.troubles.contains(&text) {
            self.troubles.push(text.clone());
            self.finding(&Who::Subject, text);
        }
    }

    pub(super) fn receive_stranger(&mut self, place: usize) {
        let Some(mut connection) = self.strangers.remove(&place) else {
            return;
        };
        let mut messages = Vec::new();
        connection.receive(&mut messages);
        let mut messages = messages.into_iter();
        match messages.next() {
            None if connection.is_open() => {
                self.strangers.insert(place, connection);
            }
            None => {
                self.progress += 1;
                // It is ending, or over: its supervisor says so.
                if connection
                    .peer_pid()
                    .is_some_and(|pid| self.is_announced(pid))
                {
                    return;
                }
                if connection.peer_pid().is_some_and(|pid| self.find_lost(pid)) {
                    return;
                }
                let cut = if connection.is_cut() {
                    ", in the middle of a message"
                } else {
                    ""
                };
                self.finding(
                    &Who::Subject,
                    format!("a control connection ended before it said hello{cut}"),
                );
            }
            Some(Ok(Report::Hello {
                version: VERSION,
                pid,
                agent,
                descendant,
                ..
            })) => {
                let name =
                    |text: &agent_stub::Quoted| String::from_utf8_lossy(&text.0).into_owned();
                let descendant = descendant.as_ref().map(name);
                if let Some(member) =
                    self.welcome(place, connection, pid, &name(&agent), descendant.as_deref())
                {
                    let mut messages = messages.collect();
                    self.spend(member, &mut messages);
                    for message in messages {
                        self.hear(member, message);
                    }
                }
            }
            Some(Ok(Report::Hello { version, agent, .. })) => {
                let text = format!(
                    "agent {agent} speaks version {version} of the protocol: expected {VERSION}"
                );
                self.finding(&Who::Subject, text);
                connection.close();
            }
            Some(other) => {
                let said = match other {
                    Ok(report) => format!("`{report}`"),
                    Err(error) => error.to_string(),
                };
                self.finding(
                    &Who::Subject,
                    format!("a control connection began without hello: {said}"),
                );
                connection.close();
            }
        }
    }
}
