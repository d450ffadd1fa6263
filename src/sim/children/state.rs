//! The state of a thread or a process, and the call in which it is blocked.

use std::io;
use std::os::fd::AsFd;

use nix::libc;
use nix::unistd::Pid;

use super::contents::{contents, is_gone};
use crate::pidfd::{ended_status, is_own_lack, open_pidfd};

/// The state of a thread or process, by its folder in /proc: the third field of its `stat`. `None` if it is gone; `?`
/// if the field cannot be read.
pub(crate) fn state(folder: &str) -> Option<char> {
    state_in(contents(&format!("{folder}/stat")))
}

/// The state of a thread or process, as `state` has it, in what was read of its `stat`.
pub(crate) fn state_in(stat: io::Result<Vec<u8>>) -> Option<char> {
    match stat {
        Ok(stat) => {
            let stat = String::from_utf8_lossy(&stat);
            stat.rsplit(") ").next()?.chars().next()
        }
        Err(error) if is_gone(&error) => None,
        Err(_) => Some('?'),
    }
}

/// The system call in which a thread is blocked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Blocked(libc::c_long),
    /// None: the thread is on a processor, or waits for one.
    None,
    /// The call cannot be told.
    Unknown,
}

/// The call in which a thread of this process is blocked, by the thread's folder in /proc: its `syscall`, of proc(5). A
/// thread whose state is `S` may be at work all the same. It has that state, too, while the kernel looks whether the
/// thread has to sleep, and wait4(2) reaps during that. The kernel answers here only when the thread is off its
/// processor.
pub(crate) fn call_of(task: &str) -> Call {
    let text = match contents(&format!("{task}/syscall")) {
        Ok(text) => text,
        // The thread may be at work, or may have ended meanwhile.
        Err(error) if is_own_lack(&error) => return Call::None,
        Err(_) if state(task).is_none() => return Call::None,
        Err(_) => return Call::Unknown,
    };
    let text = String::from_utf8_lossy(&text);
    let number = text
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    number.map_or(Call::None, Call::Blocked)
}

/// Whether a thread of this process is gone, stopped or asleep.
pub(crate) fn is_quiet(thread: Pid) -> bool {
    let task = format!("/proc/self/task/{thread}");
    match state(&task) {
        Some('S') => call_of(&task) != Call::None,
        state => matches!(state, None | Some('T' | 't' | 'Z' | 'X')),
    }
}

/// How often a thread of this process has slept: its `voluntary_ctxt_switches`, of proc(5). `None` if that cannot be
/// told.
pub(crate) fn sleeps_of(thread: Pid) -> Option<u64> {
    let text = contents(&format!("/proc/self/task/{thread}/status")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
    line.trim().parse().ok()
}

/// Whether a process is a zombie. It must be a child of this process, or a process that this one may look at.
pub(crate) fn is_zombie(pid: u32) -> bool {
    open_pidfd(pid).is_ok_and(|pidfd| ended_status(pidfd.as_fd()).is_some())
        || state(&format!("/proc/{pid}")) == Some('Z')
}
