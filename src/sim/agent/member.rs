//! One process that the harness knows: an agent's run, or a descendant of one.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use agent_stub::Hygiene;
use agent_stub::protocol::{Order, Report};
use agent_stub::script::Stream;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};

use super::connection::Connection;
use super::parent::Parent;
use super::rank::Rank;
use crate::pidfd::{
    ended_status, is_own_lack, kernel_is_since, reaped_status, send_signal, zombie_status,
};
use crate::status::ExitStatus;
use crate::timeline::EventSource;
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// /proc/PID/stat is held open if its descriptor's number is at most the limit on descriptors divided by
/// this.
const HELD: u64 = 4;

/// The state of a process, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelState {
    /// Asleep until something happens.
    Sleeping,
    /// Stopped by a signal.
    Stopped,
    /// Anything else: running, about to run, or dead.
    Running,
    /// Not known: /proc cannot be read, or the member's descriptors are closed.
    Unknown,
}

/// The death of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// Whether somebody has reaped it.
    pub(crate) is_reaped: bool,
}

/// A process that said hello, or that a supervisor said it started.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) pid: u32,
    /// `None` once it was reaped. A sim may have any number of runs, and must not keep a descriptor for each.
    pub(crate) pidfd: Option<OwnedFd>,
    /// `None` before it has said hello, and once it was reaped.
    pub(crate) connection: Option<Connection>,
    pub(crate) said_hello: bool,
    pub(crate) who: EventSource,
    /// The place of the agent that it belongs to. `run` is the number of that agent's run.
    pub(crate) agent: usize,
    pub(crate) run: u32,
    pub(crate) is_descendant: bool,
    /// Where it stands among the processes of its run: for which time each of its ancestors, from the run on,
    /// started a process. `[2, 1]` is the first process that was started by the second process that the run
    /// started.
    pub(crate) path: Vec<u32>,
    /// The member that started it, if it is a descendant.
    pub(crate) starter: Option<usize>,
    /// The process id that it gives for itself: another number if it is in another pid namespace.
    pub(crate) own_pid: u32,
    /// The process id that it gives for its parent.
    pub(crate) own_parent: u32,
    /// How it ended, as its parent says; `None` inside if the parent could not tell.
    pub(crate) told_status: Option<Option<i32>>,
    /// Whether it is a child of this process, which then is the one that reaps it.
    pub(crate) is_child: bool,
    /// Who reaps it, if it is a run.
    pub(crate) parent: Parent,
    /// In which turn of the code under test it ended.
    pub(crate) ended_in: u64,
    /// How many statements its run does at most.
    pub(crate) statements: u64,
    /// Whether it waits for a file. It looks for the file when it is pinged.
    pub(crate) is_watching: bool,
    /// Whether a followed supervisor has said that it started this process.
    #[cfg(feature = "supervisor")]
    pub(crate) is_followed: bool,
    /// /proc/PID/stat, held open if there are enough descriptors.
    stat: Option<File>,
    /// How many orders were sent to it, not counting pings.
    sent: u64,
    /// How many orders it had obeyed when it last said that it rests. `None` if it has said something since.
    rested: Option<u64>,
    pub(crate) blocked: Option<Stream>,
    /// Whether the timeline says that it is blocked.
    pub(crate) is_blocked_said: bool,
    /// Whether it has come to rest since it was told what its run does.
    pub(crate) has_rested: bool,
    /// Whether it was told something, or there is nothing to tell it.
    pub(crate) was_told: bool,
    pub(crate) gate: Option<String>,
    /// Whether it said that it goes on after a stop. The gate looks at this when all are at rest: another
    /// stop, or its death, may have come together with the SIGCONT.
    pub(crate) has_thawed: bool,
    /// How many times it has said that it is ready.
    pub(crate) readies: u64,
    pub(crate) signals: Vec<(Signal, u64, Timestamp)>,
    hygiene: Hygiene,
    /// What it inherited, one report for each time it said so.
    pub(crate) hygiene_reports: Vec<Hygiene>,
    /// The last thing it said since its hello, for the text about what it does.
    last: Option<Report>,
    /// How it ended, once it has; `None` inside if nobody could tell.
    pub(crate) ended: Option<Option<ExitStatus>>,
    pub(crate) reaped: bool,
    /// The ping that it has not answered yet.
    pinged: Option<u64>,
}

impl Member {
    pub(crate) fn new(
        pid: u32,
        pidfd: OwnedFd,
        who: EventSource,
        (agent, run, path): (usize, u32, Vec<u32>),
    ) -> Member {
        Member {
            pid,
            pidfd: Some(pidfd),
            connection: None,
            said_hello: false,
            who,
            agent,
            run,
            is_descendant: !path.is_empty(),
            path,
            starter: None,
            own_pid: pid,
            own_parent: 0,
            told_status: None,
            is_child: false,
            parent: Parent::This,
            ended_in: 0,
            statements: 0,
            is_watching: false,
            #[cfg(feature = "supervisor")]
            is_followed: false,
            stat: None,
            sent: 0,
            rested: None,
            blocked: None,
            is_blocked_said: false,
            has_rested: false,
            was_told: false,
            gate: None,
            has_thawed: false,
            readies: 0,
            signals: Vec::new(),
            hygiene: Hygiene::default(),
            hygiene_reports: Vec::new(),
            last: None,
            ended: None,
            reaped: false,
            pinged: None,
        }
    }

    /// Opens its /proc/PID/stat, to be held open.
    pub(crate) fn open_stat(&mut self) {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
        // The kernel gives out the lowest free number. So a high number says that many descriptors are in
        // use, and the agents to come need the rest.
        let leaves_enough =
            |stat: &File| u64::from(stat.as_raw_fd().unsigned_abs()) <= limit / HELD;
        self.stat = File::open(self.stat_path()).ok().filter(leaves_enough);
    }

    fn stat_path(&self) -> String {
        format!("/proc/{}/stat", self.pid)
    }

    /// Reads the beginning of its /proc/PID/stat. Fails once the process was reaped.
    fn read_stat<'a>(&self, text: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = match &self.stat {
            Some(stat) => stat.read_at(text, 0)?,
            None => {
                let length = File::open(self.stat_path())?.read_at(text, 0)?;
                // Once the process was reaped, its number may be another's.
                if self.death().is_some_and(|death| death.is_reaped) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
                length
            }
        };
        Ok(&text[..length])
    }

    /// Where it stands among the processes of the sim.
    pub(crate) fn rank(&self) -> Rank {
        Rank {
            agent: self.agent,
            run: self.run,
            path: self.path.clone(),
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.ended.is_none()
    }

    /// Takes note that it is told to pass that gate. If it comes to the gate again, it says so.
    pub(crate) fn pass(&mut self, gate: &[u8]) {
        if self.gate.as_deref().map(str::as_bytes) == Some(gate) {
            self.gate = None;
        }
    }

    /// Sends an order. After any order but a ping it does not count as at rest until it says again that it
    /// rests.
    pub(crate) fn order(&mut self, order: &Order) {
        match order {
            Order::Ping(id) => self.pinged = Some(*id),
            _ => self.sent += 1,
        }
        if let Some(connection) = &mut self.connection {
            connection.send(order);
        }
    }

    /// Whether it was sent orders that its connection has no room for yet.
    pub(crate) fn has_unsent(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::has_unsent)
    }

    /// Takes note of what it said about itself.
    pub(crate) fn note(&mut self, report: &Report) {
        match report {
            Report::Pong(id) => {
                if self.pinged == Some(*id) {
                    self.pinged = None;
                }
                return;
            }
            Report::Rest(obeyed) => {
                self.rested = Some(*obeyed);
                return;
            }
            _ => {}
        }
        self.rested = None;
        self.is_watching = matches!(report, Report::Watching(_));
        if !matches!(report, Report::Turn { .. }) {
            self.last = Some(report.clone());
        }
        match report {
            Report::Blocked(stream) => self.blocked = Some(*stream),
            Report::Gate(name) => self.gate = Some(String::from_utf8_lossy(&name.0).into_owned()),
            Report::Thawed => self.has_thawed = true,
            Report::Ready => self.readies += 1,
            Report::Wrote(..) => (self.blocked, self.is_blocked_said) = (None, false),
            Report::Hygiene(agent_stub::Finding::End) => {
                let report = std::mem::take(&mut self.hygiene);
                self.hygiene_reports.push(report);
            }
            Report::Hygiene(finding) => self.hygiene.add(finding.clone()),
            _ => {}
        }
    }

    /// Whether it said, after all that it was told, that nothing is left to do but wait.
    pub(crate) fn says_it_rests(&self) -> bool {
        self.rested == Some(self.sent)
    }

    /// Whether the last thing it said is that it is about to end.
    pub(crate) fn ends_by_itself(&self) -> bool {
        matches!(self.last, Some(Report::Exiting(_) | Report::Dying(_)))
    }

    /// What it was about to write when it ended. This counts as written: whoever reads it may have ended the
    /// process before the process could say that it wrote it. A write of that length is done at once or not
    /// at all.
    pub(crate) fn last_write(&self, status: Option<ExitStatus>) -> Option<(Stream, u64)> {
        match self.last {
            // It died of SIGPIPE: nobody reads the stream any more.
            _ if status.is_some_and(|status| status.signal() == Some(Signal::PIPE)) => None,
            Some(Report::Writing(stream, bytes)) => Some((stream, bytes)),
            _ => None,
        }
    }

    pub(crate) fn awaits_pong(&self) -> bool {
        self.pinged.is_some()
    }

    /// Its state: the third field of /proc/PID/stat, after the program's name in parentheses.
    pub(crate) fn kernel_state(&self) -> KernelState {
        if self.pidfd.is_none() {
            return KernelState::Unknown;
        }
        let mut text = [0; 128];
        let text = match self.read_stat(&mut text) {
            Ok(text) => text,
            Err(error) if is_own_lack(&error) => return KernelState::Unknown,
            // It was reaped. That is for `death` to tell.
            Err(_) => return KernelState::Running,
        };
        match text
            .iter()
            .rposition(|b| *b == b')')
            .and_then(|end| text.get(end + 2))
        {
            Some(b'S') => KernelState::Sleeping,
            Some(b'T' | b't') => KernelState::Stopped,
            Some(_) => KernelState::Running,
            None => KernelState::Unknown,
        }
    }

    /// Whether the process, which shows that it sleeps, has also left its processor. Before the kernel says in
    /// which system call a process sleeps, it waits for that. It says "running" if the process went on
    /// instead. If it does not answer us, the process counts as asleep. Source: `task_current_syscall` of
    /// Linux.
    pub(crate) fn is_off_its_processor(&self) -> bool {
        let call = std::fs::read(format!("/proc/{}/syscall", self.pid));
        call.map_or(true, |call| !call.starts_with(b"running"))
    }

    /// Whether it is a child of this process that is awake and not dead. A signal may have woken it, and may
    /// be about to end it.
    pub(crate) fn may_be_dying(&self) -> bool {
        self.is_child && self.kernel_state() == KernelState::Running && self.death().is_none()
    }

    /// Whether it is dead and, if so, whether it was reaped. `None` while it lives, and after `close`.
    pub(crate) fn death(&self) -> Option<Death> {
        let pidfd = self.pidfd.as_ref()?;
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let events = match poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => fds[0].revents().unwrap_or(PollFlags::empty()),
            Err(_) => PollFlags::empty(),
        };
        // Before Linux 6.9 only a signal shows that a process was reaped: it takes none.
        let is_reaped = || {
            !kernel_is_since(6, 9)
                && send_signal(pidfd.as_fd(), None)
                    .is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
        };
        (!events.is_empty()).then(|| Death {
            is_reaped: events.contains(PollFlags::POLLHUP) || is_reaped(),
        })
    }

    /// How it ended, as the kernel says. For a member that is dead.
    pub(crate) fn status_by_kernel(&self) -> Option<ExitStatus> {
        let pidfd = self.pidfd.as_ref()?.as_fd();
        let by_stat = || zombie_status(self.pid, |text| self.read_stat(text).ok());
        // The process may be reaped between two of these calls.
        ended_status(pidfd)
            .or_else(by_stat)
            .or_else(|| reaped_status(pidfd))
    }

    /// Closes the descriptors that are open for it: it was reaped, or the sim is over.
    pub(crate) fn close(&mut self) {
        (self.stat, self.pidfd, self.connection) = (None, None, None);
    }

    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            // This fails only if there is nothing left to kill.
            let _ = send_signal(pidfd.as_fd(), Some(Signal::KILL));
        }
    }

    /// What it does, in words, for the text about a stuck sim.
    pub(crate) fn doing(&self) -> String {
        let state = match (self.ended, self.kernel_state()) {
            (Some(_), _) if self.reaped => "ended".to_owned(),
            (Some(_), _) => "a zombie that nobody has reaped".to_owned(),
            (None, KernelState::Stopped) => "stopped".to_owned(),
            (None, _) if self.blocked.is_some() => {
                let stream = self
                    .blocked
                    .map_or(String::new(), |stream| stream.to_string());
                format!(
                    "blocked in a write, since its {stream} is full and nobody reads it: have the code under test \
                     read it, or start the run with `Stdio::null()` there"
                )
            }
            (None, _) if self.says_it_rests() => "waiting".to_owned(),
            (None, _) => "running".to_owned(),
        };
        if !self.said_hello {
            return format!("{} is {state}; it has not said hello", self.who);
        }
        let is_cut = |connection: &Connection| !connection.is_open();
        let cut = if self.is_alive() && self.connection.as_ref().is_some_and(is_cut) {
            "; its control connection has ended"
        } else {
            ""
        };
        let said = match state.starts_with("blocked") {
            true => String::new(),
            false => format!("; {}", self.said()),
        };
        format!("{} is {state}{cut}{said}", self.who)
    }

    /// What it last said about itself, in words.
    pub(crate) fn said(&self) -> String {
        let Some(last) = &self.last else {
            return "it has only said who it is".to_owned();
        };
        let what = match last {
            Report::Idle => "it has done all that it was told".to_owned(),
            Report::Wait { nanos, .. } => {
                format!("it waits for {:?}", Duration::from_nanos(*nanos))
            }
            Report::Watching(path) => format!("it waits for the file {path}"),
            Report::Gate(gate) => format!("it waits at its gate {gate}"),
            Report::Blocked(stream) => format!("its {stream} takes no more"),
            Report::Writing(stream, _) => format!("it writes to its {stream}"),
            Report::Wrote(stream, 1) => format!("it wrote 1 byte to its {stream}"),
            Report::Wrote(stream, bytes) => format!("it wrote {bytes} bytes to its {stream}"),
            Report::Got(signal, 1) => format!("it took {signal}"),
            Report::Got(signal, count) => format!("it took {signal}, {count} times by then"),
            Report::Ready => "it is ready".to_owned(),
            Report::Beat => "it is alive (`beat`)".to_owned(),
            Report::Locked(path) => format!("it has the lock on {path}"),
            Report::Started { name, .. } => format!("it started {name}"),
            Report::Reaped { .. } => "it reaped one that it had started".to_owned(),
            Report::Freezing => "it stops itself".to_owned(),
            Report::Thawed => "it goes on after it was stopped".to_owned(),
            Report::Exiting(code) => format!("it exits with code {code}"),
            Report::Dying(signal) => format!("it dies by {signal}"),
            Report::Hygiene(_) => "what it inherited".to_owned(),
            Report::Error(text) => format!("this could not be done: {text}"),
            other => format!("`{other}`"),
        };
        format!("it last said: {what}")
    }
}
