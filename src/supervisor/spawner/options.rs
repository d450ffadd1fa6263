//! The options that an agent is started with.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_stub::Signal;

use super::error::SpawnError;
use super::stdio::AgentStdio;
use crate::clock::{Clock, TokioClock};

/// Builds a [`Spawner`](super::Spawner): the options that agents are started with.
///
/// Source: `SpawnerOptions` of the Go package `supervise`.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::supervisor::{AgentStdio, SpawnError, SpawnerOptions};
///
/// let spawner = SpawnerOptions::new()
///     .agent_path("/bin/sh")
///     .args(["-c", "exit 3"])
///     .env("RUST_LOG", "debug")
///     .stderr(AgentStdio::Inherit)
///     .grace(Duration::from_millis(500))
///     .build()?;
///
/// let error = SpawnerOptions::new().agent_path("/bin/sh").env("A=B", "").build().unwrap_err();
/// assert!(matches!(error, SpawnError::InvalidEnv { .. }));
/// # Ok::<(), SpawnError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct SpawnerOptions {
    pub(super) agent_path: PathBuf,
    pub(super) args: Vec<OsString>,
    pub(super) current_dir: Option<PathBuf>,
    pub(super) runtime_dir: Option<PathBuf>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) stdin: AgentStdio,
    pub(super) stdout: AgentStdio,
    pub(super) stderr: AgentStdio,
    pub(super) grace: Duration,
    pub(super) stop_signal: Signal,
    pub(super) clock: Arc<dyn Clock>,
}

impl Default for SpawnerOptions {
    fn default() -> SpawnerOptions {
        SpawnerOptions::new()
    }
}

impl SpawnerOptions {
    /// Starts from the defaults: no program, no arguments, no extra environment entries, streams on
    /// `/dev/null`, SIGTERM as the stop signal, a grace of 3 s.
    pub fn new() -> SpawnerOptions {
        SpawnerOptions {
            agent_path: PathBuf::new(),
            args: Vec::new(),
            current_dir: None,
            runtime_dir: None,
            env: Vec::new(),
            stdin: AgentStdio::Null,
            stdout: AgentStdio::Null,
            stderr: AgentStdio::Null,
            grace: Duration::from_secs(3),
            stop_signal: Signal::TERM,
            clock: Arc::new(TokioClock::new()),
        }
    }

    /// Sets the program, which is required. The path is also the agent's argument 0, as given.
    ///
    /// As in the Go package `supervise`, a path with a slash is used as it is, relative to the
    /// current directory at the time of the spawn. A name without a slash is looked up in the
    /// absolute directories of this process's `PATH`, never in the current directory.
    pub fn agent_path(mut self, path: impl Into<PathBuf>) -> SpawnerOptions {
        self.agent_path = path.into();
        self
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl Into<OsString>) -> SpawnerOptions {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> SpawnerOptions {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the agents' working directory. Default: this process's. If it cannot be entered, the
    /// program is not run. The program's path is still relative to this process's working
    /// directory.
    pub fn current_dir(mut self, dir: impl Into<PathBuf>) -> SpawnerOptions {
        self.current_dir = Some(dir.into());
        self
    }

    /// Sets the parent directory of the agents' own state. The agents find it in
    /// `SUPERVISE_AGENT_RUNTIME_DIR`. The spawner neither makes the directory nor looks at it.
    pub fn runtime_dir(mut self, dir: impl Into<PathBuf>) -> SpawnerOptions {
        self.runtime_dir = Some(dir.into());
        self
    }

    /// Adds an environment entry, which replaces one of the same name. The agent gets this
    /// process's environment at the time of the spawn, then these entries, then
    /// `SUPERVISE_AGENT_ID`, `SUPERVISE_AGENT_FD` and, if set, `SUPERVISE_AGENT_RUNTIME_DIR`.
    pub fn env(mut self, key: impl Into<OsString>, value: impl Into<OsString>) -> SpawnerOptions {
        self.env.push((key.into(), value.into()));
        self
    }

    /// Sets the agent's standard input. Default: `/dev/null`.
    pub fn stdin(mut self, stdin: impl Into<AgentStdio>) -> SpawnerOptions {
        self.stdin = stdin.into();
        self
    }

    /// Sets the agent's standard output. Default: `/dev/null`.
    pub fn stdout(mut self, stdout: impl Into<AgentStdio>) -> SpawnerOptions {
        self.stdout = stdout.into();
        self
    }

    /// Sets the agent's standard error. Default: `/dev/null`.
    pub fn stderr(mut self, stderr: impl Into<AgentStdio>) -> SpawnerOptions {
        self.stderr = stderr.into();
        self
    }

    /// Sets how long a close waits between the stop signal and SIGKILL. Default: 3 s. Any length is
    /// valid; zero means that SIGKILL follows at once.
    pub fn grace(mut self, grace: Duration) -> SpawnerOptions {
        self.grace = grace;
        self
    }

    /// Sets the signal that a close begins with. Default: SIGTERM.
    pub fn stop_signal(mut self, signal: Signal) -> SpawnerOptions {
        self.stop_signal = signal;
        self
    }

    /// Sets the clock that measures the grace, and everything else that takes time. Default:
    /// tokio's clock.
    pub fn clock(mut self, clock: impl Clock + 'static) -> SpawnerOptions {
        self.clock = Arc::new(clock);
        self
    }

    pub(super) fn check(&self) -> Result<(), SpawnError> {
        if self.agent_path.as_os_str().is_empty() {
            return Err(SpawnError::NoAgentPath);
        }
        without_nul("agent path", self.agent_path.as_os_str())?;
        for (index, arg) in self.args.iter().enumerate() {
            without_nul(&format!("argument {}", index + 1), arg)?;
        }
        if let Some(dir) = &self.current_dir {
            without_nul("working directory", dir.as_os_str())?;
        }
        if let Some(dir) = &self.runtime_dir {
            without_nul("runtime directory", dir.as_os_str())?;
        }
        for (key, value) in &self.env {
            let reason = match key.as_bytes() {
                [] => "its name is empty",
                name if name.contains(&b'=') => "its name has a `=`",
                name if name.contains(&0) => "its name has a NUL byte",
                _ if value.as_bytes().contains(&0) => "its value has a NUL byte",
                _ => continue,
            };
            return Err(SpawnError::InvalidEnv {
                key: key.clone(),
                reason,
            });
        }
        Ok(())
    }
}

/// Refuses a value with a NUL byte: an exec would cut it off there.
pub(super) fn without_nul(what: &str, value: &OsStr) -> Result<(), SpawnError> {
    if value.as_bytes().contains(&0) {
        return Err(SpawnError::InvalidValue {
            what: what.to_owned(),
            value: value.to_owned(),
            reason: "it has a NUL byte",
        });
    }
    Ok(())
}
