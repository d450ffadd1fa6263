//! What a thread that judges holds of the process, so that it can be let go without that thread.

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
    /// The sim that runs on the thread, and the thread.
    sim: Option<(Pid, SimHandle)>,
}

thread_local! {
    static HERE: RefCell<Arc<Held>> = RefCell::default();
}

impl Held {
    /// What this thread takes from now on is held here.
    pub(super) fn enter(held: Arc<Held>) {
        HERE.set(held);
    }

    fn lock(&self) -> MutexGuard<'_, Things> {
        self.things.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether its sim was ended, since nothing moved in it, and the subject still has the thread.
    pub(super) fn is_stuck(&self) -> bool {
        self.lock()
            .sim
            .as_ref()
            .is_some_and(|(_, sim)| sim.is_held_up())
    }

    /// Takes from the thread what it holds: it is left behind. What comes back late finds it gone.
    pub(super) fn let_go(&self) {
        loop {
            // Not while it is locked: the thread may come back now.
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

/// Something that this thread holds until this is dropped, or until the thread is left behind.
pub(super) struct Hold {
    held: Arc<Held>,
    number: u64,
}

impl Hold {
    /// With what lets go of it, which is done once.
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

/// The sim that runs on this thread, until this is dropped.
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
