//! The control server: the listening socket, the processes behind it, and what they say.

mod accept;
mod bounds;
mod follow;
mod welcome;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_stub::protocol::{MessageError, Order, Report};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use nix::sys::time::TimeSpec;

use super::member::{Connection, Member};
use super::script::Script;
use crate::status::ExitStatus;
use crate::timeline::{Recorder, TimelineClock, What, Who};
use crate::{Signal, Timestamp};
use bounds::Spoken;
use follow::Followed;

/// The epoll token of the listening socket; a connection's is twice its place, a pidfd's one more.
const LISTENER: u64 = u64::MAX;

/// An agent as the server has it.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    pub(crate) script: Script,
    /// How many runs have a number.
    pub(crate) numbers: u32,
    /// The members that are its runs and said hello, in that order.
    pub(crate) runs: Vec<usize>,
    /// How many of them the test has taken.
    pub(crate) taken: usize,
}

/// A descendant that was started and has not said hello.
#[derive(Debug)]
struct Expected {
    agent: usize,
    run: u32,
    name: String,
    /// None after a double fork.
    pid: Option<u32>,
}

impl Expected {
    /// Whether it can still say hello. Its number is its own as long as its parent has not reaped
    /// it, and the parent says when it has.
    fn is_alive(&self) -> bool {
        let Some(pid) = self.pid else { return true };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    }
}

/// A wait of a member that the clock has to end.
type Deadline = (Timestamp, usize, usize, u64);

/// Everything that the harness knows about the processes of one sim.
#[derive(Debug)]
pub(crate) struct Server {
    /// None once nobody is let in any more.
    listener: Option<UnixListener>,
    address: String,
    epoll: Epoll,
    /// Connections that have not said hello yet, by their place.
    strangers: HashMap<usize, Connection>,
    /// The place of each member's connection.
    places: HashMap<usize, usize>,
    next_place: usize,
    pub(crate) members: Vec<Member>,
    by_pid: HashMap<u32, usize>,
    pub(crate) agents: Vec<Named>,
    /// Descendants that were started and have not said hello.
    expected: Vec<Expected>,
    /// The supervisors that are listened to.
    followed: Vec<Followed>,
    /// Processes that were gone when their supervisor was heard to have started them.
    gone: HashSet<u32>,
    /// Processes of agents that ended before they said hello, and that a finding tells of.
    lost: HashSet<u32>,
    spoken: Spoken,
    /// What the kernel calls a process that runs the agents' program.
    program: Option<String>,
    /// Members that have not ended.
    alive: BTreeSet<usize>,
    /// Members that have ended and were not reaped yet.
    zombies: BTreeSet<usize>,
    deadlines: BTreeSet<Deadline>,
    /// Whether waits were added that the timer does not know of.
    pub(crate) has_new_deadline: bool,
    pub(crate) recorder: Recorder,
    /// What time it is for the events that come in.
    pub(crate) now: Timestamp,
    is_virtual: bool,
    last_ping: u64,
    /// What this process could not do for its agents.
    pub(crate) troubles: Vec<String>,
    /// Counts everything that happens: what stands still is stuck.
    pub(crate) progress: u64,
}

impl Server {
    /// Listens on an abstract name of its own, which leaves no file behind.
    pub(crate) fn new(clock: TimelineClock) -> io::Result<Server> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let (listener, name) = loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!(
                "supervise-{}-{number}-{:08x}",
                std::process::id(),
                rand::random::<u32>()
            );
            match UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name)?) {
                Ok(listener) => break (listener, name),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        };
        listener.set_nonblocking(true)?;
        epoll.add(&listener, EpollEvent::new(EpollFlags::EPOLLIN, LISTENER))?;
        Ok(Server {
            listener: Some(listener),
            address: format!("@{name}"),
            epoll,
            strangers: HashMap::new(),
            places: HashMap::new(),
            next_place: 0,
            members: Vec::new(),
            by_pid: HashMap::new(),
            agents: Vec::new(),
            expected: Vec::new(),
            followed: Vec::new(),
            gone: HashSet::new(),
            lost: HashSet::new(),
            spoken: Spoken::default(),
            program: agent_stub::path().ok().and_then(welcome::kernel_name),
            alive: BTreeSet::new(),
            zombies: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            has_new_deadline: false,
            recorder: Recorder::new(clock),
            now: Timestamp::ORIGIN,
            is_virtual: clock == TimelineClock::Virtual,
            last_ping: 0,
            troubles: Vec::new(),
            progress: 0,
        })
    }

    /// Where agents connect to. Unlike any other word on the machine, so also a mark of the sim's
    /// processes.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Readable when there is something to [`pump`](Server::pump).
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// The agent's place. A name that is there already keeps its runs and gets the script.
    pub(crate) fn add_agent(&mut self, name: &str, script: Script) -> usize {
        self.recorder.agent(name);
        if let Some(place) = self.agents.iter().position(|agent| &*agent.name == name) {
            self.agents[place].script = script;
            return place;
        }
        self.agents.push(Named {
            name: name.into(),
            script,
            numbers: 0,
            runs: Vec::new(),
            taken: 0,
        });
        self.agents.len() - 1
    }

    pub(crate) fn record(&mut self, who: &Who, what: What) {
        self.progress += 1;
        self.recorder.record(self.now, who.clone(), what);
    }

    fn finding(&mut self, who: &Who, text: impl Into<String>) {
        self.record(who, What::Finding { text: text.into() });
    }

    /// Takes in what has come, waiting for it at most so long. True where something has.
    pub(crate) fn pump(&mut self, wait: Duration) -> bool {
        let before = self.progress;
        // First: a process is known to be started before it says a word.
        self.hear_supervisors();
        let mut events = [EpollEvent::empty(); 64];
        if !wait.is_zero() {
            // epoll_wait counts in milliseconds. An error is EINTR: nothing has come.
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
        for member in self.zombies.clone() {
            self.look(member, None);
        }
        self.progress != before
    }

    fn receive(&mut self, place: usize) {
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
            // It is gone from epoll with its last descriptor, which its member keeps.
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

    /// A member said something.
    fn hear(&mut self, member: usize, message: Result<Report, MessageError>) {
        // That nothing happens is no news.
        if !matches!(message, Ok(Report::Rest(_) | Report::Pong(_))) {
            self.progress += 1;
        }
        let who = self.members[member].who.clone();
        let report = match message {
            Ok(report) => report,
            Err(error) => {
                return self.finding(&who, format!("it said what is no message: {error}"));
            }
        };
        self.members[member].note(&report);
        let (agent, run) = (self.members[member].agent, self.members[member].run);
        match report {
            Report::Wait { id, nanos } if self.is_virtual => {
                let deadline = self.now + Duration::from_nanos(nanos);
                self.deadlines.insert((deadline, agent, member, id));
                self.has_new_deadline = true;
            }
            Report::Started { name, pid } => {
                let name = String::from_utf8_lossy(&name.0).into_owned();
                let known = |m: &Member| {
                    matches!(&m.who, Who::Run { descendant: Some(d), .. } if **d == *name)
                        && m.agent == agent
                        && m.run == run
                };
                // It may have said hello before its parent said that it started it.
                if !self.members.iter().any(known) {
                    self.expected.push(Expected {
                        agent,
                        run,
                        name,
                        pid,
                    });
                }
            }
            Report::Ready => self.record(&who, What::Ready),
            Report::Beat => self.record(&who, What::Beat),
            Report::Got(signal, count) => {
                self.members[member].signals.push((signal, count, self.now));
                self.record(&who, What::Signal { signal, count });
            }
            Report::Freezing => self.record(&who, What::Frozen),
            Report::Thawed => self.record(&who, What::Thawed),
            Report::Gate(name) => {
                self.record(
                    &who,
                    What::Gate {
                        name: String::from_utf8_lossy(&name.0).into_owned(),
                    },
                );
            }
            Report::Locked(path) => {
                self.record(
                    &who,
                    What::Locked {
                        path: String::from_utf8_lossy(&path.0).into_owned(),
                    },
                );
            }
            Report::Wrote(stream, bytes) => self.record(&who, What::Wrote { stream, bytes }),
            Report::Blocked(stream) => self.record(&who, What::Blocked { stream }),
            Report::Error(text) => {
                self.record(
                    &who,
                    What::Error {
                        text: String::from_utf8_lossy(&text.0).into_owned(),
                    },
                );
            }
            Report::Hello { .. } => self.finding(&who, "it said hello twice"),
            _ => {}
        }
    }

    /// Looks whether a member has ended or was reaped, as its supervisor may have `said`.
    fn look(&mut self, member: usize, said: Option<ExitStatus>) {
        if !self.members[member].said_hello {
            self.accept_of(member);
        }
        let (was_alive, was_reaped) =
            (self.members[member].is_alive(), self.members[member].reaped);
        if !self.members[member].look(said) {
            return;
        }
        if was_alive && let Some((&place, _)) = self.places.iter().find(|(_, m)| **m == member) {
            // What it said last is still in the socket.
            self.receive(place);
            // A descendant may hold the connection open, and nobody talks on it.
            if self.places.remove(&place).is_some()
                && let Some(connection) = &mut self.members[member].connection
            {
                let _ = self.epoll.delete(connection.as_fd());
                connection.close();
            }
        }
        let Member {
            who,
            ended,
            reaped,
            is_descendant,
            ..
        } = &self.members[member];
        let (who, status, reaped, is_descendant) =
            (who.clone(), ended.flatten(), *reaped, *is_descendant);
        if was_alive {
            self.deadlines.retain(|(_, _, m, _)| *m != member);
            self.alive.remove(&member);
            self.record(&who, What::Exit { status });
            self.zombies.insert(member);
        }
        if reaped && !was_reaped {
            self.zombies.remove(&member);
            self.progress += 1;
            if let Some(pidfd) = &self.members[member].pidfd {
                let _ = self.epoll.delete(pidfd);
            }
            self.members[member].close();
            // Who reaps a descendant, and when, is its parent's affair, or init's.
            if !is_descendant {
                self.record(&who, What::Reap);
            }
        }
    }

    /// Whether that process ever said hello.
    pub(crate) fn knows(&self, pid: u32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// The member of that process, while it lives or is a zombie.
    pub(crate) fn member_of(&self, pid: u32) -> Option<&Member> {
        self.by_pid
            .get(&pid)
            .map(|&member| &self.members[member])
            .filter(|member| !member.reaped)
    }

    /// The members that have not ended, and their places.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.alive
            .iter()
            .map(|&member| (member, &self.members[member]))
    }

    /// Whether a process is left, or may be.
    pub(crate) fn has_left(&mut self) -> bool {
        !self.alive.is_empty() || self.zombies().next().is_some() || self.expects_hello()
    }

    /// Members that have ended and that somebody has to reap.
    pub(crate) fn zombies(&self) -> impl Iterator<Item = &Member> {
        self.zombies
            .iter()
            .map(|&member| &self.members[member])
            .filter(|member| !member.is_descendant)
    }

    /// Whether connections or descendants are about to say hello.
    pub(crate) fn expects_hello(&mut self) -> bool {
        self.expected.retain(Expected::is_alive);
        !self.strangers.is_empty() || !self.expected.is_empty()
    }

    /// The programs at the connections that have not said hello.
    pub(crate) fn strangers(&self) -> impl Iterator<Item = String> {
        self.strangers.values().map(|connection| {
            let Some(pid) = connection.peer_pid() else {
                return "a process that cannot be seen from here".to_owned();
            };
            match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
                Ok(name) => name.trim_end().to_owned(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    "a process that is gone".to_owned()
                }
                Err(error) => format!("process {pid}, whose name cannot be read: {error}"),
            }
        })
    }

    /// The earliest deadline that is still to come.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        let due = self
            .deadlines
            .range((self.now, usize::MAX, usize::MAX, u64::MAX)..)
            .next();
        due.map(|(at, ..)| *at)
    }

    /// Ends the first wait that is due. False where none is.
    pub(crate) fn end_next_wait(&mut self) -> bool {
        match self.deadlines.first().copied() {
            Some(deadline) if deadline.0 <= self.now => {
                self.deadlines.remove(&deadline);
                let (_, _, member, id) = deadline;
                self.progress += 1;
                self.tell(member, &Order::Go(id));
                true
            }
            _ => false,
        }
    }

    /// Tells a member something, at once or as soon as it has room for it.
    fn tell(&mut self, member: usize, order: &Order) {
        let had_unsent = self.members[member].has_unsent();
        self.members[member].order(order);
        if !had_unsent
            && self.members[member].has_unsent()
            && let Some((&place, _)) = self.places.iter().find(|(_, m)| **m == member)
        {
            self.listen_for_room(place, member);
        }
    }

    /// Has epoll say when a member takes more, while there is more.
    fn listen_for_room(&self, place: usize, member: usize) {
        let Some(connection) = &self.members[member].connection else {
            return;
        };
        let flags = match connection.has_unsent() {
            true => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
            false => EpollFlags::EPOLLIN,
        };
        let mut event = EpollEvent::new(flags, place as u64 * 2);
        // It fails only for a connection that is not open, and then nothing is unsent.
        let _ = self.epoll.modify(connection.as_fd(), &mut event);
    }

    /// Tells a member something, and counts that as something that happens.
    pub(crate) fn order(&mut self, member: usize, order: &Order) {
        self.progress += 1;
        self.tell(member, order);
    }

    /// Asks a member to prove that it waits.
    pub(crate) fn ping(&mut self, member: usize) {
        self.last_ping += 1;
        self.tell(member, &Order::Ping(self.last_ping));
    }

    /// Signals that a run has trapped so far.
    pub(crate) fn signals(&self, member: usize) -> Vec<(Signal, u64, Timestamp)> {
        self.members[member].signals.clone()
    }
}
