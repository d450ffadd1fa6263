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

/// What a descendant gets from the process that starts it.
pub(crate) struct Family<'a> {
    pub(crate) agent: &'a Quoted,
    pub(crate) control: &'a Control,
    pub(crate) clock: ClockChoice,
    /// What is left of the starter's lifetime.
    pub(crate) lifetime: Duration,
    /// The descendant's number among those of its starter, from 1.
    pub(crate) nth: u32,
}

fn this_program(lifetime: Duration) -> Command {
    let mut command = Command::new("/proc/self/exe");
    // At least 1 ms, since `--lifetime` refuses a lifetime of zero.
    command
        .arg0("agent-stub")
        .arg("--lifetime")
        .arg(format!("{}ms", lifetime.as_millis().max(1)));
    command
}

/// Starts a descendant and returns the child process. Returns `None` after a double fork, since
/// that leaves no child.
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
                // A descendant without a connection of its own cannot ask for turns.
                _ => "real",
            },
        ])
        .arg("--script")
        .arg(descendant.script.to_string());
    match family.control {
        Control::Address(address) => command.args([OsString::from("--control"), address.clone()]),
        // Only the parent talks on this connection. The descendant just watches for its end, which
        // tells both that the harness is gone.
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

/// Returns the value of `--descendant`, which tells a descendant which one it is.
fn lineage(descendant: &Descendant, nth: u32) -> OsString {
    let mut text = OsString::from(format!("{}:{nth}:", std::process::id()));
    text.push(OsStr::from_bytes(&descendant.name.0));
    text
}

/// Detaches as a daemon does: starts a session, then forks again and ends the process in the
/// middle.
fn detach() -> io::Result<()> {
    sys::start_session()?;
    // SAFETY: `fork` takes no arguments, and the process has one thread. The middle process ends at
    // once and runs nothing of this program.
    match unsafe { fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        // SAFETY: ends the process without running anything.
        _ => unsafe { _exit(0) },
    }
}

/// A process that kills a frozen stub when the harness is gone, since a frozen process cannot end
/// itself.
pub(crate) struct Guard {
    child: Child,
    /// A pipe that is open as long as the stub lives and is frozen.
    alive: PipeWriter,
}

impl Guard {
    /// Starts a guard for this process. `harness` is a descriptor of the connection to the harness.
    pub(crate) fn start(harness: Option<OwnedFd>, lifetime: Duration) -> io::Result<Guard> {
        let (watched, alive) = io::pipe()?;
        let mut command = this_program(lifetime);
        command
            .arg("--guard")
            .arg(std::process::id().to_string())
            // The guard's arguments say everything that it needs. It would fail to start on a bad
            // variable, which an argument of the stub may have overridden.
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

    /// Ends the guard and reaps it, since this process is no longer frozen.
    pub(crate) fn dismiss(mut self) -> io::Result<()> {
        drop(self.alive);
        reap(&mut self.child)
    }
}

/// Waits for the end of a child. If SIGCHLD is ignored, the kernel has reaped the child, which is
/// no error.
fn reap(child: &mut Child) -> io::Result<()> {
    match child.wait() {
        Err(error) if error.raw_os_error() != Some(ECHILD) => Err(error),
        _ => Ok(()),
    }
}

const ECHILD: i32 = 10;

/// The guard's process name. A process keeps its name until it is reaped.
pub(crate) const GUARD: &str = "stub-guard";

/// Runs the guard. Its standard input is the connection to the harness. Its standard output is the
/// pipe from the frozen process, which must be its parent.
pub(crate) fn guard(frozen: u32, lifetime: Duration) {
    // The harness knows a guard by its name, also one that has ended. A guard works without the
    // name, too.
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
            // Kill nothing but the parent. A process that has ended is nobody's parent, and its
            // number may belong to another process by now.
            if parent_id() == frozen {
                let _ = sys::kill_process(frozen);
            }
            return;
        }
    }
}
