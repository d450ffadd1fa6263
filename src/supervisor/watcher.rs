//! The watcher, which waits for the end of an agent.

use std::future::Future;
use std::io;
use std::sync::Arc;

use thiserror::Error;

use crate::supervisor::process::{Process, TAKEN, WaitError, WatchResult};
use crate::supervisor::spawner::AgentHandle;

/// Why [`Watcher::wait`] and [`Watcher::wait_unless`] cannot return a status.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WatchError {
    /// The wait was cancelled before the agent ended. The agent runs on.
    #[error("waiting for the end of process {pid} was cancelled")]
    Cancelled {
        /// The agent's process id.
        pid: u32,
    },
    /// The agent has ended, and its status went elsewhere: something else in this program waits for
    /// all children, or SIGCHLD is ignored.
    #[error("cannot tell how process {pid} ended: {}", TAKEN)]
    StatusTaken {
        /// The agent's process id.
        pid: u32,
    },
    /// The kernel refused to wait, mostly because no descriptor is left.
    #[error("cannot wait for the end of process {pid}")]
    Wait {
        /// The agent's process id.
        pid: u32,
        /// The kernel's reason.
        source: io::Error,
    },
}

/// Waits for the end of one agent. Clones watch the same agent.
///
/// A watcher may outlive the [`AgentHandle`] that it came from. Closing or dropping the handle ends
/// the agent, and the watcher then gets the status.
///
/// Source: `Watcher` of the Go package `supervise`, where the second wait fails; pidfd_open(2).
///
/// ```
/// use supervise_harness::supervisor::{SpawnerOptions, WatchError};
/// use supervise_harness::Signal;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spawner = SpawnerOptions::new().agent_path("/bin/sleep").arg("60").build()?;
/// let agent = spawner.spawn("sleeper")?;
/// let watcher = agent.watcher();
///
/// // Nobody waits any more; the agent runs on.
/// let cancelled = watcher.wait_unless(std::future::ready(())).await;
/// assert!(matches!(cancelled, Err(WatchError::Cancelled { .. })));
///
/// agent.signal(Signal::TERM)?;
/// let end = watcher.wait().await?;
/// assert_eq!(end, watcher.wait().await?);
/// assert_eq!((end.pid, end.exit_code()), (agent.pid(), -1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Watcher {
    process: Arc<Process>,
}

impl Watcher {
    /// The agent's process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Waits until the agent has ended, reaps it, and returns how it ended.
    ///
    /// Any number of waits get the same result: at the same time, one after the other, or after the
    /// end, and on any runtime. Nobody waits for the agent's own descendants.
    ///
    /// Cancel-safe: dropping the future loses nothing, and the next wait gets the status.
    ///
    /// # Errors
    ///
    /// [`WatchError::StatusTaken`], [`WatchError::Wait`]. `Wait` concerns this wait only: another may
    /// still get the status.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub async fn wait(&self) -> Result<WatchResult, WatchError> {
        self.wait_unless(std::future::pending()).await
    }

    /// Waits as [`wait`](Watcher::wait) does, until the future `cancelled` completes. This may be any future,
    /// such as the `cancelled()` of a cancellation token or the receiver of a channel. It ends the wait
    /// and leaves the agent alone. If the agent has ended as well, the wait returns the status.
    ///
    /// # Errors
    ///
    /// [`WatchError`]. `Cancelled` and `Wait` concern this wait only: another may still get the
    /// status.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub async fn wait_unless(
        &self,
        cancelled: impl Future<Output = ()>,
    ) -> Result<WatchResult, WatchError> {
        let pid = self.pid();
        tokio::select! {
            biased;
            end = self.process.wait() => end.map_err(|error| match error {
                WaitError::Taken => WatchError::StatusTaken { pid },
                WaitError::Io(source) => WatchError::Wait { pid, source },
            }),
            () = cancelled => Err(WatchError::Cancelled { pid }),
        }
    }
}

// This is here, not with the rest of the handle, because a module imports only the modules that
// come before it in `lib.rs`.
impl AgentHandle {
    /// Returns a new watcher of this agent. All watchers of an agent get the same result.
    pub fn watcher(&self) -> Watcher {
        Watcher {
            process: Arc::clone(self.process()),
        }
    }
}
