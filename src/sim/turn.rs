//! The turns that tokio takes without resting in between.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use super::gate::Gate;

/// Whether the body, or what it has spawned locally, was woken while it was polled.
struct Woken {
    waker: Waker,
    is_woken: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Woken>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Woken>) {
        self.is_woken.store(true, Ordering::Relaxed);
        self.waker.wake_by_ref();
    }
}

/// Lets the processes come to rest before tokio looks at what they did.
///
/// Where a task wakes itself, as one does that waits for a child, tokio looks for events without coming to
/// rest, so that the gate is not asked: of two children that were killed together it would find the one that
/// died first.
pub(crate) struct Settled<F> {
    body: Pin<Box<F>>,
    gate: Arc<Mutex<Option<Gate>>>,
    woken: Option<Arc<Woken>>,
}

impl<F: Future> Settled<F> {
    pub(crate) fn new(body: F, gate: Arc<Mutex<Option<Gate>>>) -> Settled<F> {
        Settled {
            body: Box::pin(body),
            gate,
            woken: None,
        }
    }
}

impl<F: Future> Future for Settled<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.get_mut();
        // One waker for all turns: those who hold it compare it with the next.
        let is_known = |woken: &Arc<Woken>| woken.waker.will_wake(context.waker());
        let woken = match this.woken.take().filter(is_known) {
            Some(woken) => woken,
            None => Arc::new(Woken {
                waker: context.waker().clone(),
                is_woken: AtomicBool::new(false),
            }),
        };
        this.woken = Some(Arc::clone(&woken));
        woken.is_woken.store(false, Ordering::Relaxed);
        if let Some(gate) = &mut *this.gate.lock().unwrap_or_else(PoisonError::into_inner) {
            gate.run();
        }
        let waker = Waker::from(Arc::clone(&woken));
        let result = this.body.as_mut().poll(&mut Context::from_waker(&waker));
        if result.is_pending()
            && woken.is_woken.load(Ordering::Relaxed)
            && let Some(gate) = &mut *this.gate.lock().unwrap_or_else(PoisonError::into_inner)
        {
            gate.settle_between();
        }
        result
    }
}
