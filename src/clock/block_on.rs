//! Running one future to its end while moving a fake clock, and waiting on a thread.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use super::FakeClock;

/// How long, in real time, [`FakeClock::block_on`] waits for a wake from another thread when
/// nothing else can happen.
const STALLED_AFTER: Duration = Duration::from_secs(5);

impl FakeClock {
    /// Runs `future` on this thread; whenever it waits, moves the clock to the next sleeper, whoever
    /// that is.
    ///
    /// A future that waits for another thread is waited for, in real time, only while nobody sleeps:
    /// work that other threads do between two sleeps is invisible here. Drive those with
    /// [`wait_for_sleepers`](FakeClock::wait_for_sleepers) and
    /// [`advance_to_next`](FakeClock::advance_to_next).
    ///
    /// # Panics
    ///
    /// If the future waits, nobody sleeps and nothing can wake it: at once if nobody holds its
    /// waker, after 5 s of real time if somebody does and does not use it. Waiting forever would
    /// say less.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let own = Unpark::this_thread();
        // A signal of its own, so that `own` is held by nobody but those who can wake the future.
        let driver = Unpark::this_thread();
        let waker = Waker::from(Arc::clone(&own));
        let mut context = Context::from_waker(&waker);
        loop {
            own.woken.store(false, Ordering::Release);
            if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
                return output;
            }
            while !own.is_woken() && self.advance_to_next().is_none() {
                assert!(
                    self.wait_for_others(&own, &driver),
                    "the future waits at {}, but nobody sleeps on this clock and nothing woke it",
                    super::Clock::now(self)
                );
            }
        }
    }

    /// Waits until the future is woken or somebody sleeps; false if neither can happen.
    fn wait_for_others(&self, own: &Arc<Unpark>, driver: &Arc<Unpark>) -> bool {
        let mut sleeper = self.wait_for_sleepers(1);
        let waker = Waker::from(Arc::clone(driver));
        let mut context = Context::from_waker(&waker);
        let began = Instant::now();
        loop {
            if own.is_woken() || pin!(&mut sleeper).poll(&mut context).is_ready() {
                return true;
            }
            // Held by us and by our waker: no one else can wake the future, now or later.
            if Arc::strong_count(own) <= 2 {
                // Whoever held it may have used it just before letting it go.
                return own.is_woken() || self.has_sleepers();
            }
            let Some(left) = STALLED_AFTER.checked_sub(began.elapsed()) else {
                return false;
            };
            // Short, because a waker that is dropped unused tells nobody.
            thread::park_timeout(left.min(Duration::from_millis(20)));
        }
    }
}

/// Runs a future on this thread, which sleeps in between.
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
        // A token of somebody else's, or a spurious return, is no wake.
        while !unpark.is_woken() {
            thread::park();
        }
    }
}

/// Wakes a thread, and remembers it.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Unpark {
    fn this_thread() -> Arc<Unpark> {
        Arc::new(Unpark {
            thread: thread::current(),
            woken: AtomicBool::new(false),
        })
    }

    fn is_woken(&self) -> bool {
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
