//! Another sim that is at work, and may fork.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::limits::{EXEC, FORK};
use crate::sim::sight::Sight;
use crate::sim::starved::ran_for;

/// How the thread of another sim stands while that sim's code is at work.
#[derive(Clone, Debug)]
pub(super) struct AtWork {
    parks: u64,
    /// How long the thread has run, in nanoseconds.
    ran: Option<u64>,
    at: Instant,
}

impl AtWork {
    pub(super) fn now(thread: Pid, sight: &Sight) -> AtWork {
        AtWork {
            parks: sight.parks.load(Ordering::Acquire),
            ran: ran_for(thread.as_raw().unsigned_abs()),
            at: Instant::now(),
        }
    }

    /// Whether the thread has got through a fork that it may have been in the middle of.
    pub(super) fn has_gone_on(&self, now: &AtWork) -> bool {
        // A thread that began since may have the number of one that ended.
        let ran = now.ran.zip(self.ran);
        let ran = ran.map(|(now, then)| now.saturating_sub(then));
        let has_run = ran.is_none_or(|ran| Duration::from_nanos(ran) > FORK);
        self.parks != now.parks || has_run || now.at - self.at > EXEC
    }
}
