//! The backoffs without random draws: constant and linear.

use std::time::Duration;

use super::error::{BackoffError, bounds, whole_nanos};
use super::strategy::BackoffStrategy;

/// The same delay before every restart.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::backoff::{BackoffStrategy, ConstantBackoff};
///
/// let mut backoff = ConstantBackoff::new(Duration::from_secs(3));
/// assert_eq!(backoff.next_delay(0), backoff.next_delay(u32::MAX));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct ConstantBackoff {
    delay: Duration,
}

impl ConstantBackoff {
    /// Makes a backoff with this delay. Any delay is allowed: [`Duration::ZERO`] restarts at once.
    pub fn new(delay: Duration) -> ConstantBackoff {
        ConstantBackoff { delay }
    }
}

impl BackoffStrategy for ConstantBackoff {
    fn next_delay(&mut self, _attempt: u32) -> Duration {
        self.delay
    }
}

/// A delay that grows by the same step each time, up to a cap: `min(max, initial + step·n)`.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::backoff::{BackoffStrategy, LinearBackoff};
///
/// let seconds = Duration::from_secs;
/// let mut backoff = LinearBackoff::new(seconds(1), seconds(2), seconds(4))?;
/// assert_eq!([0, 1, 2, u32::MAX].map(|n| backoff.next_delay(n)), [1, 3, 4, 4].map(seconds));
/// # Ok::<(), supervise_harness::backoff::BackoffError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LinearBackoff {
    initial: u64,
    step: u64,
    max: u64,
}

impl LinearBackoff {
    /// Makes a backoff that starts at `initial` and grows by `step` up to `max`.
    ///
    /// # Errors
    ///
    /// If `initial` or `step` is zero, if `max` is below `initial`, or if any of them is above 584
    /// years.
    pub fn new(
        initial: Duration,
        step: Duration,
        max: Duration,
    ) -> Result<LinearBackoff, BackoffError> {
        if step.is_zero() {
            return Err(BackoffError::Zero {
                field: "step",
                alternative: "for the same delay each time, ConstantBackoff",
            });
        }
        let (initial, max) = bounds(initial, max)?;
        let step = whole_nanos("step", step)?;
        Ok(LinearBackoff { initial, step, max })
    }
}

impl BackoffStrategy for LinearBackoff {
    fn next_delay(&mut self, attempt: u32) -> Duration {
        let growth = self.step.saturating_mul(u64::from(attempt));
        Duration::from_nanos(self.initial.saturating_add(growth).min(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linear_growth_stops_at_the_cap_and_never_overflows() {
        let nanos = Duration::from_nanos;
        let mut backoff = LinearBackoff::new(nanos(10), nanos(u64::MAX / 2), nanos(u64::MAX))
            .expect("valid bounds");
        assert_eq!(backoff.next_delay(0), nanos(10));
        assert_eq!(backoff.next_delay(1), nanos(u64::MAX / 2 + 10));
        assert_eq!(backoff.next_delay(u32::MAX), nanos(u64::MAX));
    }

    #[test]
    fn a_zero_step_is_refused_with_its_alternative() {
        let second = Duration::from_secs(1);
        let error = LinearBackoff::new(second, Duration::ZERO, second).expect_err("zero step");
        assert_eq!(
            error.to_string(),
            "step is 0s: expected a delay above zero (for the same delay each time, ConstantBackoff)"
        );
    }
}
