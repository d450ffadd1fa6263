//! Accepts connections, and keeps them until their processes have said who they are.

use std::io;
use std::os::fd::AsFd;

use agent_stub::protocol::{MessageError, Report, VERSION};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::state::Server;
use super::stranger::{Hello, Stranger};
use crate::pidfd::open_pidfd;
use crate::sim::agent::connection::Connection;
use crate::timeline::EventSource;

/// How many connections one look takes. A process that connects without an end must not hold up the
/// look.
const AT_ONCE: usize = 256;

const NOT_ACCEPTED: &str = "a control connection cannot be accepted";

impl Server {
    pub(super) fn accept(&mut self) {
        for place in self.connections() {
            // Most processes have said hello by now.
            self.receive(place);
        }
    }

    /// Accepts the connections that wait, each as a stranger's. Returns their places.
    pub(super) fn connections(&mut self) -> Vec<usize> {
        let mut places = Vec::new();
        for _ in 0..AT_ONCE {
            let Some(listener) = &self.listener else {
                return places;
            };
            let accepted = self.epoll.0.try_clone().and_then(|spare| {
                let (socket, _) = listener.accept()?;
                Ok((socket, spare))
            });
            let (socket, spare) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return places,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    // The kernel takes a descriptor before it looks whether a connection waits.
                    _ if !self.is_knocked_at() => return places,
                    _ => {
                        // The connection stays in the queue, and the next look tries again.
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
                    self.strangers
                        .insert(place, Stranger::new(connection, spare));
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

    /// Whether a connection could not be accepted at the last look.
    pub(super) fn is_accept_refused(&self) -> bool {
        let is_it = |text: &String| text.starts_with(NOT_ACCEPTED);
        self.troubles.iter().any(is_it)
    }

    /// Whether a connection waits to be accepted.
    fn is_knocked_at(&self) -> bool {
        let Some(listener) = &self.listener else {
            return false;
        };
        let mut listener = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut listener, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Records what this process cannot do for its agents: as a finding, and for the watchdog's
    /// report.
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
            self.finding(&EventSource::Subject, text);
        }
    }

    pub(super) fn receive_stranger(&mut self, place: usize) {
        let Some(stranger) = self.strangers.get_mut(&place) else {
            return;
        };
        stranger.receive();
        if stranger.hello.is_none() {
            match stranger.said.pop_front() {
                None if stranger.connection.is_open() => return,
                None => return self.lose_stranger(place),
                Some(Ok(Report::Hello {
                    version: VERSION,
                    pid,
                    ppid,
                    agent,
                    descendant,
                })) => {
                    let agent = String::from_utf8_lossy(&agent.0).into_owned();
                    stranger.hello = Some(Hello {
                        pid,
                        ppid,
                        agent,
                        descendant,
                    });
                }
                Some(other) => return self.refuse(place, other),
            }
        }
        // The idle gate says when: it must not matter which process is faster.
        if !self.is_gated {
            self.welcome(place);
        }
    }

    /// A connection ended before its process said hello.
    fn lose_stranger(&mut self, place: usize) {
        let Some(Stranger { connection, .. }) = self.strangers.remove(&place) else {
            return;
        };
        self.progress += 1;
        if let Some(pid) = connection.peer_pid() {
            // No finding: a supervisor has said that it started this process, or `lost` tells of
            // it.
            if self.is_announced(pid) || self.find_lost(pid) {
                return;
            }
            if open_pidfd(pid).is_err() {
                self.lost.insert(pid);
                return;
            }
        }
        let cut = if connection.is_cut() {
            ", in the middle of a message"
        } else {
            ""
        };
        self.finding(
            &EventSource::Subject,
            format!("a control connection ended before it said hello{cut}"),
        );
    }

    /// A connection began with something other than a hello of this version.
    fn refuse(&mut self, place: usize, said: Result<Report, MessageError>) {
        let Some(Stranger { mut connection, .. }) = self.strangers.remove(&place) else {
            return;
        };
        self.progress += 1;
        let text = match said {
            Ok(Report::Hello { version, agent, .. }) => format!(
                "agent {agent} speaks version {version} of the protocol: expected {VERSION}"
            ),
            Ok(report) => format!("a control connection began without hello: `{report}`"),
            Err(error) => format!("a control connection began without hello: {error}"),
        };
        self.finding(&EventSource::Subject, text);
        connection.close();
    }
}
