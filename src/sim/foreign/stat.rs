//! What the `stat` of a process says, and whether the process has ended.

use std::fs;
use std::time::{Duration, Instant};

use nix::libc;

use crate::sim::children;

/// real-time: how long a process that runs, and may have been killed, has to show that it ends.
const SURE: Duration = Duration::from_millis(100);

/// `PF_EXITING` of linux/sched.h.
const EXITING: u64 = 0x4;

/// What the `stat` of a process says: proc(5).
pub(super) struct Stat {
    /// What the kernel calls the process.
    pub(super) name: Option<String>,
    /// The state, as [`children::state`] has it.
    pub(super) state: Option<char>,
    /// Whether the process's only thread is on its way out, so that the process ends by itself.
    is_exiting: bool,
    /// Whether the process has only one thread.
    pub(super) is_single: bool,
}

pub(super) fn stat_of(pid: u32) -> Stat {
    let folder = format!("/proc/{pid}");
    let Ok(stat) = children::contents(&format!("{folder}/stat")) else {
        return Stat {
            name: None,
            state: children::state(&folder),
            is_exiting: false,
            is_single: false,
        };
    };
    let stat = String::from_utf8_lossy(&stat);
    let name = stat
        .split_once('(')
        .and_then(|(_, rest)| rest.rsplit_once(") "));
    let name = name.map(|(name, _)| name.to_owned());
    // The fields from the third on.
    let mut fields = stat.rsplit(") ").next().unwrap_or_default().split(' ');
    let state = fields.next().and_then(|state| state.chars().next());
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    let is_single = fields.nth(10) == Some("1");
    Stat {
        name,
        state,
        is_exiting: is_single && flags.is_some_and(|flags| flags & EXITING != 0),
        is_single,
    }
}

/// Whether a process has ended, or is sure to: the kernel makes a SIGKILL of each signal that ends its target. proc(5).
pub(crate) fn has_ended(pid: u32) -> bool {
    let stat = stat_of(pid);
    stat.is_exiting || matches!(stat.state, None | Some('Z' | 'X')) || is_killed(pid)
}

/// Whether a process ends, or soon shows that it does. Between taking a SIGKILL and beginning to exit, a process shows
/// nothing but that it runs.
pub(crate) fn comes_to_end(pid: u32) -> bool {
    let begun = Instant::now();
    loop {
        if has_ended(pid) {
            return true;
        }
        if stat_of(pid).state != Some('R') || begun.elapsed() > SURE {
            // A process that was killed cannot be asleep still: the kill wakes it.
            return has_ended(pid);
        }
        std::thread::yield_now();
    }
}

fn is_killed(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|line| {
        let set = line
            .strip_prefix("SigPnd:")
            .or(line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(set.trim(), 16).ok()
    });
    let kill = 1 << (libc::SIGKILL - 1);
    pending.fold(0, |all, set| all | set) & kill != 0
}
