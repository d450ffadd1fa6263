//! What a backoff strategy is.

use std::time::Duration;

/// How long to wait before each restart.
///
/// These are strategies:
/// - the backoffs of this crate;
/// - a closure that takes the attempt and returns the delay;
/// - the iterator of a retry crate, wrapped in [`Delays`](super::Delays).
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::backoff::BackoffStrategy;
///
/// let mut squares = |attempt: u32| Duration::from_secs(u64::from(attempt).pow(2));
/// assert_eq!(squares.next_delay(3), Duration::from_secs(9));
/// ```
///
/// Source: `BackoffStrategy` of the Go package `supervise`.
pub trait BackoffStrategy {
    /// Returns the delay before restart number `attempt`. The first restart after a reset has the
    /// number 0. This method should not panic for any `attempt`, `u32::MAX` included.
    fn next_delay(&mut self, attempt: u32) -> Duration;

    /// Starts the delays again after a healthy run: the next delay is the first one. A strategy
    /// that looks only at `attempt` need not do anything.
    fn reset(&mut self) {}
}

impl<F: FnMut(u32) -> Duration> BackoffStrategy for F {
    fn next_delay(&mut self, attempt: u32) -> Duration {
        self(attempt)
    }
}

macro_rules! forward {
    ($($pointer:ty),*) => {
        $(impl BackoffStrategy for $pointer {
            fn next_delay(&mut self, attempt: u32) -> Duration {
                (**self).next_delay(attempt)
            }

            fn reset(&mut self) {
                (**self).reset();
            }
        })*
    };
}

// There is no impl for every `&mut S`: it would overlap with the impl for closures.
forward!(
    Box<dyn BackoffStrategy + Send + '_>,
    &mut (dyn BackoffStrategy + Send + '_)
);
