//! What a backoff declares about itself.

use std::time::Duration;

use super::seed::seed;
use crate::backoff::{BackoffError, bounds, fraction, multiplier};
#[cfg(feature = "supervisor")]
use crate::backoff::{ExponentialBackoffBuilder, Jitter};

/// How the delays grow, without jitter. Below, n is the attempt, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Curve {
    /// `initial·multiplierⁿ`
    Exponential {
        /// The multiplier: finite, 1 or more.
        multiplier: f64,
    },
    /// `initial`
    Constant,
    /// `initial + step·n`
    Linear {
        /// The step.
        step: Duration,
    },
    /// Nothing is declared. Curve and jitter are checked as far as possible without a declared
    /// curve.
    Undeclared,
}

/// How random draws spread the delays. Below, v is the value of the curve, at most the cap.
/// `U(a, b)` is a uniform draw from a to b.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum JitterLaw {
    /// There is no jitter.
    None,
    /// `U(0, v)`
    Full,
    /// `v/2 + U(0, v/2)`
    Equal,
    /// `U(v·(1−j), min(cap, v·(1+j)))`, j from 0 to 1
    Relative(f64),
    /// `U(initial, min(cap, 3·prev))`, where prev is the previous delay
    Decorrelated,
    /// `min(cap, U(initial, 3·prev))`, as AWS published it. Many delays are exactly the cap.
    DecorrelatedClamped,
    /// There is jitter, but its law is not declared. The checks only check that there is jitter.
    Undeclared,
}

/// What a backoff declares about itself. The checks compare its delays with this.
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct BackoffParams {
    pub(super) initial: Duration,
    pub(super) cap: Duration,
    pub(super) curve: Curve,
    pub(super) jitter: JitterLaw,
    pub(super) seedable: bool,
    pub(super) resolution: Duration,
    pub(super) seed: u64,
}

/// Builds [`BackoffParams`].
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct BackoffParamsBuilder(BackoffParams);

impl BackoffParams {
    /// Declares the first delay (or the shortest delay, if there is no curve) and the longest delay
    /// allowed. The other values have these defaults: no curve, no jitter, not seedable.
    ///
    /// # Panics
    ///
    /// If `SUPERVISE_SEED` is set and is not a number from 0 to 2⁶⁴ − 1.
    pub fn builder(initial: Duration, cap: Duration) -> BackoffParamsBuilder {
        BackoffParamsBuilder(BackoffParams {
            initial,
            cap,
            curve: Curve::Undeclared,
            jitter: JitterLaw::None,
            seedable: false,
            resolution: Duration::from_micros(1),
            seed: seed(),
        })
    }

    /// Declares the values of this builder, for the strategies that it builds. They are seedable.
    ///
    /// # Errors
    ///
    /// The same as of [`ExponentialBackoffBuilder::build`](crate::backoff::ExponentialBackoffBuilder::build).
    ///
    /// # Panics
    ///
    /// If `SUPERVISE_SEED` is set and is not a number from 0 to 2⁶⁴ − 1.
    #[cfg(feature = "supervisor")]
    pub fn of(backoff: &ExponentialBackoffBuilder) -> Result<BackoffParams, BackoffError> {
        let (initial, max, multiplier, jitter) = backoff.declared();
        BackoffParams::builder(initial, max)
            .curve(Curve::Exponential { multiplier })
            .jitter(match jitter {
                Jitter::None => JitterLaw::None,
                Jitter::Relative(fraction) => JitterLaw::Relative(fraction),
                Jitter::Full => JitterLaw::Full,
                Jitter::Equal => JitterLaw::Equal,
                Jitter::Decorrelated => JitterLaw::Decorrelated,
            })
            .seedable()
            .resolution(Duration::from_nanos(1))
            .build()
    }

    /// The value of the curve at an attempt, in nanoseconds, as if there were no cap. `None` if no
    /// curve is declared.
    pub(super) fn curve_at(&self, attempt: u32) -> Option<f64> {
        let initial = nanos(self.initial);
        match self.curve {
            Curve::Exponential { multiplier } => {
                Some(initial * multiplier.powf(f64::from(attempt)))
            }
            Curve::Constant => Some(initial),
            Curve::Linear { step } => Some(initial + nanos(step) * f64::from(attempt)),
            Curve::Undeclared => None,
        }
    }

    /// The range in which the law allows a delay, in nanoseconds, as if there were no cap.
    /// `previous` is the previous delay. `None` if the law, or the curve that it needs, is not
    /// declared.
    pub(super) fn range_at(&self, attempt: u32, previous: f64) -> Option<(f64, f64)> {
        let v = self.curve_at(attempt);
        match self.jitter {
            JitterLaw::None => v.map(|v| (v, v)),
            JitterLaw::Full => v.map(|v| (0.0, v)),
            JitterLaw::Equal => v.map(|v| (v / 2.0, v)),
            JitterLaw::Relative(j) => v.map(|v| (v * (1.0 - j), v * (1.0 + j))),
            JitterLaw::Decorrelated | JitterLaw::DecorrelatedClamped => {
                Some((nanos(self.initial), 3.0 * previous))
            }
            JitterLaw::Undeclared => None,
        }
    }

    /// The width of the declared jitter's range at the cap, in nanoseconds: 0 without jitter. For `Undeclared` it
    /// returns the whole cap.
    pub(super) fn widest(&self) -> f64 {
        match self.jitter {
            JitterLaw::None => 0.0,
            JitterLaw::Relative(j) => j * nanos(self.cap),
            JitterLaw::Full | JitterLaw::Undeclared => nanos(self.cap),
            JitterLaw::Equal => nanos(self.cap) / 2.0,
            JitterLaw::Decorrelated | JitterLaw::DecorrelatedClamped => {
                nanos(self.cap.saturating_sub(self.initial))
            }
        }
    }

    /// If a jitter with this widest range is too narrow to be seen at the strategy's resolution,
    /// returns a text that says so: such a jitter cannot be judged.
    pub(super) fn hides(&self, widest: f64) -> Option<String> {
        (widest < self.least_width()).then(|| {
            format!(
                "the resolution of {:?} hides the declared jitter: its widest range is {:?}, and {:?} is the \
                 narrowest that shows",
                self.resolution,
                duration(widest),
                duration(self.least_width())
            )
        })
    }

    /// The checks skip ranges that are narrower than this: rounding would change their statistics.
    pub(super) fn least_width(&self) -> f64 {
        1_000.0 * nanos(self.resolution)
    }

    /// How far a delay may be from the value that the check calculates. A strategy may round twice:
    /// the curve, and then the width of the jitter.
    pub(super) fn tolerance(&self, value: f64) -> f64 {
        2.0 * nanos(self.resolution) + value * 1e-6
    }

    /// The seed for the strategy number `n` of a check. `None` if the strategy is not seedable.
    pub(super) fn strategy_seed(&self, n: u64) -> Option<u64> {
        self.seedable.then(|| self.seed.wrapping_add(n))
    }
}

impl BackoffParamsBuilder {
    /// Declares the curve. Default: undeclared.
    pub fn curve(mut self, curve: Curve) -> Self {
        self.0.curve = curve;
        self
    }

    /// Declares the jitter. Default: none.
    pub fn jitter(mut self, jitter: JitterLaw) -> Self {
        self.0.jitter = jitter;
        self
    }

    /// Declares that the factory uses the seed that it is given. Default: it does not.
    pub fn seedable(mut self) -> Self {
        self.0.seedable = true;
        self
    }

    /// Declares to which unit the strategy rounds its delays, such as 1 ms. Default: 1 µs.
    ///
    /// A jitter can be judged if its range is at least a thousand times as wide as this unit. If a
    /// declared jitter is narrower, its verdict is [`Verdict::Unknown`](super::Verdict::Unknown).
    pub fn resolution(mut self, resolution: Duration) -> Self {
        self.0.resolution = resolution;
        self
    }

    /// Sets the seed of all draws of the checks. Default: `SUPERVISE_SEED`, or 0 if it is not set.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// Checks the declared values.
    ///
    /// # Errors
    ///
    /// The same as of [`ExponentialBackoffBuilder::build`](crate::backoff::ExponentialBackoffBuilder::build):
    /// - an initial delay of zero;
    /// - a cap below the initial delay;
    /// - an initial delay or a cap above 584 years;
    /// - a multiplier that is below 1 or not finite;
    /// - a relative jitter outside 0 to 1.
    pub fn build(self) -> Result<BackoffParams, BackoffError> {
        let BackoffParams {
            initial,
            cap,
            curve,
            jitter,
            ..
        } = self.0;
        bounds(initial, cap)?;
        if let Curve::Exponential { multiplier: value } = curve {
            multiplier(value)?;
        }
        if let JitterLaw::Relative(value) = jitter {
            fraction(value)?;
        }
        Ok(self.0)
    }
}

/// Returns a duration in nanoseconds, with a precision of 53 bits.
pub(super) fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// Makes a duration from nanoseconds, for messages. A value that is too large becomes the longest
/// duration.
pub(super) fn duration(nanos: f64) -> Duration {
    Duration::try_from_secs_f64(nanos / 1e9).unwrap_or(Duration::MAX)
}
