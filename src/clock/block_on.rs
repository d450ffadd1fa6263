//! Runs one future to its end while moving a fake clock, or while its thread waits.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::fake::FakeClock;
use super::park::Unpark;
use super::sleep::Clock;

/// How long, in real time, [`FakeClock::block_on`] waits for a wake from another thread when
/// nothing else can happen.
const STALLED_AFTER: Duration = Duration::from_secs(5);

impl FakeClock {
    /// Runs `future` on this thread. Whenever the future waits, moves the clock to the deadline of
    /// the next sleeper, whoever that is.
    ///
    /// If the future waits for another thread, this call waits for that thread, in real time, only
    /// while nobody sleeps on the clock. Work that other threads do between two sleeps is invisible
    /// here. Drive such threads with [`wait_for_sleepers`](FakeClock::wait_for_sleepers) and
    /// [`advance_to_next`](FakeClock::advance_to_next).
    ///
    /// # Panics
    ///
    /// If the future waits while nobody sleeps and nothing can wake the future. This call panics at
    /// once if nobody holds the future's waker, and after 5 s of real time if somebody holds it and
    /// does not use it. A panic says more than waiting for ever.
    #[track_caller]
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let own = Unpark::this_thread();
        // A second waker, so that only those who can wake the future hold `own`.
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
                    Clock::now(self)
                );
            }
        }
    }

    /// Waits until the future is woken or somebody sleeps. Returns false if neither can happen.
    fn wait_for_others(&self, own: &Arc<Unpark>, driver: &Arc<Unpark>) -> bool {
        let mut sleeper = self.wait_for_sleepers(1);
        let waker = Waker::from(Arc::clone(driver));
        let mut context = Context::from_waker(&waker);
        let began = Instant::now();
        loop {
            if own.is_woken() || pin!(&mut sleeper).poll(&mut context).is_ready() {
                return true;
            }
            // Only this call and its waker hold `own`: nobody else can wake the future, now or
            // later.
            if Arc::strong_count(own) <= 2 {
                // The last holder may have used the waker just before dropping it.
                return own.is_woken() || self.has_sleepers();
            }
            let Some(left) = STALLED_AFTER.checked_sub(began.elapsed()) else {
                return false;
            };
            // Waits only a short time, because nobody is told of a waker that is dropped unused.
            thread::park_timeout(left.min(Duration::from_millis(20)));
        }
    }
}
