//! A thread that sleeps until it is woken.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

/// Runs a future on this thread. The thread sleeps while the future waits.
pub(super) fn park_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let unpark = Unpark::this_thread();
    let waker = Waker::from(Arc::clone(&unpark));
    let mut context = Context::from_waker(&waker);
    loop {
        unpark.woken.store(false, Ordering::Release);
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
        // `park` may return because of somebody else's unpark, or for no reason. The future was not
        // woken then.
        while !unpark.is_woken() {
            thread::park();
        }
    }
}

/// Wakes a thread, and remembers that it did.
pub(super) struct Unpark {
    thread: Thread,
    pub(super) woken: AtomicBool,
}

impl Unpark {
    pub(super) fn this_thread() -> Arc<Unpark> {
        Arc::new(Unpark {
            thread: thread::current(),
            woken: AtomicBool::new(false),
        })
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}
