//! Which calls of the harness's functions have not returned to the body of a sim.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};

/// The body's own waits. Those of tasks are not among them: nothing says that the body waits for the task.
#[derive(Debug)]
pub(crate) struct Waits {
    thread: ThreadId,
    /// How many polls of the body have begun, and how many of them are over.
    begun: AtomicU64,
    over: AtomicU64,
    /// The number of the next wait.
    next: AtomicU64,
    /// For each wait, by its number: in which poll of the body it was last polled, and its text.
    waits: Mutex<BTreeMap<u64, (u64, String)>>,
}

impl Waits {
    /// For a sim whose body runs on this thread.
    pub(crate) fn of_this_thread() -> Waits {
        Waits {
            thread: thread::current().id(),
            begun: AtomicU64::new(0),
            over: AtomicU64::new(0),
            next: AtomicU64::new(0),
            waits: Mutex::default(),
        }
    }

    /// Call it before each poll of the body.
    pub(crate) fn begin_poll(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    /// Call it after each poll of the body: the body then waits.
    pub(crate) fn end_poll(&self) {
        self.over
            .store(self.begun.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// The text of each wait. A wait that the body did not poll in its last poll is left out: the body keeps
    /// it, but waits for something else.
    pub(crate) fn texts(&self) -> BTreeSet<String> {
        let over = self.over.load(Ordering::Relaxed);
        let waits = self.lock();
        let known = waits.values().filter(|(poll, _)| *poll >= over);
        known.map(|(_, text)| text.clone()).collect()
    }

    /// Begins a wait, which lasts until the result is dropped. The argument says in which function, and what
    /// has not come.
    pub(super) fn begin(&self, (function, missing): (&str, String)) -> Wait<'_> {
        Wait {
            waits: self,
            number: self.next.fetch_add(1, Ordering::Relaxed),
            text: format!("the body's call of `{function}` has not returned: {missing}"),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, (u64, String)>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct Wait<'a> {
    waits: &'a Waits,
    number: u64,
    text: String,
}

impl Wait<'_> {
    /// Call it when the wait is polled. It remembers only a poll by the body.
    pub(super) fn is_polled(&self) {
        // A task has an id, the body has none.
        let is_body =
            thread::current().id() == self.waits.thread && tokio::task::try_id().is_none();
        if is_body {
            let poll = self.waits.begun.load(Ordering::Relaxed);
            self.waits
                .lock()
                .insert(self.number, (poll, self.text.clone()));
        }
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        self.waits.lock().remove(&self.number);
    }
}
