//! One sim under the watchdog.

use std::collections::HashSet;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::unistd::Pid;
use tokio::sync::Notify;

use super::last::Last;
use super::verdict::Verdict;
use crate::sim::agent::Shared;
use crate::sim::children::Children;
use crate::sim::pool::Pool;
use crate::sim::sight::Sight;

/// real-time: how long to wait for the server's lock, whose holder is at work.
pub(super) const LOCKED: Duration = Duration::from_secs(1);

/// How long to wait for the server's lock after an earlier wait for it was in vain.
pub(super) const LOCKED_AGAIN: Duration = Duration::from_millis(5);

/// One sim, as the watchdog sees it.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(super) shared: Arc<Shared>,
    pub(super) sight: Arc<Sight>,
    pub(super) limit: Duration,
    /// The thread that runs the sim, and that thread's name, which mostly is a test's.
    pub(super) thread: Pid,
    pub(super) name: Option<String>,
    /// Whether somebody else looks after the sim's thread if it does not come back.
    pub(super) may_be_lost: bool,
    pub(super) children: Children,
    /// The children that were there before the sim.
    pub(super) before: HashSet<u32>,
    pub(super) pool: Arc<Pool>,
    /// A spare descriptor. Without it the watchdog could end nothing once this process has no descriptor left.
    pub(super) spare: Mutex<Option<OwnedFd>>,
    pub(super) last: Mutex<Last>,
    pub(super) verdict: Mutex<Option<Verdict>>,
    /// Notified when there is a verdict.
    pub(super) given: Condvar,
    /// What else there is to say, one line each.
    pub(super) remarks: Mutex<Vec<String>>,
    /// Notified when the sim is to end.
    pub(crate) abort: Notify,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watched {
    pub(crate) fn verdict(&self) -> Option<Verdict> {
        lock(&self.verdict).clone()
    }

    pub(crate) fn remarks(&self) -> Vec<String> {
        lock(&self.remarks).clone()
    }

    /// The text, after the name of the sim's thread. libtest names that thread after the test.
    pub(super) fn titled(&self, text: &str) -> String {
        match &self.name {
            Some(name) => format!("supervise-harness: in `{name}`: {text}"),
            None => format!("supervise-harness: {text}"),
        }
    }
}
