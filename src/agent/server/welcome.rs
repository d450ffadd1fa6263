//! From a connection that comes in to a process that the server knows.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use agent_stub::protocol::{Order, Report, VERSION};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{Connection, Member, Server};
use crate::timeline::{What, Who};

const NOT_ACCEPTED: &str = "a control connection cannot be accepted";

impl Server {
    pub(super) fn accept(&mut self) {
        loop {
            let socket = match self.listener.accept() {
                Ok((socket, _)) => socket,
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return,
                    io::ErrorKind::Interrupted | io::ErrorKind::ConnectionAborted => continue,
                    // The kernel asks for a descriptor before it looks whether one is needed.
                    _ if !self.is_knocked_at() => return,
                    // It stays in the queue, and is tried again at the next look.
                    _ => return self.trouble(NOT_ACCEPTED, &error),
                },
            };
            self.troubles.retain(|text| !text.starts_with(NOT_ACCEPTED));
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
                    // Mostly it has said hello by now.
                    self.receive(place);
                }
                Err(error) => self.trouble(
                    "a control connection was closed, since it cannot be watched",
                    &error,
                ),
            }
        }
    }

    /// Whether a connection waits to be accepted.
    fn is_knocked_at(&self) -> bool {
        let mut listener = [PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        poll(&mut listener, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// What this process cannot do for its agents: a finding, and for the watchdog to say.
    pub(crate) fn trouble(&mut self, what: &str, error: &io::Error) {
        let whose = match error.raw_os_error() {
            Some(libc::EMFILE) => ": this process, the test's own, has no descriptor left",
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

    /// A process said who it is.
    fn welcome(
        &mut self,
        place: usize,
        mut connection: Connection,
        pid: u32,
        agent: &str,
        descendant: Option<&str>,
    ) -> Option<usize> {
        let Some(at) = self.agents.iter().position(|named| &*named.name == agent) else {
            self.finding(
                &Who::Subject,
                format!("an unknown agent said hello: {agent:?}"),
            );
            connection.close();
            return None;
        };
        let pid = connection.peer_pid().unwrap_or(pid);
        // As a member it would be ended with the others.
        if pid == std::process::id() {
            self.finding(
                &Who::Subject,
                format!("the process of the sim itself said hello, as agent {agent:?}"),
            );
            connection.close();
            return None;
        }
        if let Some(&known) = self.by_pid.get(&pid)
            && self.members[known].is_alive()
        {
            let who = self.members[known].who.clone();
            self.finding(&who, "it connected twice; the second connection was closed");
            connection.close();
            return None;
        }
        let pidfd = match connection.peer(pid) {
            Ok(pidfd) => pidfd,
            Err(error) => {
                match error.raw_os_error() {
                    Some(libc::ESRCH | libc::EINVAL) => self.finding(
                        &Who::Subject,
                        format!("agent {agent:?} said hello and was gone: {error}"),
                    ),
                    _ => self.trouble(
                        &format!(
                            "agent {agent:?} said hello, and was let go, since its process cannot be held"
                        ),
                        &error,
                    ),
                }
                connection.close();
                return None;
            }
        };
        let name = Arc::clone(&self.agents[at].name);
        let runs = u32::try_from(self.agents[at].runs.len()).unwrap_or(u32::MAX);
        let (who, run) = match descendant {
            None => (
                Who::Run {
                    agent: name,
                    run: runs + 1,
                    descendant: None,
                },
                runs + 1,
            ),
            Some(descendant) => {
                // Whose it is: the run that said it started one of that name, else the last one.
                let expected = self
                    .expected
                    .iter()
                    .position(|e| e.agent == at && e.name == descendant);
                let run = expected.map_or(runs, |n| self.expected.remove(n).run);
                (
                    Who::Run {
                        agent: name,
                        run,
                        descendant: Some(descendant.into()),
                    },
                    run,
                )
            }
        };
        let member = self.members.len();
        let event = EpollEvent::new(
            EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
            member as u64 * 2 + 1,
        );
        let watched = self.epoll.add(&pidfd, event);
        let is_descendant = descendant.is_some();
        self.members.push(Member::new(
            pid,
            pidfd,
            connection,
            who.clone(),
            (at, run, is_descendant),
        ));
        self.alive.insert(member);
        self.by_pid.insert(pid, member);
        self.places.insert(place, member);
        self.record(&who, What::Start);
        if let Err(error) = watched {
            self.finding(&who, format!("its end cannot be watched: {error}"));
        }
        if !is_descendant {
            self.agents[at].runs.push(member);
            let script = self.agents[at].script.of_run(run).clone();
            if !script.0.is_empty() {
                self.tell(member, &Order::Do(script));
            }
        }
        // It may have ended before its end was watched.
        self.look(member);
        Some(member)
    }
}
