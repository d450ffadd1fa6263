//! What a backoff declares about itself.

use std::time::Duration;

use crate::{BackoffError, ExponentialBackoff, ExponentialBackoffBuilder, Jitter};

/// How the delays grow, jitter apart; n is the attempt, from 0.
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
    /// Nothing is declared: curve and jitter are checked as far as they show without it.
    Undeclared,
}

/// How chance spreads the delays; v is the curve's value, at most the cap.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum JitterLaw {
    /// Not at all.
    None,
    /// `U(0, v)`
    Full,
    /// `v/2 + U(0, v/2)`
    Equal,
    /// `U(v·(1−j), min(cap, v·(1+j)))`, j from 0 to 1
    Relative(f64),
    /// `U(initial, min(cap, 3·prev))`
    Decorrelated,
    /// `min(cap, U(initial, 3·prev))`, as AWS published it: the delays pile up at the cap.
    DecorrelatedClamped,
    /// Somehow: that there is jitter is checked, its law is not.
    Undeclared,
}

/// What a backoff declares about itself, for the checks to hold it to.
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
    /// Declares the first delay (or the least, where there is no curve) and the most that any delay
    /// may be. The rest starts as: no curve, no jitter, not seedable.
    ///
    /// # Panics
    ///
    /// If `SUPERVISE_SEED` is set and no number from 0 to 2⁶⁴ − 1.
    pub fn builder(initial: Duration, cap: Duration) -> BackoffParamsBuilder {
        BackoffParamsBuilder(BackoffParams {
            initial,
            cap,
            curve: Curve::Undeclared,
            jitter: JitterLaw::None,
            seedable: false,
            resolution: Duration::from_micros(1),
            seed: super::seed(),
        })
    }

    /// What the strategies that this builder builds declare. They are seedable.
    ///
    /// # Errors
    ///
    /// As [`ExponentialBackoffBuilder::build`].
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

    /// The curve at an attempt, in nanoseconds, as if there were no cap.
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

    /// Where a delay lies by the law, in nanoseconds, as if there were no cap; `previous` is the
    /// delay before. `None` where the law, or the curve it needs, is not declared.
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

    /// The widest range that the declared jitter has at the cap, in nanoseconds: 0 where there is none.
    pub(super) fn widest(&self) -> f64 {
        match self.jitter {
            JitterLaw::None => 0.0,
            JitterLaw::Relative(j) => j * nanos(self.cap),
            JitterLaw::Full | JitterLaw::Equal | JitterLaw::Undeclared => nanos(self.cap),
            JitterLaw::Decorrelated | JitterLaw::DecorrelatedClamped => {
                nanos(self.cap.saturating_sub(self.initial))
            }
        }
    }

    /// Why a jitter whose widest range is this cannot be judged, where that is so: nobody can see it
    /// at the strategy's resolution.
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

    /// Ranges narrower than this are left alone: rounding would show in their statistics.
    pub(super) fn least_width(&self) -> f64 {
        1_000.0 * nanos(self.resolution)
    }

    /// How far a delay may be from the value worked out here: a strategy may round twice, the curve
    /// and then the jitter's width.
    pub(super) fn tolerance(&self, value: f64) -> f64 {
        2.0 * nanos(self.resolution) + value * 1e-6
    }

    /// The seed that the `n`-th strategy of a check is made with.
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

    /// Declares that the factory uses the seed it is given. Default: it does not.
    pub fn seedable(mut self) -> Self {
        self.0.seedable = true;
        self
    }

    /// What the strategy rounds its delays to, such as 1 ms. Default: 1 µs.
    ///
    /// A jitter shows in ranges of a thousand times that and more. What is declared and narrower cannot
    /// be judged: the verdict on it is [`Verdict::Unknown`](super::Verdict::Unknown).
    pub fn resolution(mut self, resolution: Duration) -> Self {
        self.0.resolution = resolution;
        self
    }

    /// The seed of all that the checks draw. Default: `SUPERVISE_SEED`, else 0.
    pub fn seed(mut self, seed: u64) -> Self {
        self.0.seed = seed;
        self
    }

    /// Checks what is declared.
    ///
    /// # Errors
    ///
    /// As [`ExponentialBackoffBuilder::build`]: a zero initial delay, a cap below it, a multiplier
    /// below 1 or not finite, a relative jitter outside 0 to 1.
    pub fn build(self) -> Result<BackoffParams, BackoffError> {
        let BackoffParams {
            initial,
            cap,
            curve,
            jitter,
            ..
        } = self.0;
        let mut same = ExponentialBackoff::builder()
            .initial(initial)
            .max(cap)
            .seed(0);
        if let Curve::Exponential { multiplier } = curve {
            same = same.multiplier(multiplier);
        }
        if let JitterLaw::Relative(fraction) = jitter {
            same = same.jitter(Jitter::Relative(fraction));
        }
        same.build().map(|_| self.0)
    }
}

/// In nanoseconds, to 53 bits.
pub(super) fn nanos(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e9
}

/// From nanoseconds, for messages; what is too long is the longest.
pub(super) fn duration(nanos: f64) -> Duration {
    Duration::try_from_secs_f64(nanos / 1e9).unwrap_or(Duration::MAX)
}
