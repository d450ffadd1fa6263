//! One process that the harness knows: an agent's run, or a descendant of one.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use agent_stub::Hygiene;
use agent_stub::protocol::{Lines, MessageError, Order, Report};
use agent_stub::script::Stream;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::server::{Parent, Rank};
use crate::process::{
    ended_status, is_own_lack, kernel_is_since, reaped_status, send_signal, zombie_status,
};
use crate::status::ExitStatus;
use crate::timeline::Who;
use crate::{Signal, Timestamp};

/// `SO_PEERPIDFD` of linux/socket.h, which libc lacks. Since Linux 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// A file in /proc is held open where its number is at most this part of the limit on descriptors.
const HELD: u64 = 4;

/// How many bytes are read at one look: more than a socket holds, so that nobody's last words are cut.
const PER_LOOK: u64 = 1 << 20;

/// One control connection, before and after it said who it is.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    lines: Lines,
    /// How many bytes it has said.
    pub(crate) heard: u64,
    open: bool,
    /// What the other end has no room for: a process that is stopped takes nothing.
    unsent: VecDeque<u8>,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            lines: Lines::new(),
            heard: 0,
            open: true,
            unsent: VecDeque::new(),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The process at the other end, as the kernel has it: what it says of itself is another number in
    /// another pid namespace, and may be anything. None where it cannot be seen from here.
    pub(crate) fn peer_pid(&self) -> Option<u32> {
        let credentials = getsockopt(&self.socket, PeerCredentials).ok()?;
        u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0)
    }

    /// A descriptor of the process at the other end, which no other process can be mistaken for.
    pub(crate) fn peer(&self, pid: u32) -> io::Result<OwnedFd> {
        let mut descriptor: libc::c_int = -1;
        let mut length =
            libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
        // SAFETY: the value and its length are valid for writes while the call lasts.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERPIDFD,
                (&raw mut descriptor).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            // SAFETY: the call succeeded: this is a new descriptor that nobody else owns.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
        // Before Linux 6.5. The process cannot have been reaped unseen and its number used again
        // while it is connected and waits for an answer.
        crate::process::open_pidfd(pid)
    }

    /// Reads what is there, but for what comes in meanwhile without an end.
    pub(crate) fn receive(&mut self, messages: &mut Vec<Result<Report, MessageError>>) {
        let mut chunk = [0; 8192];
        let before = self.heard;
        while self.open && self.heard - before < PER_LOOK {
            match self.socket.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(length) => {
                    self.heard += length as u64;
                    self.lines.push(&chunk[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
        }
        while let Some(line) = self.lines.next_line() {
            messages.push(line.and_then(|line| line.parse()));
        }
    }

    /// Whether the other end went away in the middle of a line.
    pub(crate) fn is_cut(&self) -> bool {
        !self.open && self.lines.unfinished() > 0
    }

    /// Sends an order, or keeps it for [`flush`](Connection::flush).
    pub(crate) fn send(&mut self, order: &Order) {
        self.unsent.extend(format!("{order}\n").into_bytes());
        self.flush();
    }

    /// Sends what is left of the orders, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while self.has_unsent() {
            match self.socket.write(self.unsent.as_slices().0) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The other end is gone. What it said before is still to be read, and then its end.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// Whether orders wait for room.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Nothing more is said or heard.
    pub(crate) fn close(&mut self) {
        self.open = false;
        self.unsent.clear();
        // It fails only where the other end is gone.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}

/// How a process stands, as the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KernelState {
    /// Asleep until something happens.
    Sleeping,
    /// Stopped by a signal.
    Stopped,
    /// Anything else: running, or about to.
    Running,
    /// Cannot be told: /proc is not readable.
    Unknown,
}

/// That a process is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Death {
    /// Whether somebody has taken its status.
    pub(crate) is_reaped: bool,
}

/// A process that said hello, or that a supervisor said it started.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) pid: u32,
    /// None once it was reaped: a sim may have any number of runs.
    pub(crate) pidfd: Option<OwnedFd>,
    /// None before it said hello, and once it was reaped.
    pub(crate) connection: Option<Connection>,
    pub(crate) said_hello: bool,
    pub(crate) who: Who,
    /// Whose process it is: the agent's place and the run.
    pub(crate) agent: usize,
    pub(crate) run: u32,
    pub(crate) is_descendant: bool,
    /// Where it stands among the processes of its run: for which time each of its ancestors, from the run
    /// on, started the next.
    pub(crate) path: Vec<u32>,
    /// The member that started it, where it is a descendant.
    pub(crate) starter: Option<usize>,
    /// What it calls itself: another number where it is in another pid namespace.
    pub(crate) own_pid: u32,
    /// What it calls its parent.
    pub(crate) own_parent: u32,
    /// How it ended, as its parent says.
    pub(crate) told_status: Option<Option<i32>>,
    /// Whether it is a child of this process, so that who reaps it is this process.
    pub(crate) is_child: bool,
    /// Who reaps it, where it is a run.
    pub(crate) parent: Parent,
    /// In which turn of the code under test it ended.
    pub(crate) ended_in: u64,
    /// How many statements its run does at most.
    pub(crate) statements: u64,
    /// Whether it waits for a file, and looks when it is pinged.
    pub(crate) is_watching: bool,
    /// Whether a supervisor that is followed has said that it started it.
    pub(crate) is_followed: bool,
    /// /proc/PID/stat, held open where there are descriptors enough.
    stat: Option<File>,
    /// The orders sent, but for pings.
    sent: u64,
    /// How many orders it had obeyed when it said last that it rests.
    rested: Option<u64>,
    pub(crate) blocked: Option<Stream>,
    /// Whether the timeline says that it is blocked.
    pub(crate) is_blocked_said: bool,
    /// Whether it has come to rest since it was told what its run does.
    pub(crate) has_rested: bool,
    /// Whether it was told something, or has nothing to be told.
    pub(crate) was_told: bool,
    pub(crate) gate: Option<String>,
    /// Whether it said that it goes on, which the gate sees: a stop may have come with the SIGCONT, or a death.
    pub(crate) has_thawed: bool,
    /// How often it said that it is ready.
    pub(crate) readies: u64,
    pub(crate) signals: Vec<(Signal, u64, Timestamp)>,
    hygiene: Hygiene,
    /// What it inherited, each time it said so.
    pub(crate) hygiene_reports: Vec<Hygiene>,
    /// The last thing it said since its hello, for whoever asks what it does.
    last: Option<Report>,
    /// How it ended; None inside where nobody could tell.
    pub(crate) ended: Option<Option<ExitStatus>>,
    pub(crate) reaped: bool,
    /// The ping that was not answered yet.
    pinged: Option<u64>,
}

impl Member {
    pub(crate) fn new(
        pid: u32,
        pidfd: OwnedFd,
        who: Who,
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

    /// Opens what the kernel says of it. Apart from `new`, since it may be told what to do meanwhile.
    pub(crate) fn open_stat(&mut self) {
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
        // The kernel gives the lowest number that is free, so a high one says that many are in use: the agents
        // to come need the others.
        let leaves_enough =
            |stat: &File| u64::from(stat.as_raw_fd().unsigned_abs()) <= limit / HELD;
        self.stat = File::open(self.stat_path()).ok().filter(leaves_enough);
    }

    fn stat_path(&self) -> String {
        format!("/proc/{}/stat", self.pid)
    }

    /// Reads the beginning of its /proc/PID/stat: an error once it was reaped.
    fn read_stat<'a>(&self, text: &'a mut [u8]) -> io::Result<&'a [u8]> {
        let length = match &self.stat {
            Some(stat) => stat.read_at(text, 0)?,
            None => {
                let length = File::open(self.stat_path())?.read_at(text, 0)?;
                // Once it was reaped its number may be another's.
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

    /// It is told to pass that gate, and is at it again when it says so.
    pub(crate) fn pass(&mut self, gate: &[u8]) {
        if self.gate.as_deref().map(str::as_bytes) == Some(gate) {
            self.gate = None;
        }
    }

    /// Sends an order: it does not rest until it says so again.
    pub(crate) fn order(&mut self, order: &Order) {
        match order {
            Order::Ping(id) => self.pinged = Some(*id),
            _ => self.sent += 1,
        }
        if let Some(connection) = &mut self.connection {
            connection.send(order);
        }
    }

    /// Whether it was told what it has no room for yet.
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

    /// Whether it said that nothing is left to do but wait, after all that it was told.
    pub(crate) fn says_it_rests(&self) -> bool {
        self.rested == Some(self.sent)
    }

    /// Whether it said that it is about to end.
    pub(crate) fn ends_by_itself(&self) -> bool {
        matches!(self.last, Some(Report::Exiting(_) | Report::Dying(_)))
    }

    /// What it was about to write when it ended, which is written: whoever reads it may have been faster than the
    /// word that it is. A write of that length is done at once or not at all.
    pub(crate) fn last_write(&self, status: Option<ExitStatus>) -> Option<(Stream, u64)> {
        match self.last {
            // Nobody reads it any more.
            _ if status.is_some_and(|status| status.signal() == Some(Signal::PIPE)) => None,
            Some(Report::Writing(stream, bytes)) => Some((stream, bytes)),
            _ => None,
        }
    }

    pub(crate) fn awaits_pong(&self) -> bool {
        self.pinged.is_some()
    }

    /// How it stands: the third field of /proc/PID/stat, after the program's name in parentheses.
    pub(crate) fn kernel_state(&self) -> KernelState {
        if self.pidfd.is_none() {
            return KernelState::Unknown;
        }
        let mut text = [0; 128];
        let text = match self.read_stat(&mut text) {
            Ok(text) => text,
            Err(error) if is_own_lack(&error) => return KernelState::Unknown,
            // Reaped: not for this to say.
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

    /// Whether it is a child that was signalled, and is not dead.
    pub(crate) fn may_be_dying(&self) -> bool {
        self.is_child && self.kernel_state() == KernelState::Running && self.death().is_none()
    }

    /// Whether it is dead, and was reaped.
    pub(crate) fn death(&self) -> Option<Death> {
        let pidfd = self.pidfd.as_ref()?;
        let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
        let events = match poll(&mut fds, PollTimeout::ZERO) {
            Ok(_) => fds[0].revents().unwrap_or(PollFlags::empty()),
            Err(_) => PollFlags::empty(),
        };
        // Before Linux 6.9 a reaped process only shows by taking no signal.
        let is_reaped = || {
            !kernel_is_since(6, 9)
                && send_signal(pidfd.as_fd(), None)
                    .is_err_and(|error| error.raw_os_error() == Some(libc::ESRCH))
        };
        (!events.is_empty()).then(|| Death {
            is_reaped: events.contains(PollFlags::POLLHUP) || is_reaped(),
        })
    }

    /// How the kernel says that it ended, dead as it is.
    pub(crate) fn status_by_kernel(&self) -> Option<ExitStatus> {
        let pidfd = self.pidfd.as_ref()?.as_fd();
        let by_stat = || zombie_status(self.pid, |text| self.read_stat(text).ok());
        // Whoever reaps it may do so between two of them.
        ended_status(pidfd)
            .or_else(by_stat)
            .or_else(|| reaped_status(pidfd))
    }

    /// Closes what was open for it: it was reaped.
    pub(crate) fn close(&mut self) {
        (self.stat, self.pidfd, self.connection) = (None, None, None);
    }

    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            // It fails only where there is nothing left to kill.
            let _ = send_signal(pidfd.as_fd(), Some(Signal::KILL));
        }
    }

    /// What it does, for whoever waits for it.
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

    /// What it said last, in words: as of itself.
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
