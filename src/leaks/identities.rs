//! The identities of processes: of those that have certain numbers, and of the children of a thread.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::look;
use super::proc::{self, Identity, Unreadable};

/// The processes whose number `is_one` accepts, without this one: of the numbers in `among`, or of
/// all processes if that is `None`.
pub(crate) fn processes_where(
    among: Option<RangeInclusive<u32>>,
    is_one: impl Fn(u32) -> bool,
) -> Result<Vec<Identity>, Unreadable> {
    let mut found = Vec::new();
    let this = std::process::id();
    // A number in `among` may be that of a thread.
    let may_be_threads = among.is_some();
    let all = match among {
        Some(some) => some.collect(),
        None => proc::numbers("/proc")?,
    };
    for pid in all {
        if pid != this && is_one(pid) && !(may_be_threads && proc::is_thread(pid)?) {
            let stat = proc::stat(pid)?;
            // The number may have become another process's since it was first asked for.
            found.extend(stat.filter(|_| is_one(pid)).map(|stat| stat.identity));
        }
    }
    Ok(found)
}

/// The children of one thread of this process. Looks until two looks in a row agree. A number that
/// was a child's before its start time was looked up, and still is after it, has not become another
/// process's.
pub(crate) fn children_of(thread: nix::unistd::Pid) -> Result<BTreeSet<Identity>, Unreadable> {
    let thread = thread.as_raw().unsigned_abs();
    let mut before = proc::children(thread)?;
    let mut looks = 0;
    loop {
        let mut children = BTreeSet::new();
        for pid in &before {
            children.extend(proc::stat(*pid)?.map(|stat| stat.identity));
        }
        let after = proc::children(thread)?;
        looks += 1;
        if after == before || looks == look::LISTS {
            children.retain(|child| after.contains(&child.pid));
            return Ok(children);
        }
        before = after;
    }
}
