//! Starting an agent.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use agent_stub::Signal;
use nix::unistd::{AccessFlags, access};

use super::error::SpawnError;
use super::handle::AgentHandle;
use super::launch::{AGENT_FD, Launch, LaunchError};
use super::options::{SpawnerOptions, without_nul};

use crate::clock::Clock;
use crate::supervisor::process::{Process, WaitError};

const ENV_ID: &str = "SUPERVISE_AGENT_ID";
const ENV_FD: &str = "SUPERVISE_AGENT_FD";
const ENV_RUNTIME_DIR: &str = "SUPERVISE_AGENT_RUNTIME_DIR";

/// Starts agents: child processes that share a socket pair with this process.
///
/// An agent starts with
///
/// - its half of an AF_UNIX stream socket pair as descriptor 3, and its three standard streams. It
///   has no other descriptor, whatever this process has open, except for the
///   [lock](crate::supervisor::SupervisorBuilder::lock) of a supervisor that has one;
/// - this process's environment, the extra entries, `SUPERVISE_AGENT_ID`, `SUPERVISE_AGENT_FD=3`
///   and, if the options say so, `SUPERVISE_AGENT_RUNTIME_DIR`;
/// - a process group of its own, no signal blocked and none ignored.
///
/// The spawner uses posix_spawn with file actions (glibc 2.34 or later), so no code of this process
/// runs in the child. It holds the agent by a pidfd (Linux 5.4 or later). It therefore installs no
/// SIGCHLD handler, and waits for nobody else's children.
///
/// Source: `Spawner` of the Go package `supervise`; posix_spawn(3), pidfd_open(2).
///
/// ```
/// use std::io::{Read, Write};
/// use std::net::Shutdown;
/// use supervise_harness::supervisor::SpawnerOptions;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let spawner = SpawnerOptions::new()
///     .agent_path("/bin/sh")
///     .args(["-c", "cat <&3 >&3"])
///     .build()?;
/// let mut agent = spawner.spawn("echo")?;
///
/// let mut socket = agent.take_socket().expect("not taken yet");
/// socket.write_all(b"hello")?;
/// socket.shutdown(Shutdown::Write)?;
/// let mut answer = String::new();
/// socket.read_to_string(&mut answer)?;
/// assert_eq!(answer, "hello");
///
/// let end = agent.close().await?;
/// assert_eq!(end.pid, agent.pid());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Spawner {
    options: SpawnerOptions,
    argv: Vec<CString>,
    /// The open file that the agents inherit as descriptor 4.
    passed_on: Option<Arc<File>>,
}

impl SpawnerOptions {
    /// Checks the options and creates a spawner. Opens nothing, starts nothing and does not look
    /// for the program.
    ///
    /// # Errors
    ///
    /// [`SpawnError::NoAgentPath`], [`SpawnError::InvalidEnv`], [`SpawnError::InvalidValue`].
    pub fn build(self) -> Result<Spawner, SpawnError> {
        Spawner::new(self)
    }
}

impl Spawner {
    /// Creates a spawner with these options. Opens nothing, starts nothing and does not look for
    /// the program.
    ///
    /// # Errors
    ///
    /// [`SpawnError::NoAgentPath`], [`SpawnError::InvalidEnv`], [`SpawnError::InvalidValue`].
    pub fn new(options: SpawnerOptions) -> Result<Spawner, SpawnError> {
        options.check()?;
        let argv = [options.agent_path.as_os_str()]
            .into_iter()
            .chain(options.args.iter().map(OsString::as_os_str))
            .map(|arg| c_string("argument", arg))
            .collect::<Result<_, _>>()?;
        Ok(Spawner {
            options,
            argv,
            passed_on: None,
        })
    }

    /// Makes the agents inherit this open file, as descriptor 4.
    pub(crate) fn pass_on(&mut self, file: Arc<File>) {
        self.passed_on = Some(file);
    }

    /// Starts one agent. The agent may outlive the spawner, but not its handle.
    ///
    /// Needs no runtime. Blocks until the exec has happened or failed, as [`std::process::Command`]
    /// does, and for nothing else.
    ///
    /// `agent_id` is any name without a NUL byte, except the empty one. It need not be unique.
    ///
    /// # Errors
    ///
    /// [`SpawnError`]. A failed spawn leaves no descriptor, child or zombie behind.
    pub fn spawn(&self, agent_id: &str) -> Result<AgentHandle, SpawnError> {
        let options = &self.options;
        let given = options.agent_path.as_path();
        if agent_id.is_empty() {
            return Err(SpawnError::InvalidValue {
                what: "agent id".to_owned(),
                value: OsString::new(),
                reason: "it is empty",
            });
        }
        without_nul("agent id", OsStr::new(agent_id))?;
        let mut path = resolve(given)?;
        if options.current_dir.is_some() && path.is_relative() {
            // The child looks for the program after it has entered its working directory. A
            // relative path would be taken from there.
            path = std::path::absolute(&path).map_err(|error| {
                SpawnError::of_step(&path, "tell its absolute path", "its path", error)
            })?;
        }
        let program = c_string("agent path", path.as_os_str())?;
        let envp = self.environment(agent_id)?;
        let dir = options.current_dir.as_deref();
        let current_dir = dir
            .map(|dir| c_string("working directory", dir.as_os_str()))
            .transpose()?;

        let (host_half, agent_half) = UnixStream::pair().map_err(|error| {
            SpawnError::of_step(&path, "make a socket pair", "a socket pair", error)
        })?;
        let launched = Launch {
            program: &program,
            argv: &self.argv,
            envp: &envp,
            current_dir: current_dir.as_deref(),
            agent_half: agent_half.as_fd(),
            passed_on: self.passed_on.as_ref().map(|file| file.as_fd()),
            stdio: [&options.stdin, &options.stdout, &options.stderr],
        }
        .run();
        // Closed here, so that its descriptor is free for the pidfd, and so that the socket ends
        // when the agent does.
        drop(agent_half);
        let pid = launched.map_err(|error| match error {
            LaunchError::Prepare(wanted, error) => {
                SpawnError::of_step(&path, "prepare its streams", wanted, error)
            }
            LaunchError::Exec(error) => SpawnError::of_exec(&path, dir, error),
        })?;
        let process = Process::adopt(pid).map_err(|error| match error {
            WaitError::Taken => SpawnError::StatusTaken {
                path: path.clone(),
                pid: pid.unsigned_abs(),
            },
            WaitError::Io(error) => SpawnError::of_step(&path, "open its pidfd", "a pidfd", error),
        })?;
        tracing::debug!(
            target: "supervise_harness",
            agent = agent_id, pid, program = %path.display(), "spawn"
        );
        Ok(AgentHandle::new(
            agent_id.to_owned(),
            process,
            host_half,
            options.grace,
            options.stop_signal,
            Arc::clone(&options.clock),
        ))
    }

    /// Creates a spawner of another program, with the environment, the working directory, the
    /// runtime directory and the clock of this spawner. Its streams are `/dev/null`.
    pub(crate) fn of_program(
        &self,
        program: &Path,
        args: &[OsString],
    ) -> Result<Spawner, SpawnError> {
        let options = &self.options;
        let mut other = SpawnerOptions::new().agent_path(program).args(args);
        other.env.clone_from(&options.env);
        other.current_dir.clone_from(&options.current_dir);
        other.runtime_dir.clone_from(&options.runtime_dir);
        other.clock = Arc::clone(&options.clock);
        other.build()
    }

    /// Returns the signal that stops the agents.
    #[must_use]
    pub fn stop_signal(&self) -> Signal {
        self.options.stop_signal
    }

    /// Returns the clock that measures the grace.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.options.clock)
    }

    fn environment(&self, agent_id: &str) -> Result<Vec<CString>, SpawnError> {
        let mut entries: BTreeMap<OsString, OsString> = env::vars_os().collect();
        // If this process is an agent itself, its own runtime directory is not meant for its
        // agents.
        entries.remove(OsStr::new(ENV_RUNTIME_DIR));
        entries.extend(self.options.env.iter().cloned());
        entries.insert(ENV_ID.into(), agent_id.into());
        entries.insert(ENV_FD.into(), AGENT_FD.to_string().into());
        if let Some(dir) = &self.options.runtime_dir {
            entries.insert(ENV_RUNTIME_DIR.into(), dir.into());
        }
        entries
            .into_iter()
            .map(|(mut entry, value)| {
                entry.push("=");
                entry.push(value);
                c_string("environment entry", &entry)
            })
            .collect()
    }
}

/// Returns the path to execute. Looks up a name without a slash as Go's exec does: in absolute
/// directories of `PATH` only.
fn resolve(path: &Path) -> Result<PathBuf, SpawnError> {
    if path.as_os_str().as_bytes().contains(&b'/') {
        return Ok(path.to_owned());
    }
    let directories = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&directories)
        .filter(|directory| directory.is_absolute())
        .map(|directory| directory.join(path))
        .find(|file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
        .ok_or_else(|| SpawnError::NotInPath {
            name: path.to_owned(),
        })
}

fn c_string(what: &str, value: &OsStr) -> Result<CString, SpawnError> {
    CString::new(value.as_bytes()).map_err(|_| SpawnError::InvalidValue {
        what: what.to_owned(),
        value: value.to_owned(),
        reason: "it has a NUL byte",
    })
}
