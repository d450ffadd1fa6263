//! How long a subject waits before each restart.

use std::time::Duration;

use crate::backoff::Jitter;
#[cfg(feature = "supervisor")]
use crate::backoff::{BackoffError, ExponentialBackoff};

/// How the delay before a restart grows: `initial·multiplierⁿ`, at most `max`, spread by the
/// jitter. n is the number of restarts before, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DelayCurve {
    /// The first delay.
    pub initial: Duration,
    /// The factor from each delay to the next. 1 gives a constant delay.
    pub multiplier: f64,
    /// The longest delay.
    pub max: Duration,
    /// How the delays are spread at random.
    pub jitter: Jitter,
}

impl DelayCurve {
    /// A curve with the same delay every time, without jitter.
    #[must_use]
    pub fn constant(delay: Duration) -> DelayCurve {
        DelayCurve::exponential(delay, 1.0, delay)
    }

    /// A curve with a delay that grows, without jitter.
    #[must_use]
    pub fn exponential(initial: Duration, multiplier: f64, max: Duration) -> DelayCurve {
        DelayCurve {
            initial,
            multiplier,
            max,
            jitter: Jitter::None,
        }
    }

    /// Sets the jitter.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> DelayCurve {
        self.jitter = jitter;
        self
    }

    /// The `n`-th delay, counted from 0, without jitter.
    #[must_use]
    pub fn delay(&self, n: u32) -> Duration {
        let nominal = self.initial.as_secs_f64() * self.multiplier.powf(f64::from(n));
        match Duration::try_from_secs_f64(nominal) {
            Ok(delay) => delay.min(self.max),
            Err(_) => self.max,
        }
    }

    /// The shortest and the longest that the `n`-th delay, counted from 0, may be, jitter included.
    /// Decorrelated jitter depends on the delay before, so for it these are only the outermost
    /// bounds.
    #[must_use]
    pub fn bounds(&self, n: u32) -> (Duration, Duration) {
        let v = self.delay(n);
        match self.jitter {
            Jitter::None => (v, v),
            Jitter::Full => (Duration::ZERO, v),
            Jitter::Equal => (v / 2, v),
            Jitter::Relative(part) => {
                // A jitter that is not a number or too large is refused elsewhere. Here it must not
                // cause a panic.
                let part = part.clamp(0.0, f64::from(u32::MAX)).max(0.0);
                let most = Duration::try_from_secs_f64(v.as_secs_f64() * (1.0 + part));
                (
                    v.mul_f64((1.0 - part).max(0.0)),
                    most.map_or(self.max, |most| most.min(self.max)),
                )
            }
            Jitter::Decorrelated => (self.initial.min(self.max), self.max),
        }
    }

    /// Builds our `ExponentialBackoff` with these delays. `seed` makes its jitter repeatable;
    /// without one, the seed comes from the system.
    ///
    /// # Errors
    ///
    /// As [`ExponentialBackoffBuilder::build`](crate::backoff::ExponentialBackoffBuilder::build).
    #[cfg(feature = "supervisor")]
    pub fn strategy(&self, seed: Option<u64>) -> Result<ExponentialBackoff, BackoffError> {
        let mut builder = ExponentialBackoff::builder()
            .initial(self.initial)
            .multiplier(self.multiplier)
            .max(self.max)
            .jitter(self.jitter);
        if let Some(seed) = seed {
            builder = builder.seed(seed);
        }
        builder.build()
    }
}
