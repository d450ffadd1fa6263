//! What a case changes in its own process so that a child could inherit it. Each change is taken
//! back when its value is dropped.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Condvar, Mutex, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{SigSet, Signal};

use super::held::Hold;

/// Two signals that this thread blocks. The children that the thread starts inherit that. Nothing
/// else on the thread uses these signals.
pub(super) struct BlockedSignal(SigSet);

impl BlockedSignal {
    pub(super) fn new() -> BlockedSignal {
        let mut set = SigSet::empty();
        // Each rule is judged on a thread of its own, so this changes nothing for the others.
        set.add(Signal::SIGURG);
        set.add(Signal::SIGWINCH);
        // This fails only for an invalid set.
        let _ = set.thread_block();
        BlockedSignal(set)
    }
}

impl Drop for BlockedSignal {
    fn drop(&mut self) {
        let _ = self.0.thread_unblock();
    }
}

/// How many cases want the signal ignored.
static IGNORING: Mutex<usize> = Mutex::new(0);

/// A signal that this process ignores while the value lives: `SIGRTMAX - 1`, which nobody uses. It
/// is ignored only if it had its default disposition.
pub(super) struct IgnoredSignal {
    _hold: Option<Hold>,
}

impl IgnoredSignal {
    pub(super) fn new() -> IgnoredSignal {
        let mut ignoring = IGNORING.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = *ignoring > 0 || change_disposition(libc::SIG_DFL, libc::SIG_IGN);
        *ignoring += usize::from(is_ours);
        IgnoredSignal {
            _hold: is_ours.then(|| Hold::new(heed)),
        }
    }
}

/// Counts one case less that wants the signal ignored. After the last one, restores its
/// disposition.
fn heed() {
    let mut ignoring = IGNORING.lock().unwrap_or_else(PoisonError::into_inner);
    *ignoring -= 1;
    if *ignoring == 0 {
        change_disposition(libc::SIG_IGN, libc::SIG_DFL);
    }
}

/// Changes the disposition of the signal. Returns false if it was not `from`.
fn change_disposition(from: libc::sighandler_t, to: libc::sighandler_t) -> bool {
    let signal = libc::SIGRTMAX() - 1;
    // SAFETY: `sigaction` is integers and a set. A value of zeroes is valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: the action is valid for writes.
    let read = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
    if read != 0 || action.sa_sigaction != from {
        return false;
    }
    action.sa_sigaction = to;
    // SAFETY: the action is valid, and runs no code: it is the default or to ignore.
    unsafe { libc::sigaction(signal, &raw const action, std::ptr::null_mut()) == 0 }
}

/// A descriptor of this process that stays open over exec.
pub(super) struct OpenDescriptor {
    _hold: Option<Hold>,
}

impl OpenDescriptor {
    pub(super) fn new() -> OpenDescriptor {
        // Above the numbers that profiles declare.
        const FIRST: i32 = 100;
        let opened = File::open("/dev/null").map_err(drop);
        let copied = opened.and_then(|null| fcntl(&null, FcntlArg::F_DUPFD(FIRST)).map_err(drop));
        OpenDescriptor {
            _hold: copied.ok().map(|number| {
                // SAFETY: the call succeeded: it is a new descriptor that nobody else owns.
                let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
                Hold::new(move || drop(descriptor))
            }),
        }
    }
}

/// What tells a descriptor from others that have its number at other times: number, device, file.
pub(super) type Descriptor = (u64, u64, u64);

/// Returns the open descriptors of this process.
pub(super) fn open_descriptors() -> BTreeSet<Descriptor> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            // Another thread may have closed the descriptor by now.
            let file = std::fs::metadata(entry.path()).ok()?;
            Some((number, file.dev(), file.ino()))
        })
        .collect()
}

/// Held while a case counts descriptors, so that no other such case is played. If another subject
/// leaked, that must not be taken for a leak of this one.
pub(super) struct Alone {
    _hold: Hold,
}

pub(super) fn counting_alone() -> Alone {
    // A flag instead of the guard of a mutex: nobody could take a guard away from a thread that is
    // left behind.
    static IS_TAKEN: Mutex<bool> = Mutex::new(false);
    static FREED: Condvar = Condvar::new();
    let taken = IS_TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
    let taken = FREED.wait_while(taken, |is_taken| *is_taken);
    *taken.unwrap_or_else(PoisonError::into_inner) = true;
    Alone {
        _hold: Hold::new(|| {
            *IS_TAKEN.lock().unwrap_or_else(PoisonError::into_inner) = false;
            FREED.notify_one();
        }),
    }
}
