//! A backoff from any iterator over delays, such as the schedule of a retry crate.

use std::fmt;
use std::time::Duration;

use super::error::BackoffError;
use super::strategy::BackoffStrategy;

/// Takes its delays from an iterator, such as those of the retry crates backon and tokio-retry.
///
/// Each call takes the next delay, whatever the number of the attempt. There is one exception:
/// attempt 0 starts the schedule again, as [`reset`](BackoffStrategy::reset) does. After the end of
/// the iterator, the last delay repeats. The restart limit decides when to give up, not the
/// backoff.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::backoff::{BackoffStrategy, Delays};
///
/// let seconds = Duration::from_secs;
/// let mut backoff = Delays::new([1, 5].map(seconds))?;
/// assert_eq!([0, 1, 2, 3].map(|n| backoff.next_delay(n)), [1, 5, 5, 5].map(seconds));
/// assert_eq!(backoff.next_delay(0), seconds(1));
/// # Ok::<(), supervise_harness::backoff::BackoffError>(())
/// ```
pub struct Delays<I> {
    schedule: Box<dyn FnMut() -> I + Send>,
    rest: I,
    /// The delay that the next call returns. It is read in advance, so that an empty schedule is
    /// found when the backoff is made.
    upcoming: Duration,
    /// Whether `upcoming` is still the schedule's first delay.
    fresh: bool,
}

impl<I: Iterator<Item = Duration>> Delays<I> {
    /// Makes a backoff from a schedule that can be cloned: an array, a vector, or an iterator. It
    /// takes a new clone each time the schedule starts again. A clone of a jittered iterator
    /// repeats the same draws. Use [`Delays::from_fn`] if each round should have new draws.
    ///
    /// # Errors
    ///
    /// [`BackoffError::NoDelays`] if the schedule is empty.
    pub fn new<S>(schedule: S) -> Result<Delays<I>, BackoffError>
    where
        S: IntoIterator<IntoIter = I> + Clone + Send + 'static,
    {
        Delays::from_fn(move || schedule.clone().into_iter())
    }

    /// Makes a backoff that calls `schedule` for a new iterator each time the schedule starts
    /// again. Use it for iterators that cannot be cloned.
    ///
    /// ```
    /// use std::time::Duration;
    /// use supervise_harness::backoff::{BackoffStrategy, Delays};
    ///
    /// let mut backoff = Delays::from_fn(|| (0..).map(|n| Duration::from_millis(100 << n.min(5))))?;
    /// assert_eq!(backoff.next_delay(0), Duration::from_millis(100));
    /// # Ok::<(), supervise_harness::backoff::BackoffError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`BackoffError::NoDelays`] if the first schedule is empty. If a later schedule is empty, the
    /// backoff repeats the last delay.
    pub fn from_fn(
        mut schedule: impl FnMut() -> I + Send + 'static,
    ) -> Result<Delays<I>, BackoffError> {
        let mut rest = schedule();
        let upcoming = rest.next().ok_or(BackoffError::NoDelays)?;
        Ok(Delays {
            schedule: Box::new(schedule),
            rest,
            upcoming,
            fresh: true,
        })
    }
}

impl<I: Iterator<Item = Duration>> BackoffStrategy for Delays<I> {
    fn next_delay(&mut self, attempt: u32) -> Duration {
        if attempt == 0 {
            self.reset();
        }
        self.fresh = false;
        let delay = self.upcoming;
        if let Some(next) = self.rest.next() {
            self.upcoming = next;
        }
        delay
    }

    fn reset(&mut self) {
        if self.fresh {
            return;
        }
        self.rest = (self.schedule)();
        if let Some(first) = self.rest.next() {
            self.upcoming = first;
        }
        self.fresh = true;
    }
}

impl<I> fmt::Debug for Delays<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delays")
            .field("upcoming", &self.upcoming)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_schedule_is_refused() {
        let error = Delays::new(Vec::new()).expect_err("no delays");
        assert_eq!(
            error.to_string(),
            "delays is empty: expected at least one delay"
        );
    }

    #[test]
    fn a_reset_begins_the_schedule_again_and_an_unused_one_is_not_thrown_away() {
        let mut made = 0;
        let mut backoff = Delays::from_fn(move || {
            made += 1;
            [made, made + 10].map(Duration::from_secs).into_iter()
        })
        .expect("two delays");
        let mut next = |n, reset| {
            if reset {
                backoff.reset();
            }
            backoff.next_delay(n).as_secs()
        };
        assert_eq!(
            [next(0, false), next(1, false), next(2, false)],
            [1, 11, 11]
        );
        assert_eq!([next(0, true), next(1, false)], [2, 12]);
        assert_eq!(next(0, false), 3);
    }
}
