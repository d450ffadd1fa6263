//! How a process becomes one that the server knows: it says hello, or its supervisor says that it
//! started it.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use agent_stub::protocol::{Lineage, Order};
use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::super::member::{Connection, Member};
use super::accept::{Hello, Stranger};
use super::parent::{Parent, parent_and_start};
use super::{Expected, Rank, Server};
use crate::process::{ended_status, is_child, open_pidfd, reaped_status, send_signal};
use crate::status::ExitStatus;
use crate::timeline::{What, Who};

impl Server {
    /// Takes in those that have said who they are, in an order that does not depend on who was faster:
    /// `children` are those of the code under test as they were started. True where there were any.
    pub(crate) fn welcome_all(&mut self, children: &[u32]) -> bool {
        let mut any = false;
        loop {
            let waiting = self.strangers.iter().filter(|(_, stranger)| {
                let awaits = |lineage: &Lineage| self.has_hello_of(lineage.starter);
                stranger.hello.is_some() && !stranger.lineage().is_some_and(awaits)
            });
            let mut waiting: Vec<usize> = waiting.map(|(&place, _)| place).collect();
            if waiting.is_empty() {
                return any;
            }
            any = true;
            if waiting.len() > 1 {
                waiting.sort_by_cached_key(|place| self.birth(*place, children));
            }
            for place in waiting {
                self.welcome(place);
            }
        }
    }

    /// Whether whoever calls itself that has said hello, and is no member yet: what it started comes after it.
    fn has_hello_of(&self, own_pid: u32) -> bool {
        let strangers = self.strangers.values();
        let mut hellos = strangers.filter_map(|stranger| stranger.hello.as_ref());
        hellos.any(|hello| hello.pid == own_pid)
    }

    /// Where a process stands among those that were started: runs first, by the children of the code under
    /// test that they are or descend from, then by the order in which each process started the next; then
    /// descendants.
    fn birth(&self, place: usize, children: &[u32]) -> Birth {
        let stranger = &self.strangers[&place];
        let lineage = stranger
            .hello
            .as_ref()
            .and_then(|hello| hello.descendant.as_ref());
        if let Some(Lineage { starter, nth, .. }) = lineage {
            let path = self
                .starter(place, *starter)
                .map(|starter| self.members[starter].rank());
            return Birth::Descendant(path, *nth);
        }
        let mut ancestors = Vec::new();
        let mut pid = stranger.pid.unwrap_or(0);
        loop {
            if let Some(place) = children.iter().position(|child| *child == pid) {
                ancestors.reverse();
                return Birth::Child(place, ancestors);
            }
            match parent_and_start(pid) {
                Some((parent, start)) if parent != 0 => {
                    ancestors.push((start, pid));
                    pid = parent;
                }
                _ => {
                    ancestors.reverse();
                    return Birth::Child(usize::MAX, ancestors);
                }
            }
        }
    }

    /// The member that a descendant says has started it.
    fn starter(&self, place: usize, starter: u32) -> Option<usize> {
        let hello = self.strangers[&place].hello.as_ref()?;
        let at = self
            .agents
            .iter()
            .position(|named| *named.name == hello.agent);
        let is_it = |member: &Member| Some(member.agent) == at && member.own_pid == starter;
        // A number may have been another's before.
        self.members.iter().rposition(is_it)
    }

    /// A process said who it is.
    pub(super) fn welcome(&mut self, place: usize) -> Option<usize> {
        let starter = self.strangers[&place].hello.as_ref();
        let starter = starter.and_then(|hello| hello.descendant.as_ref());
        let starter = starter.and_then(|lineage| self.starter(place, lineage.starter));
        let Stranger {
            mut connection,
            hello,
            said,
            pid,
            spare,
        } = self.strangers.remove(&place)?;
        drop(spare);
        let Hello {
            pid: own_pid,
            ppid: own_parent,
            agent,
            descendant,
        } = hello?;
        self.progress += 1;
        let Some(at) = self.agents.iter().position(|named| *named.name == agent) else {
            self.finding(
                &Who::Subject,
                format!("an unknown agent said hello: {agent:?}"),
            );
            connection.close();
            return None;
        };
        let pid = pid.unwrap_or(own_pid);
        // As a member it would be ended with the others.
        if pid == std::process::id() {
            self.finding(
                &Who::Subject,
                format!("the process of the sim itself said hello, as agent {agent:?}"),
            );
            connection.close();
            return None;
        }
        let known = self.by_pid.get(&pid).copied();
        let known = known.filter(|known| self.members[*known].is_alive());
        let member = match known {
            Some(known) if self.members[known].said_hello => {
                let who = self.members[known].who.clone();
                self.finding(&who, "it connected twice; the second connection was closed");
                connection.close();
                return None;
            }
            Some(known) => {
                if self.members[known].agent != at {
                    let who = self.members[known].who.clone();
                    self.finding(&who, format!("it said hello as agent {agent:?}"));
                }
                known
            }
            None => {
                let pidfd = self.hold(pid, &mut connection, &agent)?;
                let (who, run, path) = match descendant {
                    None => {
                        let (who, run) = self.next_run(at);
                        (who, run, Vec::new())
                    }
                    Some(lineage) => self.descendant(at, starter, &lineage),
                };
                let member = self.enter(pid, pidfd, &who, (at, run, path));
                self.members[member].starter = starter;
                self.watch(member);
                member
            }
        };
        let this = &mut self.members[member];
        (this.own_pid, this.own_parent) = (own_pid, own_parent);
        self.connect(member, place, connection);
        let mut said = Vec::from(said);
        self.spend(member, &mut said);
        for message in said {
            self.hear(member, message);
        }
        // It may have ended before its end was watched.
        self.look(member, None);
        Some(member)
    }

    /// A descriptor of the process at the other end, which is to be a member. None where it is over.
    fn hold(&mut self, pid: u32, connection: &mut Connection, agent: &str) -> Option<OwnedFd> {
        match connection.peer(pid) {
            // It was killed before it was taken in. Had that been sooner, it would have said nothing.
            Ok(pidfd) if self.is_announced(pid) && is_over(&pidfd) => {}
            Ok(pidfd) if self.is_gated && was_killed(&pidfd) => {}
            Ok(pidfd) => return Some(pidfd),
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH | libc::EINVAL) if self.is_gated || self.is_announced(pid) => {}
                Some(libc::ESRCH | libc::EINVAL) => self.finding(
                    &Who::Subject,
                    format!("agent {agent:?} said hello and was gone: {error}"),
                ),
                _ => self.trouble(
                    &format!(
                        "the connection of agent {agent:?} was closed, since no pidfd of its process can be opened"
                    ),
                    &error,
                ),
            },
        }
        connection.close();
        None
    }

    /// Which descendant it is: of the run of whoever started it, else of the last one.
    fn descendant(
        &mut self,
        agent: usize,
        starter: Option<usize>,
        lineage: &Lineage,
    ) -> (Who, u32, Vec<u32>) {
        let (run, mut path) = match starter {
            Some(starter) => {
                let is_it = |e: &Expected| e.starter == starter && e.nth == lineage.nth;
                self.expected.retain(|expected| !is_it(expected));
                (
                    self.members[starter].run,
                    self.members[starter].path.clone(),
                )
            }
            None => (self.agents[agent].numbers, Vec::new()),
        };
        path.push(lineage.nth);
        let name = Arc::clone(&self.agents[agent].name);
        let descendant = String::from_utf8_lossy(&lineage.name.0);
        (Who::descendant(name, run, &*descendant), run, path)
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
        self.dead_strangers.remove(&pid);
        match open_pidfd(pid) {
            Ok(pidfd) => {
                let member = self.enter(pid, pidfd, &who, (agent, run, Vec::new()));
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

    /// A child that has not said hello is a zombie. Where it was killed, it may have been an agent: whose run
    /// it would have been is not to be seen any more. Whether it is seen for the first time.
    pub(crate) fn see_zombie(&mut self, pid: u32) -> bool {
        if !self.dead_strangers.insert(pid) {
            return false;
        }
        self.strange_deaths.push(pid);
        self.count_end();
        let status = open_pidfd(pid)
            .ok()
            .and_then(|pidfd| ended_status(pidfd.as_fd()));
        if matches!(status, Some(ExitStatus::Signaled { .. })) {
            self.find_lost(pid);
        }
        true
    }

    /// A process ends, or has ended, before it said hello. True where it ran the agents' program, which is
    /// remembered: what is killed at once may be reaped, or have another name still, before anybody looks.
    /// So the timeline, which is the same each time, does not have it.
    pub(super) fn find_lost(&mut self, pid: u32) -> bool {
        if self.lost.contains(&pid) {
            return true;
        }
        let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
        let is_agents = name.is_some_and(|name| Some(name.trim_end()) == self.program.as_deref());
        if is_agents {
            self.lost.insert(pid);
        }
        is_agents
    }

    /// Of the processes that ended before they said hello, those that were seen.
    pub(crate) fn lost(&self) -> Option<String> {
        let (who, run) = match self.lost.len() {
            0 => return None,
            1 => (
                "a process that ran the agents' program was".to_owned(),
                "run that was, so that the timeline lacks it",
            ),
            count => (
                format!("{count} processes that ran the agents' program were"),
                "runs those were, so that the timeline lacks them",
            ),
        };
        Some(format!(
            "{who} ended before the sim knew whose {run}. To have a run in the \
             timeline, wait for `Agent::started` before you end it"
        ))
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
    fn enter(
        &mut self,
        pid: u32,
        pidfd: OwnedFd,
        who: &Who,
        (agent, run, path): (usize, u32, Vec<u32>),
    ) -> usize {
        let member = self.members.len();
        let is_child = is_child(pidfd.as_fd());
        let mut new = Member::new(pid, pidfd, who.clone(), (agent, run, path));
        new.is_child = is_child;
        if !is_child && self.is_gated && !new.is_descendant {
            new.parent = Parent::of(pid);
        }
        self.members.push(new);
        self.alive.insert(member);
        self.by_pid.insert(pid, member);
        self.lives += 1;
        self.record_of(member, What::Start);
        // While it lives: a dead process has none.
        let rank = self.members[member].rank();
        for stream in 0..2 {
            if let Ok(link) = std::fs::read_link(format!("/proc/{pid}/fd/{}", stream + 1)) {
                let place = || (rank.clone(), stream);
                self.streams.entry(link).or_insert_with(place);
            }
        }
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

    /// It said hello on this connection, and is told what to do: at once, or in virtual time when its turn
    /// comes.
    fn connect(&mut self, member: usize, place: usize, connection: Connection) {
        self.places.insert(place, member);
        let this = &mut self.members[member];
        this.connection = Some(connection);
        this.said_hello = true;
        if this.is_descendant {
            this.was_told = true;
            if let Some(starter) = this.starter {
                self.members[member].statements = self.members[starter].statements;
            }
            return;
        }
        let (run, rank) = (this.run, this.rank());
        let agent = &mut self.agents[this.agent];
        agent.runs.push(member);
        let script = agent.script.of_run(run).clone();
        this.statements = script.statements();
        if script.0.is_empty() {
            self.members[member].was_told = true;
        } else if self.is_virtual {
            self.turns.begin(self.now, rank, member, Order::Do(script));
        } else {
            self.tell(member, &Order::Do(script));
        }
    }

    /// Takes the hello of a member that has not said it, if it has sent one. Nobody else's: the
    /// supervisor of another may not have been heard yet.
    pub(super) fn accept_of(&mut self, member: usize) {
        let pid = self.members[member].pid;
        self.connections();
        let its = |stranger: &Stranger| stranger.pid == Some(pid);
        let strangers = self.strangers.iter();
        let places: Vec<_> = strangers
            .filter(|(_, stranger)| its(stranger))
            .map(|(&place, _)| place)
            .collect();
        for place in places {
            self.receive(place);
        }
    }
}

/// Where a process stands among those that were started.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Birth {
    /// A run: the child of the code under test, and what it descends from below that, each by when it
    /// started and its number.
    Child(usize, Vec<(u64, u32)>),
    /// A descendant: who started it, and for which time.
    Descendant(Option<Rank>, u32),
}

/// What the kernel calls a process that runs this program: the first bytes of its name.
pub(super) fn kernel_name(program: &Path) -> Option<String> {
    let name = program.file_name()?.as_bytes();
    let name = &name[..name.len().min(15)];
    String::from_utf8(name.to_vec()).ok()
}

/// Whether a process was ended by a signal.
fn was_killed(pidfd: &OwnedFd) -> bool {
    let pidfd = pidfd.as_fd();
    let status = ended_status(pidfd).or_else(|| reaped_status(pidfd));
    matches!(status, Some(ExitStatus::Signaled { .. }))
}

/// Whether a process is gone, or is a child that is a zombie.
fn is_over(pidfd: &OwnedFd) -> bool {
    ended_status(pidfd.as_fd()).is_some() || send_signal(pidfd.as_fd(), None).is_err()
}
