//! How a process becomes a member: it says hello, or a supervisor says that it has started this process.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use agent_stub::protocol::{Lineage, Order};
use nix::libc;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::expected::Expected;
use super::state::Server;
use super::stranger::{Hello, Stranger};
use crate::pidfd::{ended_status, is_child, open_pidfd, reaped_status, send_signal};
use crate::sim::agent::connection::Connection;
use crate::sim::agent::member::Member;
use crate::sim::agent::parent::{Parent, parent_and_start};
use crate::sim::agent::rank::Rank;
use crate::status::ExitStatus;
use crate::timeline::{EventKind, EventSource};

impl Server {
    /// Takes in the processes that have said hello, in an order that does not depend on which was faster.
    /// `children` are the children of the code under test, in the order in which they were started. Returns
    /// whether there were any processes to take in.
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

    /// Whether a process that calls itself `own_pid` has said hello and is no member yet. What it started is
    /// taken in after it.
    fn has_hello_of(&self, own_pid: u32) -> bool {
        let strangers = self.strangers.values();
        let mut hellos = strangers.filter_map(|stranger| stranger.hello.as_ref());
        hellos.any(|hello| hello.pid == own_pid)
    }

    /// Where a process stands among those that were started. Runs come first: by the child of the code under
    /// test that they are or descend from, then by the order in which each process started the next.
    /// Descendants come after them.
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

    /// The member that, as a descendant says, has started this descendant.
    fn starter(&self, place: usize, starter: u32) -> Option<usize> {
        let hello = self.strangers[&place].hello.as_ref()?;
        let at = self
            .agents
            .iter()
            .position(|named| *named.name == hello.agent);
        let is_it = |member: &Member| Some(member.agent) == at && member.own_pid == starter;
        // Another process may have had the number before.
        self.members.iter().rposition(is_it)
    }

    /// Takes in a process that has said hello, and returns its member. `None` if the process is refused or
    /// over.
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
                &EventSource::Subject,
                format!("an unknown agent said hello: {agent:?}"),
            );
            connection.close();
            return None;
        };
        let pid = pid.unwrap_or(own_pid);
        // If it were a member, this process would be ended with the others.
        if pid == std::process::id() {
            self.finding(
                &EventSource::Subject,
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
        // The process may have ended before its end was watched.
        self.look(member, None);
        Some(member)
    }

    /// A pidfd of the process at the other end, which is to be a member. `None` if the process is over, or if
    /// no pidfd can be opened: then the connection is closed.
    fn hold(&mut self, pid: u32, connection: &mut Connection, agent: &str) -> Option<OwnedFd> {
        match connection.peer(pid) {
            // The process was over before it was taken in. If it had ended a little earlier, it would have
            // said nothing, so its hello counts for nothing.
            Ok(pidfd) if self.is_announced(pid) && is_over(&pidfd) => {}
            Ok(pidfd) if self.is_gated && was_killed(&pidfd) => {}
            Ok(pidfd) => return Some(pidfd),
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH | libc::EINVAL) if self.is_gated || self.is_announced(pid) => {}
                Some(libc::ESRCH | libc::EINVAL) => self.finding(
                    &EventSource::Subject,
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

    /// Which descendant the process is: of its starter's run or, if the starter is not known, of the agent's
    /// last run.
    fn descendant(
        &mut self,
        agent: usize,
        starter: Option<usize>,
        lineage: &Lineage,
    ) -> (EventSource, u32, Vec<u32>) {
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
        (EventSource::descendant(name, run, &*descendant), run, path)
    }

    /// Takes in a process that a supervisor says it has started, as a run of the agent. The process is a run
    /// from now on, whether it says hello or not. Returns the run's number, and the member; `None` instead of
    /// the member if the process is gone already.
    #[cfg(feature = "supervisor")]
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
                self.record(&who, EventKind::Start);
                (run, None)
            }
        }
    }

    /// Whether the process with this number is a run because its supervisor said so, and has not said hello.
    /// Such a run has its place in the timeline without a hello.
    pub(super) fn is_announced(&self, pid: u32) -> bool {
        let is_silent = |&member: &usize| !self.members[member].said_hello;
        self.gone.contains(&pid) || self.by_pid.get(&pid).is_some_and(is_silent)
    }

    /// Takes note of a child that is a zombie and has not said hello. If it was killed, it may have been an
    /// agent, but nobody can see any more whose run it would have been. Returns whether it is seen for the
    /// first time.
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

    /// Remembers a process that ends, or has ended, before it said hello, if it ran the agents' program.
    /// Returns whether it did. What is killed at once may be reaped before anybody looks, or may still have
    /// the name of what forked it. So the timeline, which has to be the same each time, does not have such a
    /// process.
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

    /// The text about the processes of agents that ended before they said hello, as far as they were seen.
    /// `None` if there are none.
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

    /// Gives out the next number of the agent's runs.
    pub(super) fn next_run(&mut self, agent: usize) -> (EventSource, u32) {
        let agent = &mut self.agents[agent];
        agent.numbers = agent.numbers.saturating_add(1);
        (
            EventSource::run(Arc::clone(&agent.name), agent.numbers),
            agent.numbers,
        )
    }

    /// Makes a process a member, and records its start. Returns the member's index.
    fn enter(
        &mut self,
        pid: u32,
        pidfd: OwnedFd,
        who: &EventSource,
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
        self.record_of(member, EventKind::Start);
        // Read while the process lives: a dead process has no descriptors.
        let rank = self.members[member].rank();
        for stream in 0..2 {
            if let Ok(link) = std::fs::read_link(format!("/proc/{pid}/fd/{}", stream + 1)) {
                let place = || (rank.clone(), stream);
                self.streams.entry(link).or_insert_with(place);
            }
        }
        member
    }

    /// Watches what the kernel says of the member: opens its /proc/PID/stat, and has epoll tell of its end.
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

    /// Keeps the connection on which the member said hello. A run is told what to do: at once, or in virtual
    /// time when its turn comes.
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

    /// Takes the hello of a member that has not said it, if it has sent one. The hello of another process is
    /// not taken: the supervisor of that process may not have been heard yet.
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
    /// A run: the place of the child of the code under test that it is or descends from; then the processes
    /// from below that child down to the run, each by its start time and its process id.
    Child(usize, Vec<(u64, u32)>),
    /// A descendant: who started it, and for which time that process started one.
    Descendant(Option<Rank>, u32),
}

/// Whether a process was ended by a signal.
fn was_killed(pidfd: &OwnedFd) -> bool {
    let pidfd = pidfd.as_fd();
    let status = ended_status(pidfd).or_else(|| reaped_status(pidfd));
    matches!(status, Some(ExitStatus::Signaled { .. }))
}

/// Whether a process is gone, or is a child of this process and a zombie.
fn is_over(pidfd: &OwnedFd) -> bool {
    ended_status(pidfd.as_fd()).is_some() || send_signal(pidfd.as_fd(), None).is_err()
}
