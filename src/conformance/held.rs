//! What a thread that judges holds of the process. The harness can release it without that thread.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::unistd::Pid;

use crate::sim::SimHandle;

type Release = Box<dyn FnOnce() + Send>;

/// What one thread holds.
#[derive(Default)]
pub(super) struct Held {
    things: Mutex<Things>,
}

#[derive(Default)]
struct Things {
    next: u64,
    releases: BTreeMap<u64, Release>,
    /// The thread, and the sim that runs on it.
    sim: Option<(Pid, SimHandle)>,
}

thread_local! {
    static HERE: RefCell<Arc<Held>> = RefCell::default();
}

impl Held {
    /// Records in `held` what this thread takes from now on.
    pub(super) fn enter(held: Arc<Held>) {
        HERE.set(held);
    }

    fn lock(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the thread's sim was ended because nothing moved in it, and the subject still has
    /// the thread.
    pub(super) fn is_stuck(&self) -> bool {
        self.lock()
            .sim
            .as_ref()
            .is_some_and(|(_, sim)| sim.is_held_up())
    }

    /// Releases what the thread holds and ends its sim: the thread is left behind. If the thread
    /// comes back later, it finds these things gone.
    pub(super) fn let_go(&self) {
        loop {
            // Release without the lock: the thread may come back now and need it.
            let Some((_, release)) = self.lock().releases.pop_last() else {
                break;
            };
            release();
        }
        let sim = self.lock().sim.take();
        if let Some((thread, sim)) = sim {
            sim.end_without(thread);
        }
    }
}

/// Something that this thread holds until this value is dropped, or until the thread is left
/// behind.
pub(super) struct Hold {
    held: Arc<Held>,
    number: u64,
}

impl Hold {
    /// Holds something that `release` lets go of. `release` is called once.
    pub(super) fn new(release: impl FnOnce() + Send + 'static) -> Hold {
        let held = HERE.with_borrow(Arc::clone);
        let mut things = held.lock();
        let number = things.next;
        things.next += 1;
        things.releases.insert(number, Box::new(release));
        drop(things);
        Hold { held, number }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let release = self.held.lock().releases.remove(&self.number);
        if let Some(release) = release {
            release();
        }
    }
}

/// Marks the sim as the one that runs on this thread, until this value is dropped.
pub(super) struct Running;

impl Running {
    pub(super) fn new(sim: SimHandle) -> Running {
        HERE.with_borrow(|held| held.lock().sim = Some((nix::unistd::gettid(), sim)));
        Running
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        HERE.with_borrow(|held| held.lock().sim = None);
    }
}
