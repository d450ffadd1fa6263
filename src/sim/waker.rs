//! The waker of a sim's body, which wakes it only when everything is at rest.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};
use std::thread::{self, ThreadId};

use super::sight::Sight;
use crate::sim::agent::Shared;

/// Wakes the body, and the tasks that it has spawned locally.
///
/// If the body is woken while tasks run, tokio looks for events without coming to rest, and so does not ask the gate.
/// Of two children that were killed together, the body would find the one that died first. This waker therefore keeps
/// the wake until tokio comes to rest, and the gate passes it on.
#[derive(Debug)]
pub(crate) struct BodyWaker {
    /// Tokio's own waker.
    waker: Mutex<Option<Waker>>,
    is_woken: AtomicBool,
    /// Whether there is a gate that passes the wakes on.
    is_gated: AtomicBool,
    thread: ThreadId,
    pub(super) shared: Arc<Shared>,
    pub(super) sight: Arc<Sight>,
}

impl BodyWaker {
    /// The waker of the sim of this thread.
    pub(crate) fn new(shared: Arc<Shared>, sight: Arc<Sight>) -> Arc<BodyWaker> {
        Arc::new(BodyWaker {
            waker: Mutex::default(),
            is_woken: AtomicBool::new(false),
            is_gated: AtomicBool::new(false),
            thread: thread::current().id(),
            shared,
            sight,
        })
    }

    /// Says whether there is a gate from now on. Without one, passes on the wake that was kept.
    pub(crate) fn set_gated(&self, is_gated: bool) {
        self.is_gated.store(is_gated, Ordering::Release);
        if !is_gated {
            self.pass_on();
        }
    }

    /// Whether a wake is kept.
    pub(crate) fn is_woken(&self) -> bool {
        self.is_woken.load(Ordering::Acquire)
    }

    /// Passes on the wake that was kept, if there is one.
    pub(crate) fn pass_on(&self) {
        if self.is_woken.swap(false, Ordering::AcqRel) {
            let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(waker) = waker.clone() {
                waker.wake();
            }
        }
    }

    pub(super) fn set(&self, waker: &Waker) {
        let mut own = self.waker.lock().unwrap_or_else(PoisonError::into_inner);
        if !own.as_ref().is_some_and(|own| own.will_wake(waker)) {
            *own = Some(waker.clone());
        }
    }
}

impl Wake for BodyWaker {
    fn wake(self: Arc<BodyWaker>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<BodyWaker>) {
        self.is_woken.store(true, Ordering::Release);
        if !self.is_gated.load(Ordering::Acquire) || self.sight.is_over.load(Ordering::Acquire) {
            self.pass_on();
        } else if thread::current().id() != self.thread {
            // The runtime may be at rest. A task that is woken makes it ask the gate.
            self.shared.timer.notify_one();
        }
    }
}
