//! Finds the built program.

use std::ffi::{CString, c_char, c_int, c_uint};
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// The variable that names a program to use instead.
const OVERRIDE: &str = "SUPERVISE_AGENT_STUB";

/// Where the build script put the program.
const BUILT: &str = env!("AGENT_STUB_PROGRAM");

/// The program itself, which this library carries.
const BYTES: &[u8] = include_bytes!(env!("AGENT_STUB_PROGRAM"));

/// Why there is no program to run.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProgramError {
    /// `SUPERVISE_AGENT_STUB` names something that cannot be run.
    Override {
        /// The path that the variable names.
        path: PathBuf,
        /// Why this path cannot be run.
        cause: io::Error,
    },
    /// The program was not built: `SUPERVISE_AGENT_STUB_SKIP_BUILD` or `DOCS_RS` was set.
    NotBuilt,
    /// The built file is gone and the embedded copy could not be written anywhere.
    Extract {
        /// The last place where it was to be written.
        path: PathBuf,
        /// Why it could not be written there.
        cause: io::Error,
    },
    /// The embedded copy could be written only to a folder from which no program may be run.
    Noexec {
        /// The last folder of this kind that was tried.
        folder: PathBuf,
    },
}

/// What a user can do if there is no place for the embedded copy.
const ADVICE: &str = "Set TMPDIR to a folder from which programs may be run, or SUPERVISE_AGENT_STUB to the path of an \
                      agent-stub that is already there";

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProgramError::Override { path, cause } => {
                write!(f, "cannot use {OVERRIDE}={}: {cause}", path.display())
            }
            ProgramError::NotBuilt => write!(
                f,
                "the agent stub was not built, since SUPERVISE_AGENT_STUB_SKIP_BUILD or DOCS_RS was set: build without \
                 it, or set {OVERRIDE} to the path of an agent-stub"
            ),
            ProgramError::Extract { path, cause } => {
                write!(
                    f,
                    "cannot write the agent stub to {}: {cause}. {ADVICE}",
                    path.display()
                )
            }
            ProgramError::Noexec { folder } => write!(
                f,
                "cannot run the agent stub from {}: the folder is mounted noexec, or something else forbids to run what is \
                 written there. {ADVICE}",
                folder.display()
            ),
        }
    }
}

impl std::error::Error for ProgramError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ProgramError::Override { cause, .. } | ProgramError::Extract { cause, .. } => {
                Some(cause)
            }
            ProgramError::NotBuilt | ProgramError::Noexec { .. } => None,
        }
    }
}

/// Returns the path of the `agent-stub` program.
///
/// Looks for it once in each process, in microseconds and without cargo. It returns the first of
/// these:
///
/// - The program that `SUPERVISE_AGENT_STUB` names, if the variable is set. Nothing else is tried
///   then.
/// - The file that the build script made. It may be gone, for example because the tests were moved
///   to another machine, or lie where no program may be run.
/// - The copy that this library carries. The library writes it beside the running program. If that
///   fails, or if nothing there may be run, it writes the copy to a directory of the user's own
///   below the temporary directory. The copy stays there for the next process.
///
/// # Errors
///
/// [`ProgramError`] if the program that the variable names cannot be run, if the program was not
/// built, or if the copy cannot be written to a place from which it may be run.
///
/// ```
/// let stub = agent_stub::path()?;
/// let status = std::process::Command::new(stub).args(["--script", "exit 3"]).status()?;
/// assert_eq!(status.code(), Some(3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn path() -> Result<&'static Path, ProgramError> {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    static LOOKING: Mutex<()> = Mutex::new(());
    if let Some(found) = FOUND.get() {
        return Ok(found);
    }
    // One thread at a time looks, so that one of them extracts the copy and the others find it.
    // After a failure the next call tries again.
    let _looking = LOOKING.lock().unwrap_or_else(PoisonError::into_inner);
    let found = find()?;
    Ok(FOUND.get_or_init(|| found))
}

fn find() -> Result<PathBuf, ProgramError> {
    if let Some(path) = std::env::var_os(OVERRIDE).map(PathBuf::from) {
        return match runnable(&path, None) {
            Ok(()) => Ok(path),
            Err(cause) => Err(ProgramError::Override { path, cause }),
        };
    }
    if BYTES.is_empty() {
        return Err(ProgramError::NotBuilt);
    }
    // A file of another length is from another build.
    if runnable(Path::new(BUILT), Some(BYTES.len())).is_ok() {
        return Ok(PathBuf::from(BUILT));
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(Path::to_path_buf));
    if let Some(path) = beside.and_then(|directory| extract(&directory).ok()) {
        return Ok(path);
    }
    extract(&private_directory()?)
}

/// Checks that the file can be run and, if a length is given, that it has this length.
fn runnable(path: &Path, length: Option<usize>) -> io::Result<()> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.permissions().mode() & 0o111 == 0 {
        return Err(io::Error::other("it is no file that can be run"));
    }
    if length.is_some_and(|length| metadata.len() != length as u64) {
        return Err(io::Error::other("it is another build's"));
    }
    if may_be_run(path) {
        Ok(())
    } else {
        Err(io::Error::other(
            "it may not be run, as where its folder is mounted noexec",
        ))
    }
}

/// Whether the kernel lets this user run the file. Its mode does not say so alone, since it may lie
/// on a mount that is noexec.
fn may_be_run(path: &Path) -> bool {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    // SAFETY: the path is a string that ends with a NUL byte, valid for the call.
    unsafe { access(path.as_ptr(), X_OK) == 0 }
}

/// Makes or finds a directory below the temporary one that only this user can write to.
fn private_directory() -> Result<PathBuf, ProgramError> {
    // SAFETY: no arguments, cannot fail.
    let user = unsafe { geteuid() };
    let path = std::env::temp_dir().join(format!("supervise-agent-stub-{user}"));
    let made = match DirBuilder::new().mode(0o700).create(&path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::symlink_metadata(&path),
    };
    match made {
        Ok(found) if found.is_dir() && found.uid() == user && found.mode() & 0o022 == 0 => Ok(path),
        Ok(_) => Err(ProgramError::Extract {
            path,
            cause: io::Error::other("it is there already, and others can write to it"),
        }),
        Err(cause) => Err(ProgramError::Extract { path, cause }),
    }
}

/// Writes the embedded program into the directory, unless it is there already. Returns its path.
fn extract(directory: &Path) -> Result<PathBuf, ProgramError> {
    let path = directory.join(format!("agent-stub-{:016x}", fingerprint(BYTES)));
    if runnable(&path, Some(BYTES.len())).is_ok() {
        return Ok(path);
    }
    let unfinished = directory.join(format!(
        ".agent-stub-{:016x}-{}",
        fingerprint(BYTES),
        std::process::id()
    ));
    let result = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&unfinished)?;
        file.write_all(BYTES)?;
        drop(file);
        if !may_be_run(&unfinished) {
            return Ok(false);
        }
        wait_for_writers(&unfinished)?;
        fs::rename(&unfinished, &path)?;
        Ok(true)
    })();
    if !matches!(result, Ok(true)) {
        let _ = fs::remove_file(&unfinished);
    }
    let folder = directory.to_owned();
    match result {
        Ok(true) => Ok(path),
        Ok(false) => Err(ProgramError::Noexec { folder }),
        Err(cause) => Err(ProgramError::Extract {
            path: folder,
            cause,
        }),
    }
}

/// Waits until no process has the file open for writing, for about a second at most. A process that
/// another thread forked while we wrote the file holds it open until its exec. As long as it does
/// so, starting the program fails with ETXTBSY. The kernel grants a read lease exactly when nobody
/// has the file open for writing: fcntl(2), F_SETLEASE.
fn wait_for_writers(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    for _ in 0..1000 {
        // SAFETY: scalar arguments, on a descriptor that is open for the call.
        if unsafe { fcntl(file.as_raw_fd(), F_SETLEASE, F_RDLCK) } == 0 {
            // Closing the file gives the lease back.
            return Ok(());
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::WouldBlock {
            // The file system has no leases, so nothing more can be done.
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Err(io::Error::other(
        "another process keeps it open for writing",
    ))
}

/// The FNV-1a hash. It tells builds apart, and protects nothing.
fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

unsafe extern "C" {
    fn geteuid() -> c_uint;
    fn fcntl(descriptor: c_int, command: c_int, ...) -> c_int;
    fn access(path: *const c_char, mode: c_int) -> c_int;
}

const X_OK: c_int = 1;
const F_SETLEASE: c_int = 1024;
const F_RDLCK: c_int = 0;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_file_is_the_one_that_is_carried() {
        assert_eq!(fs::read(BUILT).unwrap(), BYTES);
        assert_eq!(path().unwrap(), Path::new(BUILT));
    }

    #[test]
    fn the_carried_copy_is_written_once_and_runs() {
        let directory = tempfile::tempdir().unwrap();
        let first = extract(directory.path()).unwrap();
        let written = fs::metadata(&first).unwrap().modified().unwrap();
        let second = extract(directory.path()).unwrap();
        let status = std::process::Command::new(&second)
            .args(["--script", "exit 7"])
            .status()
            .unwrap();
        let same = fs::metadata(&second).unwrap().modified().unwrap() == written;
        let files = fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(
            (first, status.code(), same, files),
            (second, Some(7), true, 1)
        );
    }

    #[test]
    fn a_file_of_another_length_or_that_cannot_be_run_is_refused() {
        assert!(runnable(Path::new(BUILT), Some(BYTES.len() + 1)).is_err());
        assert!(runnable(Path::new("/dev/null"), None).is_err());
        assert!(runnable(Path::new("/"), None).is_err());
    }
}
