//! The control server: the listening socket, the processes behind it, and what they say.

mod accept;
mod bounds;
mod end;
mod follow;
mod hear;
mod parent;
mod turns;
mod welcome;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_stub::protocol::Order;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use nix::sys::time::TimeSpec;

use super::member::{KernelState, Member};
use crate::pidfd::pid_of_pidfd;
use crate::script::Script;
use crate::timeline::{Instant, Recorder, TimelineClock, What, Who};
use crate::timestamp::Timestamp;
use accept::Stranger;
use agent_stub::Signal;
use bounds::Spoken;
use follow::Followed;
use turns::Turns;

pub(crate) use parent::{Parent, parent_and_start};
pub(crate) use turns::Rank;

/// real-time: how long a look waits until every process that was signalled is dead or at rest.
const DYING: Duration = Duration::from_secs(1);

/// The epoll token of the listening socket. The token of a connection is twice its place. The token of a
/// pidfd is twice its member's index, plus one.
const LISTENER: u64 = u64::MAX;

/// Where a descriptor stands in the order of the processes. Tokio gets the events of ready descriptors in
/// this order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A descriptor that belongs to no process of the sim, by its number.
    Other(RawFd),
    /// The end of a process that is no member, by its process id.
    Stranger(u32),
    /// A member's standard output (0), its standard error (1), or its end (`PIDFD`).
    Member(Rank, u8),
}

/// The end of a member comes after its standard output and standard error.
const PIDFD: u8 = 2;

/// An agent: its script and its runs.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    pub(crate) script: Script,
    /// How many run numbers were given out.
    pub(crate) numbers: u32,
    /// The members that are runs of this agent and have said hello, in the order in which they were taken in.
    pub(crate) runs: Vec<usize>,
    /// How many of these runs the test has taken with `Agent::started`.
    pub(crate) taken: usize,
}

/// A descendant that was started and has not said hello.
#[derive(Debug)]
struct Expected {
    /// The member that started it. `nth` says for which time that member started a descendant, from 1.
    starter: usize,
    nth: u32,
    /// `None` after a double fork, whose middle process is gone.
    pid: Option<u32>,
}

impl Expected {
    /// Whether this descendant can still say hello. No other process can get its process id before its parent
    /// reaps it, and the parent reports when it has.
    fn is_alive(&self) -> bool {
        let Some(pid) = self.pid else { return true };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    }
}

/// Everything that the harness knows about the processes of one sim.
#[derive(Debug)]
pub(crate) struct Server {
    /// `None` once the server lets nobody in any more.
    listener: Option<UnixListener>,
    address: String,
    epoll: Epoll,
    /// The connections whose process is no member yet, by their place.
    strangers: HashMap<usize, Stranger>,
    /// The member of each connection, by the connection's place.
    places: HashMap<usize, usize>,
    next_place: usize,
    pub(crate) members: Vec<Member>,
    by_pid: HashMap<u32, usize>,
    pub(crate) agents: Vec<Named>,
    /// Descendants that were started and have not said hello.
    expected: Vec<Expected>,
    /// The supervisors that the server listens to.
    followed: Vec<Followed>,
    /// Processes that were already gone when the server heard a supervisor say that it had started them.
    gone: HashSet<u32>,
    /// Processes of agents that ended before they said hello. The sim's failure, or a line on standard error,
    /// tells of them.
    lost: HashSet<u32>,
    spoken: Spoken,
    /// The name that the kernel gives to a process that runs the agents' program.
    program: Option<String>,
    /// The standard streams of the processes, as /proc names them. The value says which process had the
    /// stream first, and as which stream: 0 is standard output, 1 is standard error.
    streams: HashMap<PathBuf, (Rank, u8)>,
    /// The members that have done something since tokio last looked for events.
    pub(crate) actors: BTreeSet<usize>,
    /// The processes that are no members and have died since tokio last looked for events.
    pub(crate) strange_deaths: Vec<u32>,
    /// Children that are no members and have ended.
    dead_strangers: HashSet<u32>,
    /// Members that have not ended.
    alive: BTreeSet<usize>,
    /// Members that have ended and were not reaped yet.
    zombies: BTreeSet<usize>,
    /// Members that another process than this one has reaped. The timeline does not have these reaps yet.
    reaped_by_others: BTreeSet<usize>,
    /// The processes that are no agents and were blocked in a read when everything was last at rest.
    readers: HashSet<u32>,
    /// Members that are dead, but nobody has said yet how they ended.
    dying: BTreeSet<usize>,
    turns: Turns,
    /// Whether the body is over. From then on nobody gets a turn.
    pub(crate) is_ending: bool,
    /// Whether the idle gate decides when the server takes in what has come.
    pub(crate) is_gated: bool,
    /// Counts the steps. Within an instant, things happen in steps, one after the other: each turn of a
    /// process is a step, and each turn of the code under test.
    step: u64,
    /// The member whose turn this step is. What others do during that turn, they do after the member has
    /// acted: it belongs to the next step.
    acting: Option<usize>,
    /// Counts the turns of the code under test: how often tokio has come to rest and looked for events.
    pub(crate) turns_of_code: u64,
    /// Whether a member has begun a wait that the timer does not know of yet.
    pub(crate) has_new_deadline: bool,
    pub(crate) recorder: Recorder,
    /// The time that events get when they come in.
    pub(crate) now: Timestamp,
    is_virtual: bool,
    last_ping: u64,
    /// What this process could not do for its agents, one text each.
    pub(crate) troubles: Vec<String>,
    /// Counts what is more than talk: starts, ends, reaps, orders of the test, and what scripts of known
    /// length say.
    pub(crate) lives: u64,
    /// How many processes have ended: members, and children that are no members.
    pub(crate) ends: u64,
    /// Counts everything that happens. If it stands still for long, the sim is stuck.
    pub(crate) progress: u64,
}

impl Server {
    /// Listens on a new abstract socket name, which leaves no file behind.
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
            streams: HashMap::new(),
            actors: BTreeSet::new(),
            strange_deaths: Vec::new(),
            dead_strangers: HashSet::new(),
            alive: BTreeSet::new(),
            zombies: BTreeSet::new(),
            reaped_by_others: BTreeSet::new(),
            readers: HashSet::new(),
            dying: BTreeSet::new(),
            turns: Turns::default(),
            is_ending: false,
            is_gated: false,
            step: 0,
            acting: None,
            turns_of_code: 0,
            has_new_deadline: false,
            recorder: Recorder::new(clock),
            now: Timestamp::ORIGIN,
            is_virtual: clock == TimelineClock::Virtual,
            last_ping: 0,
            troubles: Vec::new(),
            lives: 0,
            ends: 0,
            progress: 0,
        })
    }

    /// The address that agents connect to. No other word on the machine is like it, so it is also the mark of
    /// the sim's processes.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A descriptor that is readable when there is something to [`pump`](Server::pump).
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }

    /// Adds an agent, and returns its place in `agents`. If there is an agent of that name already, it keeps
    /// its runs and gets the new script.
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

    /// Records an event that no process of the sim has caused in its turn.
    pub(crate) fn record(&mut self, who: &Who, what: What) {
        self.progress += 1;
        let instant = self.instant_of(false);
        self.recorder.record(instant, who.clone(), &[], what);
    }

    /// Records what happened to a member.
    fn record_of(&mut self, member: usize, what: What) {
        // The code under test reaps, not the member.
        let is_reap = matches!(what, What::Reap);
        if !is_reap {
            self.actors.insert(member);
        }
        self.progress += 1;
        let this = &self.members[member];
        let is_killed = matches!(what, What::Exit { .. }) && !this.ends_by_itself();
        let is_its_act = self.acting == Some(member) && !is_reap && !is_killed;
        let instant = self.instant_of(is_its_act);
        self.recorder
            .record(instant, this.who.clone(), &this.path, what);
    }

    /// The instant of an event. While a process has its turn, what that process does belongs to this step,
    /// and everything else to the next. A thread or a shell that hears of the act goes on before that process
    /// has come to rest.
    fn instant_of(&self, is_the_turns: bool) -> Instant {
        let is_since = self.acting.is_some() && !is_the_turns;
        Instant {
            at: self.now,
            step: self.step + u64::from(is_since),
        }
    }

    /// Begins a new step: what happens from here on comes after everything that was recorded before.
    pub(crate) fn begin_step(&mut self) {
        self.step += 1 + u64::from(self.acting.take().is_some());
    }

    fn finding(&mut self, who: &Who, text: impl Into<String>) {
        self.record(who, What::Finding { text: text.into() });
    }

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

    /// Whether a process with this number is or was a member: it has said hello, or a supervisor has said
    /// that it started this process.
    pub(crate) fn knows(&self, pid: u32) -> bool {
        self.by_pid.contains_key(&pid)
    }

    /// The last member that had this process id.
    pub(crate) fn last_of(&self, pid: u32) -> Option<&Member> {
        self.by_pid.get(&pid).map(|&member| &self.members[member])
    }

    /// The member with this process id, if it lives or is a zombie.
    pub(crate) fn member_of(&self, pid: u32) -> Option<&Member> {
        self.last_of(pid).filter(|member| !member.reaped)
    }

    /// The name that the kernel gives to a process that runs the agents' program.
    pub(crate) fn program(&self) -> Option<&str> {
        self.program.as_deref()
    }

    /// The members that have not ended, each with its index in `members`.
    pub(crate) fn alive(&self) -> impl Iterator<Item = (usize, &Member)> {
        self.alive
            .iter()
            .map(|&member| (member, &self.members[member]))
    }

    /// Whether a process of the sim is left, or may still say hello.
    pub(crate) fn has_left(&mut self) -> bool {
        !self.alive.is_empty() || self.zombies().next().is_some() || self.expects_hello()
    }

    /// The runs that have ended and that somebody still has to reap. Descendants are left out.
    pub(crate) fn zombies(&self) -> impl Iterator<Item = &Member> {
        self.zombies
            .iter()
            .map(|&member| &self.members[member])
            .filter(|member| !member.is_descendant)
    }

    /// Whether the process with this number had ended before this turn of the code under test, and nobody has
    /// reaped it. An end in this turn does not count, even if it was taken in already: the watchdog takes in
    /// ends, too.
    pub(crate) fn had_ended(&self, pid: u32) -> bool {
        let is_earlier = |member: &Member| !self.is_gated || member.ended_in < self.turns_of_code;
        self.dead_strangers.contains(&pid)
            || self
                .zombies()
                .any(|member| member.pid == pid && is_earlier(member))
    }

    /// Whether any child has ended before it said hello, reaped or not.
    pub(crate) fn has_dead_strangers(&self) -> bool {
        !self.dead_strangers.is_empty()
    }

    /// Whether a descendant was started that has still to say hello.
    pub(crate) fn expects_hello(&mut self) -> bool {
        self.expected.retain(Expected::is_alive);
        let has_said_it = |expected: &Expected| {
            let lineages = self.strangers.values().filter_map(Stranger::lineage);
            let starter = self.members[expected.starter].own_pid;
            let mut lineages = lineages.map(|lineage| (lineage.starter, lineage.nth));
            lineages.any(|lineage| lineage == (starter, expected.nth))
        };
        !self.expected.iter().all(has_said_it)
    }

    /// The process ids of those that have said hello and wait to be taken in; 0 for one that cannot be seen
    /// from here.
    pub(crate) fn hellos(&self) -> impl Iterator<Item = u32> {
        let strangers = self.strangers.values();
        let said = strangers.filter(|stranger| stranger.hello.is_some());
        said.map(|stranger| stranger.pid.unwrap_or(0))
    }

    /// Whether the process with this number has said hello and waits to be taken in.
    pub(crate) fn has_said_hello(&self, pid: u32) -> bool {
        let strangers = self.strangers.values();
        let mut said = strangers.filter(|stranger| stranger.hello.is_some());
        said.any(|stranger| stranger.pid == Some(pid))
    }

    /// The place of a descriptor of this process in the order of the processes. The descriptor may be a pidfd
    /// of a process, or a pipe that a process of the sim writes to. Any other descriptor comes first. Then
    /// come processes that are no members, by process id, which is the order in which they were started.
    /// Members come last, by their rank.
    pub(crate) fn place_of(&self, descriptor: RawFd) -> Place {
        let link = std::fs::read_link(format!("/proc/self/fd/{descriptor}")).unwrap_or_default();
        if link.as_os_str() != "anon_inode:[pidfd]" {
            return match self.streams.get(link.as_path()) {
                Some((rank, stream)) => Place::Member(rank.clone(), *stream),
                None => Place::Other(descriptor),
            };
        }
        let pid = pid_of_pidfd(descriptor).unwrap_or(0);
        match self.by_pid.get(&pid) {
            Some(&member) => Place::Member(self.members[member].rank(), PIDFD),
            None => Place::Stranger(pid),
        }
    }

    /// The places of the ends of this process's children that have ended since tokio last looked for events.
    pub(crate) fn ended_since_the_last_look(&self) -> Vec<Place> {
        let members = self.actors.iter().map(|&member| &self.members[member]);
        let ended =
            members.filter(|member| member.is_child && !member.is_alive() && !member.reaped);
        let ends = ended.map(|member| Place::Member(member.rank(), PIDFD));
        let strangers = self.strange_deaths.iter().map(|&pid| Place::Stranger(pid));
        ends.chain(strangers).collect()
    }

    /// The processes that have connected and have not said hello; 0 for one that cannot be seen from here.
    /// Stopped processes are left out: they cannot say anything.
    pub(crate) fn silent_strangers(&self) -> Vec<u32> {
        let strangers = self.strangers.values();
        let silent = strangers.filter(|stranger| stranger.hello.is_none());
        let silent = silent.filter(|stranger| !stranger.pid.is_some_and(is_stopped));
        silent.map(|stranger| stranger.pid.unwrap_or(0)).collect()
    }

    /// Whether a run has come to rest for the first time, is blocked, or has ended. Always true without the
    /// gate.
    pub(crate) fn has_started(&self, member: usize) -> bool {
        let member = &self.members[member];
        !self.is_gated || member.has_rested || member.is_blocked_said || !member.is_alive()
    }

    /// Records which members are blocked, now that nothing else goes on. Returns whether one of them was not
    /// blocked before.
    pub(crate) fn see_blocked(&mut self) -> bool {
        let mut any = false;
        for member in self.alive.iter().copied().collect::<Vec<_>>() {
            // The stream has room again, and the member goes on in its turn.
            if self.turns.has_due(self.now, member) {
                continue;
            }
            let this = &mut self.members[member];
            if let Some(stream) = this.blocked
                && !std::mem::replace(&mut this.is_blocked_said, true)
            {
                any = true;
                self.record_of(member, What::Blocked { stream });
            }
        }
        any
    }

    /// Records which members go on after they were frozen, now that all are at rest. Members that were
    /// stopped again or killed together with the SIGCONT are left out: whether they still said that they go
    /// on is a matter of chance. Returns whether any member goes on.
    pub(crate) fn see_thawed(&mut self) -> bool {
        let has_thawed = |(place, member): (usize, &Member)| {
            let goes_on = || member.kernel_state() != KernelState::Stopped;
            (member.has_thawed && goes_on()).then_some(place)
        };
        let thawed: Vec<usize> = self.alive().filter_map(has_thawed).collect();
        for &member in &thawed {
            self.members[member].has_thawed = false;
            self.record_of(member, What::Thawed);
        }
        !thawed.is_empty()
    }

    /// Whether a member waits for room in a stream. Whoever reads or closes that stream wakes the member.
    pub(crate) fn has_blocked(&self) -> bool {
        let mut alive = self.alive();
        alive.any(|(_, member)| member.blocked.is_some())
    }

    /// Marks the members that have come to rest for the first time: they count as started. Returns whether
    /// there are any.
    pub(crate) fn see_rest(&mut self) -> bool {
        let before = self.progress;
        for member in self.alive.iter().copied().collect::<Vec<_>>() {
            let this = &self.members[member];
            if this.has_rested || !this.was_told || this.blocked.is_some() {
                continue;
            }
            let is_stopped = || this.kernel_state() == KernelState::Stopped;
            let is_at_rest = this.says_it_rests();
            if is_stopped() || is_at_rest && !self.turns.has_due(self.now, member) {
                self.members[member].has_rested = true;
                self.progress += 1;
            }
        }
        self.progress != before
    }

    /// The names of the programs at the connections that have not said hello.
    pub(crate) fn strangers(&self) -> impl Iterator<Item = String> {
        let strangers = self.strangers.values();
        strangers
            .filter(|stranger| stranger.hello.is_none())
            .map(|stranger| {
                let Some(pid) = stranger.pid else {
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

    /// The earliest instant, after this one, at which a process may act.
    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.turns.next_after(self.now)
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
    fn tell(&mut self, member: usize, order: &Order) {
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
    fn listen_for_room(&self, place: usize, member: usize) {
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
    #[cfg(feature = "properties")]
    pub(crate) fn order_at_once(&mut self, member: usize, order: &Order) {
        self.progress += 1;
        self.tell(member, order);
    }

    /// Sends a ping, which a member answers only when it has nothing left to do but wait.
    pub(crate) fn ping(&mut self, member: usize) {
        self.last_ping += 1;
        self.tell(member, &Order::Ping(self.last_ping));
    }

    /// The signals that a run has trapped so far.
    pub(crate) fn signals(&self, member: usize) -> Vec<(Signal, u64, Timestamp)> {
        self.members[member].signals.clone()
    }
}

/// Whether a process is stopped, by the third field of its /proc/PID/stat (proc(5)).
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next();
    state.is_some_and(|state| state.starts_with('T'))
}
