//! Why a supervisor cannot be started, or cannot carry out a request.

use std::path::PathBuf;

/// Why a supervisor cannot be started, or cannot carry out a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// A period is 0 s, and must be above zero.
    #[error("{field} is 0s: expected a period above zero ({instead})")]
    ZeroPeriod {
        /// The name of the setting.
        field: &'static str,
        /// What to use instead.
        instead: &'static str,
    },
    /// The probe's program or arguments are invalid, as an empty path or a NUL byte is. It could
    /// never be started.
    #[error("the probe cannot be started, ever: {reason}")]
    BadProbe {
        /// The text of the spawner's error.
        reason: String,
    },
    /// The group has no children.
    #[error("a group needs a child: expected one or more")]
    NoChildren,
    /// Two children of a group have the same name, and nobody could tell which one is meant.
    #[error("two children of the group are called {agent_id:?}: expected a name for each")]
    SameName {
        /// The name that both children have.
        agent_id: String,
    },
    /// Another supervisor has the lock, or a process that a crashed supervisor left behind has it.
    #[error("{} is locked{}: the service is in other hands", path.display(), by(*holder))]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that holds the lock: a supervisor, or an agent that a supervisor has left
        /// behind. `None` if this is unknown.
        holder: Option<u32>,
    },
    /// The lock file cannot be opened, locked or written.
    #[error("cannot take the lock {}: {reason}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The kernel's reason.
        reason: String,
    },
    /// There is no tokio runtime to run the supervisor.
    #[error("a supervisor needs a tokio runtime: start it inside one")]
    NoRuntime,
    /// The supervisor's task has ended: its runtime is gone, or the backoff panicked.
    #[error("the supervisor has ended: its runtime is gone, or its backoff panicked")]
    Gone,
}

/// The words that name the holder of the lock, or nothing.
fn by(holder: Option<u32>) -> String {
    holder.map_or_else(String::new, |pid| format!(" by process {pid}"))
}
