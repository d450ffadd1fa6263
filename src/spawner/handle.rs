//! A started agent in the hands of whoever started it.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use agent_stub::Signal;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::process::{Process, TAKEN, WaitError, WatchResult};
use crate::timestamp::Timestamp;

/// A signal that could not be sent.
#[derive(Debug, Error)]
#[error("cannot send {signal} to process {pid}")]
#[non_exhaustive]
pub struct SignalError {
    /// The agent's process id.
    pub pid: u32,
    /// The signal.
    pub signal: Signal,
    /// The kernel's reason: no permission, mostly.
    pub source: io::Error,
}

/// Why [`AgentHandle::close`] has no status.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Something else in this program waits for all children, or has SIGCHLD ignored: the agent has
    /// ended, and its status went there.
    #[error("cannot tell how process {pid} ended: {}", TAKEN)]
    StatusTaken {
        /// The agent's process id.
        pid: u32,
    },
    /// A signal could not be sent. The agent may still run; dropping the handle tries again.
    #[error("cannot stop the agent")]
    Signal(#[from] SignalError),
    /// The kernel refused to wait: out of descriptors, mostly. The agent may still run; another close
    /// carries on, dropping the handle kills.
    #[error("cannot wait for the end of process {pid}")]
    Wait {
        /// The agent's process id.
        pid: u32,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// How far the one close of an agent has come, whichever future drives it.
#[derive(Clone, Copy, Debug)]
enum Closing {
    NotBegun,
    /// The stop signal is out; SIGKILL follows then, or never if that is beyond the clock.
    Stopping(Timestamp),
    Killed,
}

/// A started agent: its socket, its id, its end.
///
/// Dropping it kills the agent's process group with SIGKILL and reaps the agent, unless that has
/// happened; it blocks until the kernel is done with it, which is short. Watchers get the status.
/// Descendants in groups of their own are out of reach.
///
/// Source: `AgentHandle` of the Go package `supervise`.
#[derive(Debug)]
#[must_use = "dropping the handle kills the agent"]
pub struct AgentHandle {
    agent_id: String,
    process: Arc<Process>,
    socket: Option<UnixStream>,
    grace: Duration,
    stop_signal: Signal,
    clock: Arc<dyn Clock>,
    closing: Mutex<Closing>,
}

impl AgentHandle {
    pub(super) fn new(
        agent_id: String,
        process: Process,
        socket: UnixStream,
        grace: Duration,
        stop_signal: Signal,
        clock: Arc<dyn Clock>,
    ) -> AgentHandle {
        AgentHandle {
            agent_id,
            process: Arc::new(process),
            socket: Some(socket),
            grace,
            stop_signal,
            clock,
            closing: Mutex::new(Closing::NotBegun),
        }
    }

    /// The agent's process id, which is also its process group's. The number may be reused once a
    /// wait or a close has returned.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The id that the agent was started under.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// The host's half of the socket pair, in blocking mode; `None` after [`AgentHandle::take_socket`].
    #[must_use]
    pub fn socket(&self) -> Option<&UnixStream> {
        self.socket.as_ref()
    }

    /// Takes the host's half of the socket pair, to be wrapped for a runtime, for instance; `None`
    /// the second time. From then on a close leaves it alone: it is the caller's to end.
    #[must_use]
    pub fn take_socket(&mut self) -> Option<UnixStream> {
        self.socket.take()
    }

    /// Sends a signal to the agent alone, not to its group. An agent that has ended is no error: the
    /// signal goes nowhere, never to a process that has got its number.
    ///
    /// # Errors
    ///
    /// [`SignalError`] if this process may not, the agent having become another user's.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        self.process
            .signal(signal)
            .map_err(|source| self.signal_error(signal, source))
    }

    /// Ends the agent: shuts the host's half down, sends the stop signal to the process group, waits
    /// for the agent up to the grace, sends SIGKILL to the group, waits again. Once the agent has
    /// ended, what is left of its group is killed, too, and then the agent reaped.
    ///
    /// All closes of a handle are one close with one result, at once or one after the other, on any
    /// runtime. The agent may have ended before, and been reaped by a watcher; its group is killed
    /// all the same (before Linux 6.9 only if no watcher has reaped the agent).
    ///
    /// The grace goes by the spawner's clock. Tokio's is virtual in a runtime with a paused clock: there
    /// the grace is over as soon as the runtime has nothing else to do.
    ///
    /// Cancel-safe: the next close carries on where a dropped one was, with what is left of the
    /// grace; without a next one, dropping the handle kills.
    ///
    /// # Errors
    ///
    /// [`CloseError`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O and time enabled.
    pub async fn close(&self) -> Result<WatchResult, CloseError> {
        let mut closing = self.closing.lock().await;
        self.process.kill_group_at_reap();
        if let Some(socket) = &self.socket {
            // Its own half only: an agent that says goodbye in its grace must not die of SIGPIPE.
            // It fails only where the other end is gone, which is the point.
            let _ = socket.shutdown(Shutdown::Write);
        }
        if let Some(result) = self.process.reap().map_err(|e| self.close_error(e))? {
            return Ok(result);
        }
        if matches!(*closing, Closing::NotBegun) {
            self.signal_group(self.stop_signal)?;
            // What is frozen could not act on it.
            self.signal_group(Signal::CONT)?;
            *closing = Closing::Stopping(self.clock.now() + self.grace);
        }
        if let Closing::Stopping(deadline) = *closing {
            // Never more than the grace: the close before may have run on a runtime whose paused
            // clock was far ahead.
            let left = deadline.saturating_since(self.clock.now()).min(self.grace);
            tokio::select! {
                biased;
                end = self.process.wait() => return end.map_err(|e| self.close_error(e)),
                () = self.clock.sleep(left) => {}
            }
            self.signal_group(Signal::KILL)?;
            *closing = Closing::Killed;
        }
        self.process.wait().await.map_err(|e| self.close_error(e))
    }

    pub(crate) fn process(&self) -> &Arc<Process> {
        &self.process
    }

    fn signal_group(&self, signal: Signal) -> Result<(), SignalError> {
        self.process
            .signal_group(signal)
            .map_err(|source| self.signal_error(signal, source))
    }

    fn signal_error(&self, signal: Signal, source: io::Error) -> SignalError {
        SignalError {
            pid: self.pid(),
            signal,
            source,
        }
    }

    fn close_error(&self, error: WaitError) -> CloseError {
        let pid = self.pid();
        match error {
            WaitError::Taken => CloseError::StatusTaken { pid },
            WaitError::Io(source) => CloseError::Wait { pid, source },
        }
    }
}

impl Drop for AgentHandle {
    fn drop(&mut self) {
        self.process.kill_and_reap();
    }
}
