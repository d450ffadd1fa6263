//! Why an agent could not be started.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{AccessFlags, access};
use thiserror::Error;

use crate::supervisor::process::TAKEN;

/// Why an agent could not be started. Whatever the reason, no descriptor, child or zombie is left
/// behind.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SpawnError {
    /// The options name no program.
    #[error("cannot start agents: no agent path was given")]
    NoAgentPath,
    /// An extra environment entry cannot be passed on.
    #[error("invalid environment entry {key:?}: {reason}")]
    InvalidEnv {
        /// The entry's name, as given.
        key: OsString,
        /// What is wrong with the entry.
        reason: &'static str,
    },
    /// The program's path, an argument, a directory or the agent's id cannot be passed on.
    #[error("invalid {what} {value:?}: {reason}")]
    InvalidValue {
        /// Which of these values it is, such as `agent id`.
        what: String,
        /// The value, as given.
        value: OsString,
        /// What is wrong with the value.
        reason: &'static str,
    },
    /// The program is a name without a slash, and no absolute directory of this process's `PATH`
    /// has an executable file of that name.
    #[error(
        "cannot start `{}`: no such program in PATH; a path to it has a slash, as in `./{}`",
        name.display(), name.display()
    )]
    NotInPath {
        /// The program's name, as given.
        name: PathBuf,
    },
    /// The program's file does not exist.
    #[error("cannot start `{}`: no such file{}", path.display(), in_directory(current_dir.as_deref()))]
    NotFound {
        /// The program's path.
        path: PathBuf,
        /// The directory from which a relative path was taken. `None` if the path is absolute, or
        /// if that directory was removed.
        current_dir: Option<PathBuf>,
    },
    /// The path names a directory.
    #[error("cannot start `{}`: it is a directory", path.display())]
    IsDirectory {
        /// The program's path.
        path: PathBuf,
    },
    /// The file, or a directory on the way to it, does not permit this process to execute it.
    #[error("cannot start `{}`: no permission to execute it{}", path.display(), with_mode(*mode))]
    NotExecutable {
        /// The program's path.
        path: PathBuf,
        /// The file's permission bits, or `None` if they could not be read.
        mode: Option<u32>,
    },
    /// The file is neither a program of this machine nor a script with a `#!` line.
    #[error("cannot start `{}`: neither a program for this machine nor a script with a `#!` line", path.display())]
    NotAProgram {
        /// The program's path.
        path: PathBuf,
    },
    /// The file exists, but something that it needs to start is missing or not executable.
    #[error(
        "cannot start `{}`: {} is missing or not executable",
        path.display(),
        interpreter.as_ref().map_or_else(
            || "something it needs to start (its loader, or /dev/null)".to_owned(),
            |name| format!("its interpreter `{}`", name.display())
        )
    )]
    Interpreter {
        /// The program's path.
        path: PathBuf,
        /// The interpreter of the `#!` line. `None` for a file without such a line: its loader or
        /// `/dev/null` is missing.
        interpreter: Option<PathBuf>,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The working directory cannot be entered, so the program was not run.
    #[error("cannot start `{}`: cannot enter its working directory `{}`", path.display(), dir.display())]
    CurrentDir {
        /// The program's path.
        path: PathBuf,
        /// The working directory.
        dir: PathBuf,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No descriptor was left, in this process or in the whole system.
    #[error("cannot start `{}`: no descriptor left for {wanted}{}", path.display(), with_limit(*limit))]
    Descriptors {
        /// The program's path.
        path: PathBuf,
        /// What the descriptor was for.
        wanted: &'static str,
        /// How many descriptors are allowed: RLIMIT_NOFILE for `EMFILE`, `fs.file-max` for
        /// `ENFILE`. `None` if there is no limit or it cannot be read.
        limit: Option<u64>,
        /// The kernel's reason.
        source: io::Error,
    },
    /// No further process is allowed: RLIMIT_NPROC, a control group's limit or the system's limit
    /// is reached.
    #[error("cannot start `{}`: no further process is allowed{}", path.display(), with_limit(*limit))]
    ProcessLimit {
        /// The program's path.
        path: PathBuf,
        /// RLIMIT_NPROC, or `None` if it is unlimited.
        limit: Option<u64>,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The agent has ended, and its status went elsewhere: something else in this program waits for
    /// all children, or SIGCHLD is ignored.
    #[error("cannot watch `{}`, which was started as process {pid} and has ended: {}", path.display(), TAKEN)]
    StatusTaken {
        /// The program's path.
        path: PathBuf,
        /// The agent's process id.
        pid: u32,
    },
    /// Any other system call failed.
    #[error("cannot start `{}`: cannot {step}", path.display())]
    Os {
        /// The program's path.
        path: PathBuf,
        /// What the spawner tried to do, such as `make a socket pair`.
        step: &'static str,
        /// The kernel's reason.
        source: io::Error,
    },
}

fn in_directory(current_dir: Option<&Path>) -> String {
    current_dir.map_or_else(String::new, |dir| format!(" in `{}`", dir.display()))
}

fn with_mode(mode: Option<u32>) -> String {
    mode.map_or_else(String::new, |mode| format!(" (mode {mode:03o})"))
}

fn with_limit(limit: Option<u64>) -> String {
    limit.map_or_else(String::new, |limit| format!(" (limit {limit})"))
}

impl SpawnError {
    /// Makes the error of a step that this process took before or after the exec.
    pub(super) fn of_step(
        path: &Path,
        step: &'static str,
        wanted: &'static str,
        source: io::Error,
    ) -> SpawnError {
        let path = path.to_owned();
        let limit = match source.raw_os_error() {
            Some(libc::EMFILE) => soft_limit(Resource::RLIMIT_NOFILE),
            Some(libc::ENFILE) => system_files(),
            _ => return SpawnError::Os { path, step, source },
        };
        SpawnError::Descriptors {
            path,
            wanted,
            limit,
            source,
        }
    }

    /// Makes the error of a failed posix_spawn: of the exec, or of a step before it in the child.
    /// The error number does not tell them apart, so this looks at the files afterwards.
    pub(super) fn of_exec(path: &Path, dir: Option<&Path>, source: io::Error) -> SpawnError {
        let owned = path.to_owned();
        if let Some(dir) = dir
            && !(dir.is_dir() && access(dir, AccessFlags::X_OK).is_ok())
        {
            let dir = dir.to_owned();
            return SpawnError::CurrentDir {
                path: owned,
                dir,
                source,
            };
        }
        match source.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::EACCES) => of_file(path, source),
            Some(libc::ENOEXEC) => SpawnError::NotAProgram { path: owned },
            Some(libc::EAGAIN) => SpawnError::ProcessLimit {
                path: owned,
                limit: soft_limit(Resource::RLIMIT_NPROC),
                source,
            },
            _ => SpawnError::of_step(path, "execute it", "the agent's streams", source),
        }
    }
}

fn of_file(path: &Path, source: io::Error) -> SpawnError {
    let owned = path.to_owned();
    let denied = source.raw_os_error() == Some(libc::EACCES);
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(_) if denied => {
            return SpawnError::NotExecutable {
                path: owned,
                mode: None,
            };
        }
        Err(_) => {
            return SpawnError::NotFound {
                path: owned,
                // If the current directory was removed, the error has only the path.
                current_dir: path
                    .is_relative()
                    .then(std::env::current_dir)
                    .and_then(Result::ok),
            };
        }
    };
    if metadata.is_dir() {
        return SpawnError::IsDirectory { path: owned };
    }
    let interpreter = interpreter(path);
    // A script that this process may execute was denied because of its interpreter.
    if denied && (interpreter.is_none() || access(path, AccessFlags::X_OK).is_err()) {
        return SpawnError::NotExecutable {
            path: owned,
            mode: Some(metadata.permissions().mode() & 0o7777),
        };
    }
    SpawnError::Interpreter {
        path: owned,
        interpreter,
        source,
    }
}

/// Returns the interpreter that a script's first line names.
fn interpreter(path: &Path) -> Option<PathBuf> {
    // The kernel looks at the first 256 bytes.
    let mut head = Vec::new();
    File::open(path)
        .ok()?
        .take(256)
        .read_to_end(&mut head)
        .ok()?;
    let line = head.strip_prefix(b"#!")?.split(|b| *b == b'\n').next()?;
    let name = line
        .split(|b| matches!(b, b' ' | b'\t'))
        .find(|word| !word.is_empty())?;
    Some(PathBuf::from(OsStr::from_bytes(name)))
}

fn soft_limit(resource: Resource) -> Option<u64> {
    match getrlimit(resource) {
        Ok((soft, _)) if soft != libc::RLIM_INFINITY => Some(soft),
        _ => None,
    }
}

fn system_files() -> Option<u64> {
    std::fs::read_to_string("/proc/sys/fs/file-max")
        .ok()?
        .trim()
        .parse()
        .ok()
}
