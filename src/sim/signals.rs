//! Whether this process was sent a signal that somebody in it listens to. The code under test itself may have sent it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::libc;
use nix::sys::signal::Signal;

use super::children;
use super::surroundings::action;

/// The signals that programs listen to. SIGCHLD is not among them: the harness learns of the agents' ends without it.
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

/// The signals whose arrivals are counted.
static COUNTED: Mutex<Vec<Signal>> = Mutex::new(Vec::new());

/// How many of the counted signals have arrived.
static ARRIVED: AtomicU64 = AtomicU64::new(0);

/// Returns a number that differs from that of the last call if such a signal may have arrived in between.
pub(super) fn arrived() -> u64 {
    let mut counted = COUNTED.lock().unwrap_or_else(PoisonError::into_inner);
    for signal in LISTENED_TO {
        if !counted.contains(&signal) && has_handler(signal) {
            counted.push(signal);
            // The signal may have arrived before it was counted.
            count();
            // SAFETY: the action only adds to an atomic number. The call fails for none of these signals.
            let _ = unsafe { signal_hook_registry::register(signal as libc::c_int, count) };
        }
    }
    ARRIVED.load(Ordering::Acquire)
}

/// The counted signals that were sent to this process and that no thread has taken yet, one bit each: `ShdPnd`, of
/// proc(5).
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

/// Whether the signal has a handler that stays as it is when an action is added to it. Such a handler has these flags,
/// as tokio's does.
fn has_handler(signal: Signal) -> bool {
    const FLAGS: libc::c_int = libc::SA_SIGINFO | libc::SA_RESTART;
    // This fails only for a number that is no signal.
    action(signal, None).is_ok_and(|action| {
        let is_handler = ![libc::SIG_IGN, libc::SIG_DFL].contains(&action.sa_sigaction);
        is_handler && action.sa_flags & FLAGS == FLAGS
    })
}
