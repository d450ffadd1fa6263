//! A child process, held by its pidfd: status, signals, reaping.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use agent_stub::Signal;
use nix::libc;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::pidfd::{
    PIDFD_SIGNAL_PROCESS_GROUP, check, pidfd_open, pidfd_send_signal, unless_nobody, wait_id,
};
use crate::status::ExitStatus;

/// Says how a status is lost, and what to do about it, in error messages.
pub(crate) const TAKEN: &str = "its exit status is gone. Either another part of this program waits for all children, \
     as `waitpid(-1)` does, and has to wait for its own ones alone; or SIGCHLD is ignored here, and has to be reset \
     to its default";

/// The end of one process: which process it was, and how it ended.
///
/// Source: `WatchResult` of the Go package `supervise`.
///
/// ```
/// use supervise_harness::supervisor::WatchResult;
/// use supervise_harness::{ExitStatus, Signal};
///
/// let killed = WatchResult {
///     pid: 4711,
///     status: ExitStatus::Signaled { signal: Signal::KILL, core_dumped: false },
/// };
/// assert_eq!((killed.exit_code(), killed.signal()), (-1, Some(Signal::KILL)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct WatchResult {
    /// The process id, as [`std::process::Child::id`] returns it. The process was reaped, so the
    /// number may be reused by now.
    pub pid: u32,
    /// How the process ended.
    pub status: ExitStatus,
}

impl WatchResult {
    /// Returns the exit code, 0 to 255; −1 for a death by signal.
    #[must_use]
    pub fn exit_code(self) -> i32 {
        self.status.exit_code()
    }

    /// Returns the signal that killed the process, if one did.
    #[must_use]
    pub fn signal(self) -> Option<Signal> {
        self.status.signal()
    }
}

/// Why there is no status.
#[derive(Debug)]
pub(crate) enum WaitError {
    /// Other code reaped the process and got the status, or the kernel kept none.
    Taken,
    /// The kernel refused to wait.
    Io(io::Error),
}

impl From<io::Error> for WaitError {
    fn from(error: io::Error) -> WaitError {
        WaitError::Io(error)
    }
}

#[derive(Clone, Copy, Debug)]
enum End {
    Reaped(ExitStatus),
    Taken,
}

#[derive(Debug)]
struct State {
    end: Option<End>,
    /// Whether the one who reaps the process kills its group first. Before Linux 6.9 only the
    /// zombie keeps the group's number from being reused.
    kill_group_at_reap: bool,
    /// Whether a signal was sent to the process.
    is_signalled: bool,
}

/// A child of this process, shared by all who watch it. Its number means this child, and no other
/// process, until `state` says that it was reaped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: libc::pid_t,
    pidfd: OwnedFd,
    state: Mutex<State>,
}

impl Process {
    /// Takes charge of the child `pid`. It must be the leader of its process group, and nobody may
    /// have waited for it. On an error the child is gone: killed with its group, and reaped.
    pub(crate) fn adopt(pid: libc::pid_t) -> Result<Process, WaitError> {
        let give_up = |error| match kill_unadopted(pid) {
            Ok(()) => WaitError::Io(error),
            Err(taken) => taken,
        };
        let pidfd = pidfd_open(pid).map_err(give_up)?;
        let process = Process {
            pid,
            pidfd,
            state: Mutex::new(State {
                end: None,
                kill_group_at_reap: false,
                is_signalled: false,
            }),
        };
        // If other code reaped the child before the open, the number may be another process's by
        // now.
        match process.has_ended() {
            Ok(_) => Ok(process),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Err(WaitError::Taken),
            Err(error) => Err(give_up(error)),
        }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Returns the status if the process has ended. The first call that finds it ended reaps it.
    pub(crate) fn reap(&self) -> Result<Option<WatchResult>, WaitError> {
        let state = self.lock();
        if state.end.is_some() {
            return self.result(&state);
        }
        if state.kill_group_at_reap {
            match self.has_ended() {
                Ok(false) => return Ok(None),
                // Also if other code took the status: the pidfd still stands for the group.
                _ => self.kill_group(&state),
            }
        }
        match wait_id(self.wait_target(), libc::WEXITED | libc::WNOHANG) {
            Ok(None) => Ok(None),
            Ok(Some(status)) => self.settle(state, End::Reaped(status)),
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => {
                self.settle(state, End::Taken)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Waits for the end of the process and reaps it. Cancel-safe, and any number of tasks may
    /// wait.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled, unless the process has been reaped.
    pub(crate) async fn wait(&self) -> Result<WatchResult, WaitError> {
        // After a signal, the process counts as ended only when the runtime says so. The kernel may
        // or may not have ended it by now, so asking the kernel here could give a different answer
        // in each test run.
        if (!self.lock().is_signalled || self.is_reaped())
            && let Some(result) = self.reap()?
        {
            return Ok(result);
        }
        // Each waiter has a copy: an epoll instance takes a descriptor only once.
        let copy = self.pidfd.try_clone()?;
        // SAFETY: an OwnedFd is open, and stays the same descriptor until the AsyncFd drops it.
        let pidfd = unsafe { AsyncFd::register_with_interest(copy, Interest::READABLE) }
            .map_err(io::Error::from)?;
        loop {
            let mut ready = pidfd.readable().await?;
            if let Some(result) = self.reap()? {
                return Ok(result);
            }
            ready.clear_ready();
        }
    }

    /// Sends `signal` to the process alone. If the process is gone, this is a success.
    pub(crate) fn signal(&self, signal: Signal) -> io::Result<()> {
        let mut state = self.lock();
        if state.end.is_some() {
            return Ok(());
        }
        state.is_signalled = true;
        tracing::debug!(target: "supervise_harness", pid = self.pid, %signal, "signal");
        self.send(signal, 0)
    }

    /// Sends `signal` to the process group, and to the process if it has left the group. If nobody
    /// is left, this is a success.
    pub(crate) fn signal_group(&self, signal: Signal) -> io::Result<()> {
        let mut state = self.lock();
        state.is_signalled = true;
        tracing::debug!(target: "supervise_harness", pid = self.pid, %signal, "signal to the group");
        let group = self.send_to_group(signal, &state);
        // SAFETY: getpgid reads a number and touches no memory of ours.
        if state.end.is_none() && unsafe { libc::getpgid(self.pid) } != self.pid {
            self.send(signal, 0)?;
        }
        group
    }

    /// Makes whoever reaps the process kill its group before. If it was reaped already, kills the
    /// group at once.
    pub(crate) fn kill_group_at_reap(&self) {
        let mut state = self.lock();
        state.kill_group_at_reap = true;
        if state.end.is_some() {
            self.kill_group(&state);
        }
    }

    /// Whether the process was reaped, by whomever. Its number may be another process's then.
    pub(crate) fn is_reaped(&self) -> bool {
        self.lock().end.is_some()
    }

    /// Whether the process group has a member, zombies included. As long as it has one, the number
    /// is not another group's. Before Linux 6.9 nobody knows once the process was reaped; the
    /// answer is false then.
    pub(crate) fn has_group(&self) -> bool {
        let flags = PIDFD_SIGNAL_PROCESS_GROUP;
        match pidfd_send_signal(self.pidfd.as_raw_fd(), 0, flags) {
            Ok(()) => true,
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => !self.is_reaped(),
            // Members that run as another user are there, too.
            Err(error) => error.raw_os_error() == Some(libc::EPERM),
        }
    }

    /// Whether the process was reaped and its group is empty.
    pub(crate) fn is_over(&self) -> bool {
        self.is_reaped() && !self.has_group()
    }

    /// Kills the process and its group, and reaps the process. Blocks until the kernel has ended
    /// the process. This takes a short time, unless the process is stuck in an uninterruptible
    /// system call.
    pub(crate) fn kill_and_reap(&self) {
        let state = self.lock();
        self.kill_group(&state);
        if state.end.is_some() {
            return;
        }
        if let Err(error) = self.send(Signal::KILL, 0) {
            // The process runs as another user now: a blocking wait might never end.
            tracing::warn!(target: "supervise_harness", pid = self.pid, %error, "cannot kill");
            return;
        }
        // The lock is held during the wait. If a waiter reaped the process meanwhile, this wait
        // would take the status for stolen.
        let end = match wait_id(self.wait_target(), libc::WEXITED) {
            Ok(Some(status)) => End::Reaped(status),
            Ok(None) | Err(_) => End::Taken,
        };
        // The error of a stolen status is for those who wait, not for this call.
        let _ = self.settle(state, end);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change of the state is one assignment: a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settle(
        &self,
        mut state: MutexGuard<'_, State>,
        end: End,
    ) -> Result<Option<WatchResult>, WaitError> {
        state.end = Some(end);
        let result = self.result(&state);
        drop(state);
        match end {
            End::Reaped(status) => {
                tracing::debug!(target: "supervise_harness", pid = self.pid, %status, "exit");
            }
            End::Taken => {
                tracing::warn!(target: "supervise_harness", pid = self.pid, "exit, status taken");
            }
        }
        result
    }

    fn result(&self, state: &State) -> Result<Option<WatchResult>, WaitError> {
        match state.end {
            None => Ok(None),
            Some(End::Reaped(status)) => Ok(Some(WatchResult {
                pid: self.pid(),
                status,
            })),
            Some(End::Taken) => Err(WaitError::Taken),
        }
    }

    fn wait_target(&self) -> (libc::idtype_t, libc::id_t) {
        (
            libc::P_PIDFD,
            self.pidfd.as_raw_fd().unsigned_abs() as libc::id_t,
        )
    }

    /// Whether the process is a zombie; fails with `ECHILD` if it was reaped.
    fn has_ended(&self) -> io::Result<bool> {
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        Ok(wait_id(self.wait_target(), flags)?.is_some())
    }

    fn kill_group(&self, state: &State) {
        if let Err(error) = self.send_to_group(Signal::KILL, state) {
            tracing::warn!(target: "supervise_harness", pid = self.pid, %error, "cannot kill the group");
        }
    }

    fn send(&self, signal: Signal, flags: libc::c_uint) -> io::Result<()> {
        unless_nobody(pidfd_send_signal(
            self.pidfd.as_raw_fd(),
            signal.number(),
            flags,
        ))
    }

    /// Sends `signal` to the group. The pidfd stands for the group even after the leader was
    /// reaped: the kernel keeps the group by the identity behind the descriptor, not by its number.
    fn send_to_group(&self, signal: Signal, state: &State) -> io::Result<()> {
        match self.send(signal, PIDFD_SIGNAL_PROCESS_GROUP) {
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                // Before Linux 6.9 the group is signalled by its number, and only while our own
                // child holds the number.
                if state.end.is_some() || self.has_ended().is_err() {
                    return Ok(());
                }
                // SAFETY: killpg touches no memory of ours.
                unless_nobody(check(unsafe { libc::killpg(self.pid, signal.number()) }))
            }
            other => other,
        }
    }
}

/// Kills and reaps a child that has no pidfd.
fn kill_unadopted(pid: libc::pid_t) -> Result<(), WaitError> {
    let target = (libc::P_PID, pid.unsigned_abs() as libc::id_t);
    // The number of a child that is still ours is not reused.
    match wait_id(target, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT) {
        Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Err(WaitError::Taken),
        Err(error) => return Err(error.into()),
        Ok(_) => {}
    }
    // SAFETY: neither call touches memory of ours.
    let killed = unsafe {
        libc::killpg(pid, libc::SIGKILL);
        check(libc::kill(pid, libc::SIGKILL))
    };
    // A child that became another user's may not be signalled, and may never end.
    killed?;
    wait_id(target, libc::WEXITED)?;
    Ok(())
}
