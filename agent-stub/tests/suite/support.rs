//! What the tests drive a stub with, and what ends everything that they start.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use agent_stub::Signal;
use agent_stub::protocol::{Lines, Report};
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

pub(crate) use crate::pidfd::Pidfd;

/// real-time: how long a test waits for what must happen at once, on the busiest of machines.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// How a stub is told what to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// By its command line; nobody listens.
    Alone,
    /// By an inherited socket.
    Inherited,
    /// By a listening socket with a path.
    Path,
    /// By a listening socket with an abstract name.
    Abstract,
}

/// A number that no other test of this process has.
pub(crate) fn unique() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Waits until the descriptor has something to read or its end. False after the bound.
pub(crate) fn readable_within(descriptor: BorrowedFd<'_>, bound: Duration) -> bool {
    let deadline = Instant::now() + bound;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(descriptor, PollFlags::POLLIN)], timeout) {
            Ok(n) if n > 0 => return true,
            _ if left.is_zero() => return false,
            _ => {}
        }
    }
}

/// Waits until nobody can read what is written to the pipe: its last reader may live on for a moment
/// in a process that another test forks, until that becomes a stub.
#[track_caller]
pub(crate) fn wait_until_nobody_reads(writer: &impl AsFd) {
    let mut gone = [PollFd::new(writer.as_fd(), PollFlags::empty())];
    let found = poll(&mut gone, PollTimeout::try_from(BOUND).unwrap());
    assert_eq!(found, Ok(1), "somebody reads the pipe");
}

/// A child that is killed and reaped when the test is done with it.
pub(crate) struct Owned(pub(crate) Child);

impl Drop for Owned {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Owned {
    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal, real-time ones included.
    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn end(&mut self) -> ExitStatus {
        let process = Pidfd::open(self.pid()).expect("a child that is not reaped");
        assert!(process.ends_within(BOUND), "the stub did not end");
        self.0.wait().unwrap()
    }

    /// Reads standard output until these bytes stand at its end.
    #[track_caller]
    pub(crate) fn read_until(&mut self, wanted: &str) -> String {
        let mut read = Vec::new();
        let stdout = self.0.stdout.as_mut().expect("standard output, piped");
        while !read.ends_with(wanted.as_bytes()) {
            let seen = String::from_utf8_lossy(&read).into_owned();
            assert!(
                readable_within(stdout.as_fd(), BOUND),
                "no {wanted:?} after {seen:?}"
            );
            let mut byte = [0];
            assert_eq!(
                stdout.read(&mut byte).unwrap(),
                1,
                "the end before {wanted:?} after {seen:?}"
            );
            read.push(byte[0]);
        }
        String::from_utf8(read).unwrap()
    }

    /// Reads what is left of standard output, to its end.
    #[track_caller]
    pub(crate) fn rest(&mut self) -> String {
        let stdout = self.0.stdout.take().expect("standard output, piped");
        String::from_utf8(read_all(stdout)).unwrap()
    }

    /// Reads what is left of standard error, to its end.
    #[track_caller]
    pub(crate) fn errors(&mut self) -> String {
        let stderr = self.0.stderr.take().expect("standard error, piped");
        String::from_utf8(read_all(stderr)).unwrap()
    }
}

/// Reads to the end.
#[track_caller]
pub(crate) fn read_all(mut from: impl Read + AsFd) -> Vec<u8> {
    let (mut all, mut chunk) = (Vec::new(), [0; 65536]);
    loop {
        assert!(readable_within(from.as_fd(), BOUND), "no end of a stream");
        match from.read(&mut chunk).unwrap() {
            0 => return all,
            length => all.extend_from_slice(&chunk[..length]),
        }
    }
}

/// Sends a signal to a process.
#[track_caller]
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).unwrap();
    // SAFETY: scalar arguments only.
    assert_eq!(unsafe { libc::kill(pid, signal.number()) }, 0, "kill {pid}");
}

/// Lets the command's process inherit the descriptor, under the number that it has here.
pub(crate) fn inherit(command: &mut Command, descriptor: impl Into<OwnedFd>) -> i32 {
    let descriptor = descriptor.into();
    let number = descriptor.as_raw_fd();
    // SAFETY: the closure makes one async-signal-safe call. It owns the descriptor.
    unsafe {
        command.pre_exec(
            move || match libc::fcntl(descriptor.as_raw_fd(), libc::F_SETFD, 0) {
                -1 => Err(std::io::Error::last_os_error()),
                _ => Ok(()),
            },
        );
    }
    number
}

/// The program, with streams that the test holds, an empty environment and a short life.
pub(crate) fn program() -> Command {
    let mut command = Command::new(agent_stub::path().unwrap());
    command
        .env_clear()
        .env("SUPERVISE_AGENT_LIFETIME", "40s")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// A stub that nobody controls.
#[track_caller]
pub(crate) fn alone(script: &str) -> Owned {
    Owned(program().args(["--script", script]).spawn().unwrap())
}

/// How a stub is started.
pub(crate) struct Start {
    pub(crate) command: Command,
    address: Option<(UnixListener, Option<tempfile::TempDir>)>,
    socket: Option<UnixStream>,
}

impl Start {
    pub(crate) fn new(told: Told) -> Start {
        let mut start = Start {
            command: program(),
            address: None,
            socket: None,
        };
        match told {
            Told::Alone => {}
            Told::Inherited => {
                let (ours, theirs) = UnixStream::pair().unwrap();
                let number = inherit(&mut start.command, theirs);
                start.command.args(["--fd", &number.to_string()]);
                start.socket = Some(ours);
            }
            Told::Path => {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("control");
                let listener = UnixListener::bind(&path).unwrap();
                start.command.arg("--control").arg(path);
                start.address = Some((listener, Some(directory)));
            }
            Told::Abstract => {
                let name = format!("stub-test-{}-{}", std::process::id(), unique());
                let address = SocketAddr::from_abstract_name(&name).unwrap();
                let listener = UnixListener::bind_addr(&address).unwrap();
                start.command.arg("--control").arg(format!("@{name}"));
                start.address = Some((listener, None));
            }
        }
        start
    }

    pub(crate) fn args<const N: usize>(mut self, args: [&str; N]) -> Start {
        self.command.args(args);
        self
    }

    /// Starts it and hears its hello.
    #[track_caller]
    pub(crate) fn spawn(mut self) -> Stub {
        let process = Owned(self.command.spawn().unwrap());
        // Our copy of its end of the socket goes with the command.
        drop(self.command);
        let socket = self.socket.take().unwrap_or_else(|| {
            let (listener, _) = self.address.as_ref().expect("a control connection");
            accept(listener)
        });
        let mut stub = Stub {
            process,
            control: Control::over(socket),
            address: self.address,
        };
        let hello = stub.next();
        let pid = stub.process.pid();
        assert!(
            matches!(&hello, Report::Hello { version: 2, pid: p, .. } if *p == pid),
            "{hello}"
        );
        stub
    }
}

#[track_caller]
pub(crate) fn accept(listener: &UnixListener) -> UnixStream {
    assert!(
        readable_within(listener.as_fd(), BOUND),
        "nobody has connected"
    );
    listener.accept().unwrap().0
}

/// The harness's end of a control connection.
pub(crate) struct Control {
    pub(crate) socket: UnixStream,
    lines: Lines,
    pings: u64,
}

impl Control {
    pub(crate) fn over(socket: UnixStream) -> Control {
        Control {
            socket,
            lines: Lines::new(),
            pings: 0,
        }
    }

    /// Sends one line.
    #[track_caller]
    pub(crate) fn order(&mut self, line: &str) {
        self.socket
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
    }

    /// The next report. None at the connection's end.
    #[track_caller]
    pub(crate) fn try_next(&mut self) -> Option<Report> {
        loop {
            if let Some(line) = self.lines.next_line() {
                let line = line.expect("a line of the protocol");
                let report = line.parse::<Report>();
                return Some(report.unwrap_or_else(|error| panic!("{line:?}: {error}")));
            }
            assert!(readable_within(self.socket.as_fd(), BOUND), "no report");
            let mut chunk = [0; 4096];
            match self.socket.read(&mut chunk) {
                // Reset: the stub has ended without reading our last orders.
                Ok(0) | Err(_) => return None,
                Ok(length) => self.lines.push(&chunk[..length]),
            }
        }
    }

    #[track_caller]
    pub(crate) fn next(&mut self) -> Report {
        self.try_next()
            .expect("a report, and the connection has ended")
    }

    /// The next reports must be these.
    #[track_caller]
    pub(crate) fn expect(&mut self, texts: &[&str]) {
        for (n, text) in texts.iter().enumerate() {
            let next = self.try_next();
            let next = next.map_or("the connection's end".to_owned(), |r| r.to_string());
            assert_eq!(next, *text, "report {n} of {texts:?}");
        }
    }

    /// Reads reports up to this one. Returns those before it.
    #[track_caller]
    pub(crate) fn until(&mut self, text: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let Some(next) = self.try_next() else {
                panic!("the connection ended before {text:?}, after {before:?}")
            };
            if next.to_string() == text {
                return before;
            }
            before.push(next.to_string());
        }
    }

    /// Grants the turns that it asks for, up to this report. Returns what it says before, rests and turns
    /// left out.
    #[track_caller]
    pub(crate) fn grant_until(&mut self, text: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            match self.next() {
                Report::Turn { id, .. } => self.order(&format!("go {id}")),
                Report::Rest(_) => {}
                report if report.to_string() == text => return before,
                report => before.push(report.to_string()),
            }
        }
    }

    /// Pings it. Returns the reports before the answer.
    #[track_caller]
    pub(crate) fn ping(&mut self) -> Vec<String> {
        self.pings += 1;
        self.order(&format!("ping {}", self.pings));
        let pong = format!("pong {}", self.pings);
        self.until(&pong)
    }

    /// The process that the next report says was started.
    #[track_caller]
    pub(crate) fn started(&mut self) -> u32 {
        match self.next() {
            Report::Started { pid: Some(pid), .. } => pid,
            other => panic!("expected a started descendant, got {other}"),
        }
    }

    /// The reports to the connection's end.
    #[track_caller]
    pub(crate) fn rest_of_reports(&mut self) -> Vec<String> {
        std::iter::from_fn(|| self.try_next().map(|report| report.to_string())).collect()
    }
}

/// A stub and its control connection.
pub(crate) struct Stub {
    pub(crate) process: Owned,
    pub(crate) control: Control,
    address: Option<(UnixListener, Option<tempfile::TempDir>)>,
}

impl std::ops::Deref for Stub {
    type Target = Control;
    fn deref(&self) -> &Control {
        &self.control
    }
}

impl std::ops::DerefMut for Stub {
    fn deref_mut(&mut self) -> &mut Control {
        &mut self.control
    }
}

impl Stub {
    /// One that waits for orders.
    #[track_caller]
    pub(crate) fn idle(told: Told) -> Stub {
        let mut stub = Start::new(told).spawn();
        stub.expect(&["idle"]);
        stub
    }

    /// One by an inherited socket that has a script.
    #[track_caller]
    pub(crate) fn script(script: &str) -> Stub {
        Start::new(Told::Inherited)
            .args(["--script", script])
            .spawn()
    }

    /// One whose waits are served by the test.
    #[track_caller]
    pub(crate) fn waiting(script: &str) -> Stub {
        Start::new(Told::Inherited)
            .args(["--clock", "harness", "--script", script])
            .spawn()
    }

    /// The next connection to its address, from a descendant, and that one's hello.
    #[track_caller]
    pub(crate) fn next_connection(&self) -> (Control, Report) {
        let (listener, _) = self.address.as_ref().expect("a listening socket");
        let mut control = Control::over(accept(listener));
        let hello = control.next();
        (control, hello)
    }
}

/// A stub that does the script, whichever way it is told.
pub(crate) struct Doing {
    pub(crate) process: Owned,
    pub(crate) control: Option<Control>,
    pub(crate) address: Option<(UnixListener, Option<tempfile::TempDir>)>,
}

impl std::ops::Deref for Doing {
    type Target = Owned;
    fn deref(&self) -> &Owned {
        &self.process
    }
}

impl std::ops::DerefMut for Doing {
    fn deref_mut(&mut self) -> &mut Owned {
        &mut self.process
    }
}

/// Starts one: the script stands on the command line or comes in a `do`.
#[track_caller]
pub(crate) fn told(told: Told, script: &str) -> Doing {
    told_with(told, script, |_| {})
}

#[track_caller]
pub(crate) fn told_with(told: Told, script: &str, change: impl FnOnce(&mut Command)) -> Doing {
    let mut start = Start::new(told);
    change(&mut start.command);
    if told == Told::Alone {
        start.command.args(["--script", script]);
        let process = Owned(start.command.spawn().unwrap());
        return Doing {
            process,
            control: None,
            address: None,
        };
    }
    let mut stub = start.spawn();
    stub.expect(&["idle"]);
    stub.order(&format!("do {script}"));
    Doing {
        process: stub.process,
        control: Some(stub.control),
        address: stub.address,
    }
}

/// How a process ended, as a shell would have it.
pub(crate) fn ended(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("die {}", Signal::from_number(signal).unwrap()),
        (None, None) => format!("{status:?}"),
    }
}
