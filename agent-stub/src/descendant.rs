//! Other processes of the same program: descendants that scripts start, and the guard of a frozen
//! stub.

use std::ffi::{OsStr, OsString, c_int};
use std::io::{self, PipeWriter};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, parent_id};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::options::{ClockChoice, Control};
use crate::quoted::Quoted;
use crate::script::{Descendant, Output, Placement};
use crate::sys;

unsafe extern "C" {
    fn fork() -> c_int;
    fn _exit(code: c_int) -> !;
}

/// What descendants share with whoever starts them.
pub(crate) struct Family<'a> {
    pub(crate) agent: &'a Quoted,
    pub(crate) control: &'a Control,
    pub(crate) clock: ClockChoice,
    /// What is left of the lifetime.
    pub(crate) lifetime: Duration,
    /// For which time a descendant is started, from 1.
    pub(crate) nth: u32,
}

fn this_program(lifetime: Duration) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // At least 1 ms: a lifetime of none is refused.
    command
        .arg0("agent-stub")
        .arg("--lifetime")
        .arg(format!("{}ms", lifetime.as_millis().max(1)));
    command
}

/// Starts a descendant. A double fork leaves no child: then there is none to return.
pub(crate) fn start(descendant: &Descendant, family: &Family<'_>) -> io::Result<Option<Child>> {
    let mut command = this_program(family.lifetime);
    command
        .arg("--id")
        .arg(OsStr::from_bytes(&family.agent.0))
        .arg("--descendant")
        .arg(lineage(descendant, family.nth))
        .args([
            "--clock",
            match (family.clock, family.control) {
                (ClockChoice::Harness, Control::Address(_)) => "harness",
                // A descendant without a connection of its own cannot ask.
                _ => "real",
            },
        ])
        .arg("--script")
        .arg(descendant.script.to_string());
    match family.control {
        Control::Address(address) => command.args([OsString::from("--control"), address.clone()]),
        // The connection is its parent's to talk on, and ends when the harness does for both.
        Control::Descriptor(number) | Control::Lifeline(number) => {
            command.arg("--lifeline").arg(number.to_string())
        }
        Control::Alone => &mut command,
    };
    if descendant.output == Output::Quiet {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
    }
    match descendant.placement {
        Placement::SameGroup => {}
        Placement::OwnGroup => {
            command.process_group(0);
        }
        Placement::OwnSession => {
            // SAFETY: the closure makes one async-signal-safe system call.
            unsafe { command.pre_exec(sys::start_session) };
        }
        Placement::DoubleFork => {
            // SAFETY: the process has one thread, and the closure makes async-signal-safe calls.
            unsafe { command.pre_exec(detach) };
        }
    }
    let mut child = command.spawn()?;
    if descendant.placement == Placement::DoubleFork {
        // The middle process has ended, or is about to.
        reap(&mut child)?;
        return Ok(None);
    }
    Ok(Some(child))
}

/// What tells a descendant which one it is.
fn lineage(descendant: &Descendant, nth: u32) -> OsString {
    let mut text = OsString::from(format!("{}:{nth}:", std::process::id()));
    text.push(OsStr::from_bytes(&descendant.name.0));
    text
}

/// The daemon's way: a new session, then a second fork whose parent ends.
fn detach() -> io::Result<()> {
    sys::start_session()?;
    // SAFETY: no arguments; the process has one thread; the middle process ends at once, running
    // nothing of this program's.
    match unsafe { fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        // SAFETY: ends the process without running anything.
        _ => unsafe { _exit(0) },
    }
}

/// A process that ends a frozen stub when its harness is gone: a frozen process cannot do so itself.
pub(crate) struct Guard {
    child: Child,
    /// Open as long as the stub lives and is frozen.
    alive: PipeWriter,
}

impl Guard {
    /// Starts one for this process. `harness` is a descriptor of the connection to the harness.
    pub(crate) fn start(harness: Option<OwnedFd>, lifetime: Duration) -> io::Result<Guard> {
        let (watched, alive) = io::pipe()?;
        let mut command = this_program(lifetime);
        command
            .arg("--guard")
            .arg(std::process::id().to_string())
            // It is told everything; a variable that the stub's arguments beat would stop it.
            .env_clear()
            .stdin(harness.map_or_else(Stdio::null, Stdio::from))
            .stdout(Stdio::from(OwnedFd::from(watched)))
            .stderr(Stdio::null());
        // SAFETY: the closure makes one async-signal-safe system call.
        unsafe { command.pre_exec(sys::start_session) };
        Ok(Guard {
            child: command.spawn()?,
            alive,
        })
    }

    /// Ends it: this process is frozen no longer.
    pub(crate) fn dismiss(mut self) -> io::Result<()> {
        drop(self.alive);
        reap(&mut self.child)
    }
}

/// Waits for the end of a child, which the kernel reaps where SIGCHLD is ignored.
fn reap(child: &mut Child) -> io::Result<()> {
    match child.wait() {
        Err(error) if error.raw_os_error() != Some(ECHILD) => Err(error),
        _ => Ok(()),
    }
}

const ECHILD: i32 = 10;

/// The name of the guard, which a process has until it is reaped.
pub(crate) const GUARD: &str = "stub-guard";

/// The guard's own life: its standard input is the connection to the harness, its standard output
/// the pipe from the frozen process, which must be its parent.
pub(crate) fn guard(frozen: u32, lifetime: Duration) {
    // By its name it is told when it has ended, too. It works without.
    let _ = std::fs::write("/proc/self/comm", GUARD);
    let deadline = Instant::now() + lifetime;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut ends = [sys::Poll::gone(0), sys::Poll::gone(1)];
        sys::wait_for(&mut ends, sys::milliseconds(left));
        let [harness, process] = ends;
        if process.is_gone() {
            return;
        }
        if harness.is_gone() || left.is_zero() {
            // Only its parent can be meant: a process that has ended is nobody's parent, and its
            // number may be another's by now.
            if parent_id() == frozen {
                let _ = sys::kill_process(frozen);
            }
            return;
        }
    }
}
