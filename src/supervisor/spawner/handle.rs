//! The handle of a started agent.

use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use agent_stub::Signal;
use thiserror::Error;
use tokio::sync::Mutex;

use crate::clock::Clock;
use crate::supervisor::process::{Process, TAKEN, WaitError, WatchResult};
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
    /// The kernel's reason, mostly that this process lacks the permission.
    pub source: io::Error,
}

/// Why [`AgentHandle::close`] cannot return a status.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The agent has ended, and its status went elsewhere: something else in this program waits for
    /// all children, or SIGCHLD is ignored.
    #[error("cannot tell how process {pid} ended: {}", TAKEN)]
    StatusTaken {
        /// The agent's process id.
        pid: u32,
    },
    /// A signal could not be sent. The agent may still run; dropping the handle tries to kill it.
    #[error("cannot stop the agent")]
    Signal(#[from] SignalError),
    /// The kernel refused to wait, mostly because no descriptor is left. The agent may still run.
    /// Another close carries on; dropping the handle kills the agent.
    #[error("cannot wait for the end of process {pid}")]
    Wait {
        /// The agent's process id.
        pid: u32,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// How far the close of an agent has come. All futures that close the agent share this one close.
#[derive(Clone, Copy, Debug)]
enum Closing {
    NotBegun,
    /// The stop signal was sent. SIGKILL follows at this time, or never if the time is beyond the
    /// clock's range.
    Stopping(Timestamp),
    Killed,
}

/// A started agent. The handle gives access to its socket and its id, signals it and ends it.
///
/// Dropping the handle kills the agent's process group with SIGKILL and reaps the agent, unless
/// this has already happened. The drop blocks until the kernel has ended the agent, which takes a
/// short time. Watchers still get the status. Descendants in process groups of their own are not
/// killed.
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

    /// The agent's process id, which is also the id of its process group. The number may be reused
    /// once a wait or a close has returned.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// The agent's id, as given to `Spawner::spawn`.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// The host's half of the socket pair, in blocking mode; `None` after [`AgentHandle::take_socket`].
    #[must_use]
    pub fn socket(&self) -> Option<&UnixStream> {
        self.socket.as_ref()
    }

    /// Takes the host's half of the socket pair, for instance to wrap it for a runtime. Returns
    /// `None` the second time. A close no longer shuts the socket then: this is up to the caller.
    #[must_use]
    pub fn take_socket(&mut self) -> Option<UnixStream> {
        self.socket.take()
    }

    /// Sends a signal to the agent alone, not to its group. If the agent has ended, this is no
    /// error: nobody gets the signal, not even a process that reuses the agent's number.
    ///
    /// # Errors
    ///
    /// [`SignalError`] if this process may not send it, because the agent now runs as another user.
    pub fn signal(&self, signal: Signal) -> Result<(), SignalError> {
        self.process
            .signal(signal)
            .map_err(|source| self.signal_error(signal, source))
    }

    /// Ends the agent, and returns how it ended:
    ///
    /// 1. It shuts the host's half of the socket down for writing.
    /// 2. It sends the stop signal, and SIGCONT, to the process group.
    /// 3. It waits for the agent's end, at most for the grace.
    /// 4. If the agent still runs, it sends SIGKILL to the group and waits again.
    /// 5. When the agent has ended, it kills what is left of the group, and then reaps the agent.
    ///
    /// All closes of a handle are one close with one result, at the same time or one after the
    /// other, on any runtime. The agent may have ended before, and a watcher may have reaped it.
    /// The close kills its group all the same (before Linux 6.9 only if no watcher has reaped the
    /// agent).
    ///
    /// The spawner's clock measures the grace. Tokio's clock is virtual in a runtime with a paused
    /// clock: there the grace is over as soon as the runtime has nothing else to do.
    ///
    /// Cancel-safe: after a dropped close, the next close carries on from there, with what is left
    /// of the grace. If there is none, dropping the handle kills the agent.
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
            // Shuts only the direction to the agent: an agent that says goodbye in its grace must
            // not die of SIGPIPE. It fails only if the other end is gone. Then there is nobody to
            // tell.
            let _ = socket.shutdown(Shutdown::Write);
        }
        if let Some(result) = self.process.reap().map_err(|e| self.close_error(e))? {
            return Ok(result);
        }
        if matches!(*closing, Closing::NotBegun) {
            self.signal_group(self.stop_signal)?;
            // An agent that was stopped by SIGSTOP, or frozen otherwise, could not act on the stop
            // signal.
            self.signal_group(Signal::CONT)?;
            *closing = Closing::Stopping(self.clock.now() + self.grace);
        }
        if let Closing::Stopping(deadline) = *closing {
            // Waits no longer than the grace: the close before may have run on a runtime whose
            // paused clock was far ahead.
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
