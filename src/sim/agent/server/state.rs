//! The server itself: its listening socket, and what it knows of the processes behind it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags};

use super::expected::Expected;
#[cfg(feature = "supervisor")]
use super::followed::Followed;
use super::named::Named;
use super::spoken::Spoken;
use super::stranger::Stranger;
use super::turns::Turns;
use crate::script::Script;
use crate::sim::agent::member::Member;
use crate::sim::agent::rank::Rank;
use crate::timeline::{Recorder, TimelineClock};
use crate::timestamp::Timestamp;

/// The epoll token of the listening socket. The token of a connection is twice its place. The token of a
/// pidfd is twice its member's index, plus one.
pub(super) const LISTENER: u64 = u64::MAX;

/// Everything that the harness knows about the processes of one sim.
#[derive(Debug)]
pub(crate) struct Server {
    /// `None` once the server lets nobody in any more.
    pub(super) listener: Option<UnixListener>,
    address: String,
    pub(super) epoll: Epoll,
    /// The connections whose process is no member yet, by their place.
    pub(super) strangers: HashMap<usize, Stranger>,
    /// The member of each connection, by the connection's place.
    pub(super) places: HashMap<usize, usize>,
    pub(super) next_place: usize,
    pub(crate) members: Vec<Member>,
    pub(super) by_pid: HashMap<u32, usize>,
    pub(crate) agents: Vec<Named>,
    /// Descendants that were started and have not said hello.
    pub(super) expected: Vec<Expected>,
    /// The supervisors that the server listens to.
    #[cfg(feature = "supervisor")]
    pub(super) followed: Vec<Followed>,
    /// Processes that were already gone when the server heard a supervisor say that it had started them.
    pub(super) gone: HashSet<u32>,
    /// Processes of agents that ended before they said hello. The sim's failure, or a line on standard error,
    /// tells of them.
    pub(super) lost: HashSet<u32>,
    pub(super) spoken: Spoken,
    /// The name that the kernel gives to a process that runs the agents' program.
    pub(super) program: Option<String>,
    /// The standard streams of the processes, as /proc names them. The value says which process had the
    /// stream first, and as which stream: 0 is standard output, 1 is standard error.
    pub(super) streams: HashMap<PathBuf, (Rank, u8)>,
    /// The members that have done something since tokio last looked for events.
    pub(crate) actors: BTreeSet<usize>,
    /// The processes that are no members and have died since tokio last looked for events.
    pub(crate) strange_deaths: Vec<u32>,
    /// Children that are no members and have ended.
    pub(super) dead_strangers: HashSet<u32>,
    /// Members that have not ended.
    pub(super) alive: BTreeSet<usize>,
    /// Members that have ended and were not reaped yet.
    pub(super) zombies: BTreeSet<usize>,
    /// Members that another process than this one has reaped. The timeline does not have these reaps yet.
    pub(super) reaped_by_others: BTreeSet<usize>,
    /// The processes that are no agents and were blocked in a read when everything was last at rest.
    pub(super) readers: HashSet<u32>,
    /// Members that are dead, but nobody has said yet how they ended.
    pub(super) dying: BTreeSet<usize>,
    pub(super) turns: Turns,
    /// Whether the body is over. From then on nobody gets a turn.
    pub(crate) is_ending: bool,
    /// Whether the idle gate decides when the server takes in what has come.
    pub(crate) is_gated: bool,
    /// Counts the steps. Within an instant, things happen in steps, one after the other: each turn of a
    /// process is a step, and each turn of the code under test.
    pub(super) step: u64,
    /// The member whose turn this step is. What others do during that turn, they do after the member has
    /// acted: it belongs to the next step.
    pub(super) acting: Option<usize>,
    /// Counts the turns of the code under test: how often tokio has come to rest and looked for events.
    pub(crate) turns_of_code: u64,
    /// Whether a member has begun a wait that the timer does not know of yet.
    pub(crate) has_new_deadline: bool,
    pub(crate) recorder: Recorder,
    /// The time that events get when they come in.
    pub(crate) now: Timestamp,
    pub(super) is_virtual: bool,
    pub(super) last_ping: u64,
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
            let name = format!("supervise-{}-{number}-{:08x}", std::process::id(), random());
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
            #[cfg(feature = "supervisor")]
            followed: Vec::new(),
            gone: HashSet::new(),
            lost: HashSet::new(),
            spoken: Spoken::default(),
            program: agent_stub::path().ok().and_then(kernel_name),
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
}

/// What the kernel calls a process that runs this program: the first 15 bytes of the program's file name.
fn kernel_name(program: &Path) -> Option<String> {
    let name = program.file_name()?.as_bytes();
    let name = &name[..name.len().min(15)];
    String::from_utf8(name.to_vec()).ok()
}

/// A number that differs from process to process: the keys of std's hash maps are drawn at random.
fn random() -> u32 {
    let drawn = RandomState::new().build_hasher().finish();
    u32::try_from(drawn >> 32).unwrap_or(0)
}
