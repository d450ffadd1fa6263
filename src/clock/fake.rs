//! A clock that stands still until it is told to move.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::timestamp::Timestamp;

use super::park::park_on;
use super::sleep::{Clock, Kind, Sleep};
use super::sleepers::{FakeSleep, Shared, WaitForSleepers, wake_until};

/// A clock that stands still until it is told to move. All clones show the same time.
///
/// It needs no runtime: its sleeps are plain futures that any executor can poll, and
/// [`sleep_blocking`](FakeClock::sleep_blocking) is for threads. There are two ways to drive it:
/// let [`block_on`](FakeClock::block_on) run one future and move the clock whenever it waits; or
/// start tasks or threads, [`wait_for_sleepers`](FakeClock::wait_for_sleepers) until they sleep,
/// and move the clock by hand.
///
/// ```
/// use std::thread;
/// use std::time::Duration;
/// use supervise_harness::clock::{Clock, FakeClock};
///
/// let clock = FakeClock::new();
/// let sleeper = thread::spawn({
///     let clock = clock.clone();
///     move || clock.sleep_blocking(Duration::from_secs(3600))
/// });
/// clock.wait_for_sleepers_blocking(1);
/// let woke = clock.advance_to_next().unwrap();
/// assert_eq!(woke, clock.now());
/// sleeper.join().unwrap();
/// ```
///
/// Moving the clock wakes the sleepers whose deadlines it reaches, in the order of their deadlines.
/// Those with the same deadline wake in the order in which they began to wait. If they are threads,
/// they then run at the same time. The clock has moved all the way before the first sleeper wakes.
/// To see every step, use [`advance_to_next`](FakeClock::advance_to_next).
#[derive(Clone, Default)]
#[must_use]
pub struct FakeClock {
    shared: Arc<Shared>,
}

impl FakeClock {
    /// Creates a clock at its origin.
    pub fn new() -> FakeClock {
        FakeClock::default()
    }

    /// Moves the time on and wakes every sleeper whose deadline it reaches. At the end of its
    /// range, the clock stays there.
    pub fn advance(&self, duration: Duration) {
        let state = self.shared.lock();
        let to = state.now + duration;
        wake_until(state, to);
    }

    /// Moves the time to the next deadline, wakes every sleeper that has this deadline, and returns
    /// it. If nobody sleeps, returns `None` and does not move the time.
    #[expect(
        clippy::must_use_candidate,
        reason = "called for the move more often than for the time"
    )]
    pub fn advance_to_next(&self) -> Option<Timestamp> {
        let state = self.shared.lock();
        let (&(deadline, _), _) = state.sleepers.first_key_value()?;
        wake_until(state, deadline);
        Some(deadline)
    }

    /// Returns the deadlines of all sleepers, in the order of waking. A sleep counts from its first
    /// poll to its deadline or its drop.
    #[must_use]
    pub fn sleepers(&self) -> Vec<Timestamp> {
        let state = self.shared.lock();
        state
            .sleepers
            .keys()
            .map(|(deadline, _)| *deadline)
            .collect()
    }

    /// Waits until at least `count` sleepers sleep at the same time.
    ///
    /// Cancel-safe.
    pub fn wait_for_sleepers(
        &self,
        count: usize,
    ) -> impl Future<Output = ()> + Send + Unpin + use<> {
        WaitForSleepers {
            shared: Arc::clone(&self.shared),
            count,
            id: None,
        }
    }

    /// Does what [`wait_for_sleepers`](FakeClock::wait_for_sleepers) does, but blocks this thread.
    pub fn wait_for_sleepers_blocking(&self, count: usize) {
        park_on(self.wait_for_sleepers(count));
    }

    /// Blocks this thread until somebody else has moved the clock by `duration`.
    pub fn sleep_blocking(&self, duration: Duration) {
        park_on(self.sleep(duration));
    }

    pub(super) fn has_sleepers(&self) -> bool {
        !self.shared.lock().sleepers.is_empty()
    }
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.shared.lock().now
    }

    fn sleep(&self, duration: Duration) -> Sleep {
        let deadline = self.now() + duration;
        Sleep(Kind::Fake(FakeSleep {
            shared: Arc::clone(&self.shared),
            deadline,
            id: None,
        }))
    }
}

impl fmt::Debug for FakeClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeClock")
            .field("now", &self.now())
            .field("sleepers", &self.sleepers())
            .finish_non_exhaustive()
    }
}
