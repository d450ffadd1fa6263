//! The exec of a child that was just forked: how far the child has got with it.

use std::collections::HashMap;
use std::time::Duration;

use super::blindness::{UNKNOWN_CHILD, blind};
use super::limits::CLOSING;
use crate::sim::children::{self, has_no_words, is_zombie};
use crate::sim::starved::ran_for;

/// Whether a child of another sim has not got through its exec. It gets its new arguments only when its descriptors are
/// closed.
pub(super) fn starts(pid: u32) -> Result<bool, String> {
    let has_no_words = || has_no_words(pid).map_err(blind(UNKNOWN_CHILD));
    Ok(is_unexeced(pid) || has_no_words()? && !is_zombie(pid))
}

/// Whether a child has its new arguments, and may still have descriptors that its exec closes. The kernel puts off the
/// last of that until the child goes on in its new program. It has done so once it sleeps, or has run for a while.
pub(super) fn closes(exec_ends: &mut HashMap<u32, u64>, pid: u32) -> bool {
    let ran = ran_for(pid);
    let is_closing = match (children::state(&format!("/proc/{pid}")), ran) {
        (Some('R' | 'D'), Some(ran)) => {
            let since = *exec_ends.entry(pid).or_insert(ran);
            Duration::from_nanos(ran.saturating_sub(since)) < CLOSING
        }
        _ => false,
    };
    if !is_closing {
        exec_ends.remove(&pid);
    }
    is_closing
}

/// Whether a child was forked and still runs this program. It must also have this process's arguments, because it may
/// have run this program anew.
pub(super) fn is_unexeced(pid: u32) -> bool {
    let program = |pid: &str| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let arguments = |pid: &str| std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    let child = pid.to_string();
    program(&child) == program("self") && arguments(&child) == arguments("self")
}
