//! The few C library calls that std has no wrapper for, each behind a safe function.

use std::ffi::{c_int, c_ulong, c_void};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use crate::signal::Signal;

unsafe extern "C" {
    fn signal(number: c_int, handler: usize) -> usize;
    fn raise(number: c_int) -> c_int;
    fn sighold(number: c_int) -> c_int;
    fn sigrelse(number: c_int) -> c_int;
    fn kill(pid: c_int, number: c_int) -> c_int;
    fn setsid() -> c_int;
    fn getpgid(pid: c_int) -> c_int;
    fn getsid(pid: c_int) -> c_int;
    fn prctl(option: c_int, ...) -> c_int;
    fn close(descriptor: c_int) -> c_int;
    fn write(descriptor: c_int, bytes: *const c_void, length: usize) -> isize;
    fn read(descriptor: c_int, bytes: *mut c_void, length: usize) -> isize;
    fn send(descriptor: c_int, bytes: *const c_void, length: usize, flags: c_int) -> isize;
    fn flock(descriptor: c_int, operation: c_int) -> c_int;
    fn poll(descriptors: *mut Poll, count: c_ulong, timeout: c_int) -> c_int;
    fn __errno_location() -> *mut c_int;
}

const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;
const SIG_ERR: usize = usize::MAX;
const PR_GET_PDEATHSIG: c_int = 2;
const PR_SET_DUMPABLE: c_int = 4;
const MSG_DONTWAIT: c_int = 0x40;
const LOCK_EX: c_int = 2;
const LOCK_NB: c_int = 4;
const ENOTSOCK: i32 = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    95
} else {
    88
};

/// Takes the lock of flock(2) on the open file. Returns false if somebody else has it. The method of std's `File` needs Rust
/// 1.89.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    // SAFETY: flock(2) takes two numbers and touches no memory of ours.
    if unsafe { flock(file.as_raw_fd(), LOCK_EX | LOCK_NB) } == 0 {
        return Ok(true);
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        error => Err(error),
    }
}

/// The flag of open(2) that makes an open or a write fail where it would block.
pub(crate) const O_NONBLOCK: i32 = if cfg!(any(target_arch = "mips", target_arch = "mips64")) {
    0x80
} else if cfg!(any(target_arch = "sparc", target_arch = "sparc64")) {
    0x4000
} else {
    0o4000
};

/// How often each signal was trapped.
static TRAPPED: [AtomicU32; 65] = [const { AtomicU32::new(0) }; 65];
/// The descriptor to which [`trapped`] writes a byte, to wake the event loop.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// What a signal does from now on.
#[derive(Clone, Copy)]
pub(crate) enum Disposition {
    Default,
    Ignore,
    Trap,
}

extern "C" fn trapped(number: c_int) {
    if let Some(count) = usize::try_from(number).ok().and_then(|n| TRAPPED.get(n)) {
        count.fetch_add(1, Ordering::SeqCst);
    }
    // SAFETY: `write` and the errno location are async-signal-safe, and the byte outlives the call.
    // The interrupted code finds errno as it left it. If there is no room for the byte, the loop
    // wakes anyway.
    unsafe {
        let errno = __errno_location();
        let before = *errno;
        write(WAKE.load(Ordering::SeqCst), (&raw const WAKE).cast(), 1);
        *errno = before;
    }
}

/// Sets the descriptor to which a trapped signal writes a byte. Writing to it must not block.
pub(crate) fn wake_by(descriptor: i32) {
    WAKE.store(descriptor, Ordering::SeqCst);
}

/// How often the signal was trapped so far.
pub(crate) fn trapped_count(which: Signal) -> u32 {
    usize::try_from(which.number())
        .ok()
        .and_then(|n| TRAPPED.get(n))
        .map_or(0, |n| n.load(Ordering::SeqCst))
}

/// Sets a signal's disposition.
pub(crate) fn set_disposition(which: Signal, disposition: Disposition) -> io::Result<()> {
    let handler = match disposition {
        Disposition::Default => SIG_DFL,
        Disposition::Ignore => SIG_IGN,
        Disposition::Trap => trapped as *const () as usize,
    };
    // SAFETY: the handler is one of the two constants or a function that does only what is safe in
    // a signal handler.
    if unsafe { signal(which.number(), handler) } == SIG_ERR {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Blocks the signal, or unblocks it.
pub(crate) fn set_blocked(which: Signal, blocked: bool) -> io::Result<()> {
    // SAFETY: scalar arguments only; both change nothing but this thread's mask.
    checked(unsafe {
        if blocked {
            sighold(which.number())
        } else {
            sigrelse(which.number())
        }
    })
    .map(drop)
}

/// Sends this process the signal. Returns if the signal did not end the process.
pub(crate) fn raise_signal(which: Signal) -> io::Result<()> {
    // SAFETY: scalar argument only.
    checked(unsafe { raise(which.number()) }).map(drop)
}

/// Kills a process with SIGKILL.
pub(crate) fn kill_process(pid: u32) -> io::Result<()> {
    let pid = c_int::try_from(pid).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: scalar arguments only.
    checked(unsafe { kill(pid, Signal::KILL.number()) }).map(drop)
}

/// Forbids core dumps of this process.
pub(crate) fn forbid_core_dump() -> io::Result<()> {
    // SAFETY: this option takes one scalar argument.
    checked(unsafe { prctl(PR_SET_DUMPABLE, 0 as c_ulong) }).map(drop)
}

/// The signal that this process gets when the thread that started it ends, if any.
pub(crate) fn parent_death_signal() -> io::Result<Option<Signal>> {
    let mut number: c_int = 0;
    // SAFETY: this option takes the address of an int, which is valid for writes while the call
    // lasts.
    checked(unsafe { prctl(PR_GET_PDEATHSIG, &raw mut number) })?;
    if number == 0 {
        return Ok(None);
    }
    Signal::from_number(number)
        .map(Some)
        .map_err(io::Error::other)
}

/// Starts a session. Safe between fork and exec.
pub(crate) fn start_session() -> io::Result<()> {
    // SAFETY: no arguments.
    checked(unsafe { setsid() }).map(drop)
}

/// This process's group and session.
pub(crate) fn group_and_session() -> (u32, u32) {
    // SAFETY: scalar arguments; for the process itself (0) neither can fail.
    let (group, session) = unsafe { (getpgid(0), getsid(0)) };
    (
        u32::try_from(group).unwrap_or(0),
        u32::try_from(session).unwrap_or(0),
    )
}

/// Closes a standard stream. Only descriptors that nothing in this process owns may be closed.
pub(crate) fn close_stream(descriptor: i32) -> io::Result<()> {
    // SAFETY: a scalar argument. The callers pass 0, 1 or 2, which no owned descriptor ever is:
    // std duplicates to 3 and above, and `OwnedFd`s of the stub are moved there.
    checked(unsafe { close(descriptor) }).map(drop)
}

/// Writes to a descriptor. std's standard streams would hide that a stream is closed.
pub(crate) fn write_to(descriptor: i32, bytes: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a live slice.
    let written = unsafe { write(descriptor, bytes.as_ptr().cast(), bytes.len()) };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}

/// Writes as much as does not block. Fails with [`io::ErrorKind::WouldBlock`] if that is nothing.
///
/// Does not set O_NONBLOCK on the descriptor itself: other processes share it and would be
/// surprised. That poll(2) finds the descriptor writable is not enough, since another process may
/// fill the pipe in between.
pub(crate) fn write_now(descriptor: i32, bytes: &[u8]) -> io::Result<usize> {
    let mut writable = [Poll::writable(descriptor)];
    wait_for(&mut writable, 0);
    if !writable[0].happened() {
        return Err(io::ErrorKind::WouldBlock.into());
    }
    let path = format!("/proc/self/fd/{descriptor}");
    if fs::metadata(&path).is_ok_and(|found| found.file_type().is_fifo()) {
        // This open fails if nobody reads the pipe any more. The write below then ends as it
        // should.
        let own = OpenOptions::new()
            .write(true)
            .custom_flags(O_NONBLOCK)
            .open(&path);
        if let Ok(mut own) = own {
            return own.write(bytes);
        }
    }
    // SAFETY: the pointer and the length are those of a live slice.
    let sent = unsafe { send(descriptor, bytes.as_ptr().cast(), bytes.len(), MSG_DONTWAIT) };
    match usize::try_from(sent).map_err(|_| io::Error::last_os_error()) {
        Err(error) if error.raw_os_error() == Some(ENOTSOCK) => write_to(descriptor, bytes),
        sent => sent,
    }
}

/// Reads from a descriptor.
pub(crate) fn read_from(descriptor: i32, bytes: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of a live slice.
    let length = unsafe { read(descriptor, bytes.as_mut_ptr().cast(), bytes.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

/// Something to wait for on one descriptor: `struct pollfd`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub(crate) struct Poll {
    descriptor: c_int,
    events: i16,
    happened: i16,
}

const POLLIN: i16 = 1;
const POLLOUT: i16 = 4;
/// POLLERR, POLLHUP and POLLNVAL, which poll(2) reports even if nobody asks for them.
const POLLGONE: i16 = 8 | 16 | 32;

impl Poll {
    /// Waits until there is something to read.
    pub(crate) fn readable(descriptor: i32) -> Poll {
        Poll {
            descriptor,
            events: POLLIN,
            happened: 0,
        }
    }

    /// Waits until writing does not block.
    pub(crate) fn writable(descriptor: i32) -> Poll {
        Poll {
            descriptor,
            events: POLLOUT,
            happened: 0,
        }
    }

    /// Waits until the other end is gone, whether there is something to read or not.
    pub(crate) fn gone(descriptor: i32) -> Poll {
        Poll {
            descriptor,
            events: 0,
            happened: 0,
        }
    }

    /// Whether the event happened, or never will because the other end is gone.
    pub(crate) fn happened(self) -> bool {
        self.happened != 0
    }

    /// Whether the other end is gone.
    pub(crate) fn is_gone(self) -> bool {
        self.happened & POLLGONE != 0
    }
}

/// Waits for one of these events, for at most `timeout` milliseconds; −1 means for ever. A signal
/// ends the wait early.
pub(crate) fn wait_for(what: &mut [Poll], timeout: i32) {
    let count = what.len() as c_ulong;
    // SAFETY: pointer and length are those of a live slice of `struct pollfd`s.
    if unsafe { poll(what.as_mut_ptr(), count, timeout) } < 0 {
        // This was EINTR, or there was no memory. Nothing happened, and the caller looks again.
        for one in what {
            one.happened = 0;
        }
    }
}

/// Converts a duration to the milliseconds of [`wait_for`]. It rounds up, so that nothing ends
/// early.
pub(crate) fn milliseconds(time: std::time::Duration) -> i32 {
    i32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
}
