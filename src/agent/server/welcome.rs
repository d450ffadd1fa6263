//! How a process becomes one that the server knows: it says hello, or its supervisor says that it
//! started it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use agent_stub::protocol::Order;
use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::super::member::{Connection, Member};
use super::Server;
use crate::process::{ended_status, open_pidfd, send_signal};
use crate::status::ExitStatus;
use crate::timeline::{What, Who};

/// What is found where an agent never came to be a run.
const LOST: &str = "a process of the agents' program was ended before it said hello: it has no run";

impl Server {
    /// A process said who it is.
    pub(super) fn welcome(
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
        if let Some(&known) = self.by_pid.get(&pid) {
            let member = &self.members[known];
            let is_silent = !member.said_hello;
            if is_silent && member.is_alive() {
                if member.agent != at {
                    let who = member.who.clone();
                    self.finding(&who, format!("it said hello as agent {agent:?}"));
                }
                return Some(self.connect(known, place, connection));
            }
            if member.is_alive() {
                let who = member.who.clone();
                self.finding(&who, "it connected twice; the second connection was closed");
                connection.close();
                return None;
            }
        }
        let peer = connection.peer(pid);
        // It has ended, and the timeline says so. Else the number has become another's.
        if self.is_announced(pid) && peer.as_ref().map_or(true, is_over) {
            connection.close();
            return None;
        }
        let pidfd = match peer {
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
        let (who, run) = match descendant {
            None => self.next_run(at),
            Some(descendant) => {
                // Whose it is: the run that said it started one of that name, else the last one.
                let expected = self
                    .expected
                    .iter()
                    .position(|e| e.agent == at && e.name == descendant);
                let run = expected.map_or(self.agents[at].numbers, |n| self.expected.remove(n).run);
                let name = Arc::clone(&self.agents[at].name);
                (Who::descendant(name, run, descendant), run)
            }
        };
        let member = self.enter(pid, pidfd, &who, (at, run, descendant.is_some()));
        // First of all: it wakes up while the rest is done here.
        let member = self.connect(member, place, connection);
        self.watch(member);
        // It may have ended before its end was watched.
        self.look(member, None);
        Some(member)
    }

    /// A supervisor said that it started this process, as a run of the agent. It is one from now on,
    /// whether it says hello or not. None where it is gone already.
    pub(super) fn announce(&mut self, agent: usize, pid: u32) -> (u32, Option<usize>) {
        if let Some(&known) = self.by_pid.get(&pid) {
            let member = &mut self.members[known];
            if member.agent == agent && !member.is_descendant && !member.is_followed {
                member.is_followed = true;
                return (member.run, Some(known));
            }
        }
        let (who, run) = self.next_run(agent);
        self.gone.remove(&pid);
        self.lost.remove(&pid);
        match open_pidfd(pid) {
            Ok(pidfd) => {
                let member = self.enter(pid, pidfd, &who, (agent, run, false));
                self.members[member].is_followed = true;
                self.watch(member);
                (run, Some(member))
            }
            Err(_) => {
                self.gone.insert(pid);
                self.record(&who, What::Start);
                (run, None)
            }
        }
    }

    /// Whether a process of that number is a run by its supervisor's word, and has not said hello. It
    /// has its place in the timeline without that.
    pub(super) fn is_announced(&self, pid: u32) -> bool {
        let is_silent = |&member: &usize| !self.members[member].said_hello;
        self.gone.contains(&pid) || self.by_pid.get(&pid).is_some_and(is_silent)
    }

    /// A child that has not said hello is a zombie. Where it runs the agents' program and was killed,
    /// a finding says so: whose run it would have been is not to be seen any more.
    pub(crate) fn see_zombie(&mut self, pid: u32) {
        let status = open_pidfd(pid)
            .ok()
            .and_then(|pidfd| ended_status(pidfd.as_fd()));
        if matches!(status, Some(ExitStatus::Signaled { .. })) {
            self.find_lost(pid);
        }
    }

    /// A process ends, or has ended, before it said hello. True where a finding says so: where it runs
    /// the agents' program.
    pub(super) fn find_lost(&mut self, pid: u32) -> bool {
        if self.lost.contains(&pid) {
            return true;
        }
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let is_agents = name.is_some_and(|name| Some(name.trim_end()) == self.program.as_deref());
        if is_agents {
            self.lost.insert(pid);
            self.finding(&Who::Subject, LOST);
        }
        is_agents
    }

    /// The next number of the agent's runs.
    pub(super) fn next_run(&mut self, agent: usize) -> (Who, u32) {
        let agent = &mut self.agents[agent];
        agent.numbers = agent.numbers.saturating_add(1);
        (
            Who::run(Arc::clone(&agent.name), agent.numbers),
            agent.numbers,
        )
    }

    /// A process is one that the server knows.
    fn enter(&mut self, pid: u32, pidfd: OwnedFd, who: &Who, whose: (usize, u32, bool)) -> usize {
        let member = self.members.len();
        self.members
            .push(Member::new(pid, pidfd, who.clone(), whose));
        self.alive.insert(member);
        self.by_pid.insert(pid, member);
        self.record(who, What::Start);
        member
    }

    /// Looks at what the kernel says of it, to its end.
    fn watch(&mut self, member: usize) {
        self.members[member].open_stat();
        let event = EpollEvent::new(
            EpollFlags::EPOLLIN | EpollFlags::EPOLLET,
            member as u64 * 2 + 1,
        );
        let this = &self.members[member];
        let added = this
            .pidfd
            .as_ref()
            .map(|pidfd| self.epoll.add(pidfd, event));
        if let Some(Err(error)) = added {
            let who = this.who.clone();
            self.finding(&who, format!("its end cannot be watched: {error}"));
        }
    }

    /// It said hello on this connection, and is told what to do.
    fn connect(&mut self, member: usize, place: usize, connection: Connection) -> usize {
        self.progress += 1;
        self.places.insert(place, member);
        let this = &mut self.members[member];
        this.connection = Some(connection);
        this.said_hello = true;
        if !this.is_descendant {
            let agent = &mut self.agents[this.agent];
            agent.runs.push(member);
            let script = agent.script.of_run(this.run).clone();
            if !script.0.is_empty() {
                self.tell(member, &Order::Do(script));
            }
        }
        member
    }

    /// Takes the hello of a member that has not said it, if it has sent one. Nobody else's: the
    /// supervisor of another may not have been heard yet.
    pub(super) fn accept_of(&mut self, member: usize) {
        let pid = self.members[member].pid;
        self.connections();
        let its = |connection: &Connection| connection.peer_pid() == Some(pid);
        let strangers = self.strangers.iter();
        let places: Vec<_> = strangers
            .filter(|(_, connection)| its(connection))
            .map(|(&place, _)| place)
            .collect();
        for place in places {
            self.receive(place);
        }
    }
}

/// What the kernel calls a process that runs this program: the first bytes of its name.
pub(super) fn kernel_name(program: &Path) -> Option<String> {
    let name = program.file_name()?.as_bytes();
    let name = &name[..name.len().min(15)];
    String::from_utf8(name.to_vec()).ok()
}

/// Whether a process is gone, or is a child that is a zombie.
fn is_over(pidfd: &OwnedFd) -> bool {
    ended_status(pidfd.as_fd()).is_some() || send_signal(pidfd.as_fd(), None).is_err()
}
