//! Calls posix_spawn, with the agent's descriptors, signals and process group in place.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::stdio::AgentStdio;

/// The descriptor at which the agent finds its half of the socket pair.
pub(super) const AGENT_FD: RawFd = 3;

/// The descriptor at which the agent finds the open file that the spawner passes on.
const PASSED_FD: RawFd = 4;

/// How error messages name the copies of the streams, by descriptor.
const STREAMS: [&str; 3] = [
    "a copy of the given stdin",
    "a copy of the given stdout",
    "a copy of the given stderr",
];

/// What failed when an agent was started.
pub(super) enum LaunchError {
    /// A step in this process. The text says what the step wanted a descriptor for.
    Prepare(&'static str, io::Error),
    /// A step in the child, such as the exec.
    Exec(io::Error),
}

/// What to execute, and with what.
pub(super) struct Launch<'a> {
    pub(super) program: &'a CStr,
    pub(super) argv: &'a [CString],
    pub(super) envp: &'a [CString],
    pub(super) current_dir: Option<&'a CStr>,
    pub(super) agent_half: BorrowedFd<'a>,
    pub(super) passed_on: Option<BorrowedFd<'a>>,
    pub(super) stdio: [&'a AgentStdio; 3],
}

impl Launch<'_> {
    /// Starts the child and returns its id once its exec has happened. The caller must reap it.
    pub(super) fn run(&self) -> Result<libc::pid_t, LaunchError> {
        let prepare = |error| LaunchError::Prepare("the agent's streams", error);
        let mut copies = Vec::new();
        let mut actions = FileActions::new().map_err(prepare)?;
        // This comes first, before a stream overwrites the agent's half, which may itself have one
        // of the numbers 0 to 3. If its number is 3, the C library keeps it open over the exec.
        actions
            .dup2(self.agent_half.as_raw_fd(), AGENT_FD)
            .map_err(prepare)?;
        for ((stream, given), copy) in (0..).zip(self.stdio).zip(STREAMS) {
            match given {
                // If this process has closed the stream, the agent's is closed, too: any descriptor
                // that has taken its number is close-on-exec.
                AgentStdio::Inherit => {}
                AgentStdio::Null if stream == 0 => {
                    actions.open_null(stream, libc::O_RDONLY).map_err(prepare)?;
                }
                AgentStdio::Null => {
                    actions.open_null(stream, libc::O_WRONLY).map_err(prepare)?;
                }
                AgentStdio::Fd(fd) if fd.as_raw_fd() > AGENT_FD => {
                    actions.dup2(fd.as_raw_fd(), stream).map_err(prepare)?;
                }
                // Descriptors 0 to 3 are copied first. A step before this one may overwrite them,
                // and a dup2 of a descriptor to its own number is a special case: see `dup2`.
                AgentStdio::Fd(fd) => {
                    let fd = copy_above(fd, AGENT_FD)
                        .map_err(|error| LaunchError::Prepare(copy, error))?;
                    actions.dup2(fd.as_raw_fd(), stream).map_err(prepare)?;
                    copies.push(fd);
                }
            }
        }
        let mut last = AGENT_FD;
        if let Some(fd) = self.passed_on {
            // This comes last: a descriptor that becomes a stream may have the number 4.
            let copy = "a copy of the lock";
            let fd =
                copy_above(fd, PASSED_FD).map_err(|error| LaunchError::Prepare(copy, error))?;
            actions.dup2(fd.as_raw_fd(), PASSED_FD).map_err(prepare)?;
            copies.push(fd);
            last = PASSED_FD;
        }
        actions.close_from(last + 1).map_err(prepare)?;
        if let Some(dir) = self.current_dir {
            actions.enter(dir).map_err(prepare)?;
        }
        let attributes = Attributes::new().map_err(prepare)?;

        let (argv, envp) = (pointers(self.argv), pointers(self.envp));
        let mut pid = 0;
        // SAFETY: program, argv and envp are null-terminated and outlive the call, as do the
        // initialised actions and attributes; `pid` is valid for writes.
        let code = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                self.program.as_ptr(),
                &raw const actions.0,
                &raw const attributes.0,
                argv.as_ptr(),
                envp.as_ptr(),
            )
        };
        drop(copies);
        check(code).map_err(LaunchError::Exec)?;
        Ok(pid)
    }
}

/// Makes a null-terminated array of pointers to the strings, valid as long as they are.
fn pointers(strings: &[CString]) -> Vec<*mut libc::c_char> {
    // posix_spawn writes to none of them: its type lacks a `const` for historical reasons only.
    strings
        .iter()
        .map(|string| string.as_ptr().cast_mut())
        .chain([ptr::null_mut()])
        .collect()
}

fn copy_above(fd: impl AsFd, last: RawFd) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(last + 1))?;
    // SAFETY: the call succeeded: this is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Turns a result of the posix_spawn family into a `Result`: these functions return their error
/// instead of setting errno.
fn check(code: libc::c_int) -> io::Result<()> {
    if code == 0 {
        return Ok(());
    }
    Err(io::Error::from_raw_os_error(code))
}

/// What the child does with its descriptors before the exec, in order.
struct FileActions(libc::posix_spawn_file_actions_t);

impl FileActions {
    fn new() -> io::Result<FileActions> {
        let mut actions = MaybeUninit::uninit();
        // SAFETY: init writes the whole of it.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        // SAFETY: init succeeded. It may be moved: it holds numbers and pointers to the heap.
        Ok(FileActions(unsafe { actions.assume_init() }))
    }

    /// Adds a dup2. If the numbers are equal, glibc (2.29) and musl clear close-on-exec.
    fn dup2(&mut self, from: RawFd, to: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(&raw mut self.0, from, to) })
    }

    fn open_null(&mut self, fd: RawFd, flags: libc::c_int) -> io::Result<()> {
        // SAFETY: the actions are initialised, the path is null-terminated and static.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(
                &raw mut self.0,
                fd,
                c"/dev/null".as_ptr(),
                flags,
                0,
            )
        })
    }

    /// Adds a change of the working directory. The path is copied.
    fn enter(&mut self, dir: &CStr) -> io::Result<()> {
        // SAFETY: the actions are initialised, the path is null-terminated.
        check(unsafe { libc::posix_spawn_file_actions_addchdir_np(&raw mut self.0, dir.as_ptr()) })
    }

    /// Closes the descriptors from `first` on that other code of this process leaves open over an
    /// exec.
    #[cfg(target_env = "gnu")]
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        // SAFETY: the actions are initialised.
        check(unsafe { libc::posix_spawn_file_actions_addclosefrom_np(&raw mut self.0, first) })
    }

    /// Closes the descriptors from `first` on that other code of this process leaves open over an
    /// exec. Misses those that another thread opens that way between this call and the spawn.
    #[cfg(not(target_env = "gnu"))]
    fn close_from(&mut self, first: RawFd) -> io::Result<()> {
        for entry in std::fs::read_dir("/proc/self/fd")? {
            let name = entry?.file_name();
            if let Some(fd) = name.to_str().and_then(|name| name.parse::<RawFd>().ok())
                && fd >= first
            {
                // SAFETY: the actions are initialised.
                check(unsafe { libc::posix_spawn_file_actions_addclose(&raw mut self.0, fd) })?;
            }
        }
        Ok(())
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawn_file_actions_destroy(&raw mut self.0) };
    }
}

/// The attributes of the child: a process group of its own, no signal blocked, every signal's
/// default action.
struct Attributes(libc::posix_spawnattr_t);

impl Attributes {
    fn new() -> io::Result<Attributes> {
        let mut attributes = MaybeUninit::uninit();
        // SAFETY: init writes the whole of it.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        // SAFETY: init succeeded. It may be moved: it holds numbers.
        let mut attributes = Attributes(unsafe { attributes.assume_init() });

        // SAFETY: sigset_t is an array of integers; all zeroes is the empty set.
        let none: libc::sigset_t = unsafe { MaybeUninit::zeroed().assume_init() };
        let mut all = MaybeUninit::<libc::sigset_t>::uninit();
        // Sets every bit by hand: sigfillset leaves out the two signals that the C library keeps
        // for itself, and with glibc the agent would start with those two ignored. The child skips
        // signals that it cannot set.
        // SAFETY: sigset_t is an array of integers; all ones is the full set.
        let all = unsafe {
            all.as_mut_ptr().write_bytes(0xff, 1);
            all.assume_init()
        };
        let flags = libc::POSIX_SPAWN_SETPGROUP
            | libc::POSIX_SPAWN_SETSIGMASK
            | libc::POSIX_SPAWN_SETSIGDEF;
        let flags = libc::c_short::try_from(flags).map_err(io::Error::other)?;
        // SAFETY: the attributes are initialised, the sets are copied.
        unsafe {
            check(libc::posix_spawnattr_setflags(&raw mut attributes.0, flags))?;
            check(libc::posix_spawnattr_setpgroup(&raw mut attributes.0, 0))?;
            check(libc::posix_spawnattr_setsigmask(
                &raw mut attributes.0,
                &raw const none,
            ))?;
            check(libc::posix_spawnattr_setsigdefault(
                &raw mut attributes.0,
                &raw const all,
            ))?;
        }
        Ok(attributes)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: initialised in `new`, destroyed only here.
        unsafe { libc::posix_spawnattr_destroy(&raw mut self.0) };
    }
}
