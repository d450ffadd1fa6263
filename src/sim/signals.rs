//! Whether this process was sent a signal that somebody in it listens to, such as by the code under test itself.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::libc;
use nix::sys::signal::Signal;

use super::children;
use super::surroundings::action;

/// What programs listen to. How agents end is told of by the agents, whatever becomes of SIGCHLD.
const LISTENED_TO: [Signal; 14] = [
    Signal::SIGHUP,
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGPIPE,
    Signal::SIGALRM,
    Signal::SIGTERM,
    Signal::SIGCONT,
    Signal::SIGTSTP,
    Signal::SIGTTIN,
    Signal::SIGTTOU,
    Signal::SIGIO,
    Signal::SIGWINCH,
];

/// Those that are counted.
static COUNTED: Mutex<Vec<Signal>> = Mutex::new(Vec::new());

/// How many have come.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// A number that is another each time when such a signal may have come since.
pub(super) fn arrived() -> u64 {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in LISTENED_TO {
        if !counted.contains(&signal) && has_handler(signal) {
            counted.push(signal);
            // It may have come before it was counted.
            count();
            // SAFETY: the action does nothing but to add to an atomic number. It fails for no such signal.
            let _ = unsafe { signal_hook_registry::register(signal as libc::c_int, count) };
        }
    }
    ARRIVED.load(Ordering::Acquire)
}

/// Those of them that were sent to this process, and that none of its threads has taken yet: `ShdPnd`, of proc(5).
pub(super) fn pending() -> u64 {
    let counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    if counted.is_empty() {
        return 0;
    }
    let status = children::contents("/proc/self/status").unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("ShdPnd:"));
    let set = set.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    let bits = counted.iter().map(|signal| 1 << (*signal as u32 - 1));
    set.unwrap_or(0) & bits.fold(0, |all: u64, bit: u64| all | bit)
}

fn count() {
    ARRIVED.fetch_add(1, Ordering::Release);
}

/// Whether the signal calls a handler that stays as it is when an action is added to it: as tokio's does, it has these
/// flags.
fn has_handler(signal: Signal) -> bool {
    const FLAGS: libc::c_int = libc::SA_SIGINFO | libc::SA_RESTART;
    // It fails for no signal that there is.
    action(signal, None).is_ok_and(|action| {
        let is_handler = ![libc::SIG_IGN, libc::SIG_DFL].contains(&action.sa_sigaction);
        is_handler && action.sa_flags & FLAGS == FLAGS
    })
}
