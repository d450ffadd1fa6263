//! Performs one statement of a script.

use std::fs::OpenOptions;
use std::io::{self, Read, Seek, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::agent::Agent;
use crate::connection::address;
use crate::descendant::{self, Family, Guard};
use crate::frame::{Again, Frame, Wait};
use crate::options::ClockChoice;
use crate::protocol::Report;
use crate::quoted::Quoted;
use crate::script::{
    Channel, Content, Descendant, Destination, Gate, Response, Script, Statement, Stream,
};
use crate::signal::Signal;
use crate::sys::{self, Disposition};
use crate::watch::{LOOK, Watch, path};
use crate::writing::Writing;

/// The exit code if another process holds the lock.
const LOCK_HELD: i32 = 122;

/// How many chunks the stub writes before it looks up.
const CHUNKS: usize = 64;

impl Agent {
    /// Does the statement, or begins it. By the harness's clock, a statement that others can see
    /// waits for a turn first.
    pub(crate) fn perform(&mut self, statement: &Statement) {
        if self.options.clock == ClockChoice::Harness && is_visible(statement) {
            if !self.has_turn {
                let id = self.ask_for_turn(false);
                return self.retry_after(Wait::Go(id));
            }
            self.has_turn = false;
        }
        match statement {
            Statement::Run(time) => {
                let wait = match self.options.clock {
                    ClockChoice::Real => Wait::Until(Instant::now() + *time),
                    ClockChoice::Harness => {
                        self.last_wait += 1;
                        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
                        self.say_soon(&Report::Wait {
                            id: self.last_wait,
                            nanos,
                        });
                        Wait::Go(self.last_wait)
                    }
                };
                self.wait(wait);
            }
            Statement::Stay => self.wait(Wait::Ever),
            Statement::Exit(code) => {
                self.say(&Report::Exiting(*code));
                std::process::exit(i32::from(*code));
            }
            Statement::Die { signal, core } => self.die(*signal, *core),
            Statement::Freeze => self.freeze(),
            Statement::On(signal, response) => self.on(*signal, response),
            Statement::Block(signal) => {
                self.done(&format!("block {signal}"), sys::set_blocked(*signal, true));
            }
            Statement::Unblock(signal) => {
                self.done(
                    &format!("unblock {signal}"),
                    sys::set_blocked(*signal, false),
                );
            }
            Statement::Start(descendant) => self.start(descendant),
            Statement::Write(stream, content) => {
                self.go_on_writing(Writing::new(*stream, content.clone()));
            }
            Statement::Close(stream) => {
                self.done(
                    &format!("close {stream}"),
                    sys::close_stream(stream.descriptor()),
                );
            }
            Statement::Ready(channel) => self.tell(channel, &Report::Ready, "ready", "READY=1"),
            Statement::Beat(channel) => self.tell(channel, &Report::Beat, "beat", "WATCHDOG=1"),
            Statement::Lock(file) => self.lock(file),
            Statement::Gate(Gate::File(file)) => {
                let watch = Watch::File(file.clone());
                if !watch.has_come() {
                    self.wait(Wait::Watch(watch));
                }
            }
            Statement::Gate(Gate::Control(name)) => {
                if self.control.is_none() {
                    return self.fail(&format!(
                        "gate {name}: nobody can open it without a control connection"
                    ));
                }
                self.say(&Report::Gate(name.clone()));
                self.wait(Wait::Gate(name.clone()));
            }
            Statement::Hygiene(destination) => self.hygiene(destination),
            Statement::Repeat(0, _) => {}
            Statement::Repeat(times, script) => self
                .frames
                .push(Frame::new(script.clone(), Again::Times(*times))),
            Statement::Forever(script) => {
                self.frames.push(Frame::new(script.clone(), Again::Forever));
            }
            Statement::First {
                runs,
                counter,
                script,
            } => self.first(*runs, counter, script),
        }
    }

    fn wait(&mut self, wait: Wait) {
        if let Some(top) = self.frames.last_mut() {
            top.wait = Some(wait);
        }
    }

    fn retry_after(&mut self, wait: Wait) {
        if let Some(top) = self.frames.last_mut() {
            top.retry_after(wait);
        }
    }

    /// Reports a failure, together with what was tried. Returns true if there was none.
    fn done(&mut self, what: &str, result: io::Result<()>) -> bool {
        result
            .map_err(|error| self.fail(&format!("{what}: {error}")))
            .is_ok()
    }

    fn die(&mut self, signal: Signal, core: bool) {
        self.say(&Report::Dying(signal));
        let result = (|| {
            if !core {
                sys::forbid_core_dump()?;
            }
            if signal.is_catchable() {
                sys::set_disposition(signal, Disposition::Default)?;
                sys::set_blocked(signal, false)?;
            }
            sys::raise_signal(signal)
        })();
        // The process still runs: the signal could not be sent, or this is the first process of a
        // container, which such signals do not kill.
        let error = result.err().map_or_else(
            || "the signal was not deadly".to_owned(),
            |error| error.to_string(),
        );
        self.fail(&format!("die {signal}: {error}"));
    }

    fn freeze(&mut self) {
        let harness = match (&self.control, &self.lifeline) {
            (Some(control), _) => control.share().map(Some),
            (None, Some(lifeline)) => lifeline.try_clone().map(Some),
            (None, None) => Ok(None),
        };
        let guard = match harness.and_then(|harness| Guard::start(harness, self.lifetime_left())) {
            Ok(guard) => guard,
            Err(error) => return self.fail(&format!("freeze: start the guard: {error}")),
        };
        self.say(&Report::Freezing);
        let frozen = sys::raise_signal(Signal::STOP);
        self.say(&Report::Thawed);
        let dismissed = guard.dismiss();
        self.done("freeze", frozen.and(dismissed));
    }

    fn on(&mut self, signal: Signal, response: &Response) {
        self.handlers.remove(&signal);
        self.reported.remove(&signal);
        if matches!(response, Response::Ignore | Response::Default) {
            self.drop_untaken(signal);
        }
        let ignored_children = self.ignores_children;
        if signal == Signal::CHLD {
            self.ignores_children = matches!(response, Response::Ignore);
        }
        let result = match response {
            Response::Ignore => sys::set_disposition(signal, Disposition::Ignore),
            // The stub must still reap its own children.
            Response::Default if signal == Signal::CHLD && !self.children.is_empty() => {
                self.trap(signal)
            }
            Response::Default => sys::set_disposition(signal, Disposition::Default),
            Response::Count => self.trap(signal),
            Response::Handle(script) => {
                self.handlers.insert(signal, script.clone());
                self.trap(signal)
            }
        };
        if self.done(&format!("on {signal}"), result)
            && matches!(response, Response::Count | Response::Handle(_))
        {
            self.reported.insert(signal);
        }
        if ignored_children {
            // No signal tells of the children that have ended while SIGCHLD was ignored.
            self.reap();
        }
    }

    fn start(&mut self, descendant: &Descendant) {
        // Without this trap, an ended descendant would stay a zombie as long as the stub lives.
        let is_needed = self.children.is_empty()
            && !self.reported.contains(&Signal::CHLD)
            && !self.ignores_children;
        let trapped = if is_needed {
            self.trap(Signal::CHLD)
        } else {
            Ok(())
        };
        let family = Family {
            agent: &self.options.agent,
            control: &self.options.control,
            clock: self.options.clock,
            lifetime: self.lifetime_left(),
            nth: self.started + 1,
        };
        match trapped.and_then(|()| descendant::start(descendant, &family)) {
            Ok(child) => {
                let pid = child.as_ref().map(std::process::Child::id);
                self.children.extend(child);
                self.started += 1;
                self.say(&Report::Started {
                    nth: self.started,
                    pid,
                    name: descendant.name.clone(),
                });
            }
            Err(error) => self.fail(&format!("start {}: {error}", descendant.name)),
        }
    }

    /// Goes on with the write, as far as it does not block.
    pub(crate) fn go_on_writing(&mut self, mut writing: Writing) {
        let (stream, descriptor) = (writing.stream, writing.stream.descriptor());
        for _ in 0..CHUNKS {
            let chunk = writing.chunk();
            if chunk.is_empty() {
                return self.say(&Report::Wrote(stream, writing.done));
            }
            let is_at_once = writing.done == 0 && chunk.len() as u64 == writing.length();
            if is_at_once && self.options.clock == ClockChoice::Harness {
                self.say(&Report::Writing(stream, chunk.len() as u64));
            }
            match sys::write_now(descriptor, &chunk) {
                Ok(written) => writing.done += written as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !std::mem::replace(&mut writing.told, true) {
                        self.say(&Report::Blocked(stream));
                    }
                    if let Some(top) = self.frames.last_mut() {
                        top.wait = Some(Wait::Writable(descriptor));
                        top.writing = Some(writing);
                    }
                    return;
                }
                Err(error) => return self.fail(&format!("write {stream}: {error}")),
            }
        }
        if let Some(top) = self.frames.last_mut() {
            top.writing = Some(writing);
        }
        self.look_up(false);
    }

    fn tell(&mut self, channel: &Channel, report: &Report, word: &str, datagram: &str) {
        let mut opened: Option<OwnedFd> = None;
        let result = match channel {
            Channel::Control if self.control.is_some() => {
                self.say(report);
                Ok(())
            }
            Channel::Control => Err(io::Error::other("there is no control connection")),
            Channel::Fd(number) => sys::write_now(i32::from(*number), b"\n").map(drop),
            Channel::Notify => notify_socket().and_then(|socket| {
                let sent = socket.send(datagram.as_bytes()).map(drop);
                opened = Some(socket.into());
                sent
            }),
            Channel::File(file) => OpenOptions::new()
                .create(true)
                .append(true)
                .custom_flags(sys::O_NONBLOCK)
                .open(path(file))
                .and_then(|mut file| {
                    let written = file.write_all(format!("{word}\n").as_bytes());
                    opened = Some(file.into());
                    written
                }),
        };
        let full = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        if result.as_ref().is_err_and(full) {
            let wait = match (channel, opened) {
                (Channel::Fd(number), _) => Wait::Writable(i32::from(*number)),
                // `poll` says when the reader at the other end has made room.
                (_, Some(opened)) => Wait::Room(opened),
                // Another process holds a lease on the file, and will give it back soon.
                (_, None) => Wait::Until(Instant::now() + LOOK),
            };
            return self.retry_after(wait);
        }
        self.done(&format!("{word}{channel}"), result);
    }

    fn lock(&mut self, file: &Quoted) {
        // Do not truncate the file: the process that holds the lock may have written to it.
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .custom_flags(sys::O_NONBLOCK)
            .open(path(file));
        match opened.and_then(|opened| Ok((sys::try_lock(&opened)?, opened))) {
            Ok((true, opened)) => {
                self.locks.push(opened);
                self.say(&Report::Locked(file.clone()));
            }
            Ok((false, _)) => {
                self.warn(&format!("lock {file}: another process holds it"));
                std::process::exit(LOCK_HELD);
            }
            Err(error) => self.fail(&format!("lock {file}: {error}")),
        }
    }

    fn hygiene(&mut self, destination: &Destination) {
        let findings = match self.inherited.findings() {
            Ok(findings) => findings,
            Err(error) => return self.fail(&format!("hygiene: {error}")),
        };
        let lines = || {
            findings
                .iter()
                .map(|finding| format!("{finding}\n"))
                .collect::<String>()
        };
        match destination {
            Destination::Control if self.control.is_some() => {
                for finding in findings {
                    self.say(&Report::Hygiene(finding));
                }
            }
            Destination::Control | Destination::Stdout => {
                let content = Content::Text(Quoted(lines().into_bytes()));
                self.go_on_writing(Writing::new(Stream::Stdout, content));
            }
            Destination::File(file) => {
                let written = OpenOptions::new()
                    .create(true)
                    .truncate(true)
                    .write(true)
                    .custom_flags(sys::O_NONBLOCK)
                    .open(path(file))
                    .and_then(|mut file| file.write_all(lines().as_bytes()));
                self.done(&format!("hygiene file {file}"), written);
            }
        }
    }

    fn first(&mut self, runs: u32, counter: &Quoted, script: &Script) {
        match count(path(counter)) {
            Ok(run) if run <= u64::from(runs) => self
                .frames
                .push(Frame::new(script.clone(), Again::Times(1))),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.retry_after(Wait::Watch(Watch::Locked(counter.clone())));
            }
            Err(error) => self.fail(&format!("first {runs} {counter}: {error}")),
        }
    }
}

/// Whether other processes can see that the statement is done: a write, a close, a report, an end.
fn is_visible(statement: &Statement) -> bool {
    match statement {
        Statement::Exit(_)
        | Statement::Die { .. }
        | Statement::Freeze
        | Statement::Write(..)
        | Statement::Close(_)
        | Statement::Ready(_)
        | Statement::Beat(_)
        | Statement::Lock(_)
        | Statement::Gate(Gate::Control(_))
        | Statement::Hygiene(_)
        | Statement::First { .. } => true,
        Statement::Run(_)
        | Statement::Stay
        | Statement::On(..)
        | Statement::Block(_)
        | Statement::Unblock(_)
        | Statement::Start(_)
        | Statement::Gate(Gate::File(_))
        | Statement::Repeat(..)
        | Statement::Forever(_) => false,
    }
}

/// Adds one to the number in the file and returns the sum. A new file counts as 0. Fails with
/// [`io::ErrorKind::WouldBlock`] while another process does the same.
fn count(file: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .custom_flags(sys::O_NONBLOCK)
        .open(file)?;
    if !sys::try_lock(&file)? {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let before = match text.trim() {
        "" => 0,
        number => number
            .parse::<u64>()
            .map_err(|_| io::Error::other("expected a file with one number"))?,
    };
    let now = before.saturating_add(1);
    file.rewind()?;
    file.write_all(now.to_string().as_bytes())?;
    Ok(now)
}

/// Opens the socket of sd_notify(3). It is connected, so that poll(2) says when the other end has
/// room.
fn notify_socket() -> io::Result<UnixDatagram> {
    let target = std::env::var_os("NOTIFY_SOCKET").map(PathBuf::from);
    let target = target.ok_or_else(|| io::Error::other("NOTIFY_SOCKET is not set"))?;
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address(target.as_os_str())?)?;
    Ok(socket)
}
