//! Where an agent's standard streams lead.

use std::fs::File;
use std::os::fd::OwnedFd;

/// Where one of an agent's three standard streams leads.
#[derive(Debug, Default)]
#[non_exhaustive]
pub enum AgentStdio {
    /// `/dev/null`.
    #[default]
    Null,
    /// The same stream of this process. If it is closed here, it is closed in the agent, too.
    Inherit,
    /// An open file, pipe or socket. The [`Spawner`](super::Spawner) keeps it open for later agents. If it is the
    /// writing end of a pipe, the reader therefore sees the end of the pipe only when the spawner
    /// is gone, too.
    Fd(OwnedFd),
}

impl From<OwnedFd> for AgentStdio {
    fn from(fd: OwnedFd) -> AgentStdio {
        AgentStdio::Fd(fd)
    }
}

impl From<File> for AgentStdio {
    fn from(file: File) -> AgentStdio {
        AgentStdio::Fd(file.into())
    }
}

impl From<std::io::PipeReader> for AgentStdio {
    fn from(pipe: std::io::PipeReader) -> AgentStdio {
        AgentStdio::Fd(pipe.into())
    }
}

impl From<std::io::PipeWriter> for AgentStdio {
    fn from(pipe: std::io::PipeWriter) -> AgentStdio {
        AgentStdio::Fd(pipe.into())
    }
}
