//! What a case does to its own process so that a child could inherit it, and takes back.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::sys::signal::{SigSet, Signal};

/// A signal that this thread has blocked, as children that it starts inherit it. Nothing else uses it.
pub(super) struct BlockedSignal(SigSet);

impl BlockedSignal {
    pub(super) fn new() -> BlockedSignal {
        let mut set = SigSet::empty();
        // The thread is the rule's own.
        set.add(Signal::SIGURG);
        set.add(Signal::SIGWINCH);
        // It fails for no valid set.
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

/// A signal that this process ignores meanwhile: one of the last, which nobody uses, and only where it
/// has its default disposition.
pub(super) struct IgnoredSignal {
    is_ours: bool,
}

impl IgnoredSignal {
    pub(super) fn new() -> IgnoredSignal {
        let mut ignoring = IGNORING.lock().unwrap_or_else(PoisonError::into_inner);
        let is_ours = *ignoring > 0 || change_disposition(libc::SIG_DFL, libc::SIG_IGN);
        *ignoring += usize::from(is_ours);
        IgnoredSignal { is_ours }
    }
}

impl Drop for IgnoredSignal {
    fn drop(&mut self) {
        if !self.is_ours {
            return;
        }
        let mut ignoring = IGNORING.lock().unwrap_or_else(PoisonError::into_inner);
        *ignoring -= 1;
        if *ignoring == 0 {
            change_disposition(libc::SIG_IGN, libc::SIG_DFL);
        }
    }
}

/// False where it was another than expected.
fn change_disposition(from: libc::sighandler_t, to: libc::sighandler_t) -> bool {
    let signal = libc::SIGRTMAX() - 1;
    // SAFETY: sigaction is integers and a set; all zeroes is a valid one.
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
    _descriptor: Option<OwnedFd>,
}

impl OpenDescriptor {
    pub(super) fn new() -> OpenDescriptor {
        // Above those that anybody declares.
        const FIRST: i32 = 100;
        let opened = File::open("/dev/null").map_err(drop);
        let copied = opened.and_then(|null| fcntl(&null, FcntlArg::F_DUPFD(FIRST)).map_err(drop));
        OpenDescriptor {
            // SAFETY: the call succeeded: it is a new descriptor that nobody else owns.
            _descriptor: copied
                .ok()
                .map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
        }
    }
}

/// What tells a descriptor from others that have its number at other times.
pub(super) type Descriptor = (u64, u64, u64);

/// The descriptors of this process: number, device, file.
pub(super) fn open_descriptors() -> BTreeSet<Descriptor> {
    let entries = std::fs::read_dir("/proc/self/fd").into_iter().flatten();
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            // Gone where another thread has closed it by now.
            let file = std::fs::metadata(entry.path()).ok()?;
            Some((number, file.dev(), file.ino()))
        })
        .collect()
}

/// Held while descriptors are counted: another subject that leaks must not be taken for this one.
pub(super) struct Alone {
    _guard: MutexGuard<'static, ()>,
}

pub(super) fn counting_alone() -> Alone {
    static ALONE: Mutex<()> = Mutex::new(());
    Alone {
        _guard: ALONE.lock().unwrap_or_else(PoisonError::into_inner),
    }
}
