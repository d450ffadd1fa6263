//! Exponential backoff with jitter.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::error::{BackoffError, bounds, fraction, multiplier};
use super::jitter::Jitter;
use super::strategy::BackoffStrategy;

/// A delay that grows by a factor each time, up to a cap, with jitter.
///
/// No delay exceeds the cap, at any attempt. A strategy with a seed gives the same delays on every
/// platform and with every version of this crate: the generator is ChaCha8, and each delay with
/// jitter takes exactly one 64-bit word of its stream. A strategy without a seed takes a seed from
/// the system.
///
/// The type is not `Clone`: two clones would draw the same delays and restart at the same times.
/// Build a second strategy instead.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::backoff::{BackoffStrategy, ExponentialBackoff, Jitter};
///
/// let millis = Duration::from_millis;
/// let mut backoff = ExponentialBackoff::builder().initial(millis(100)).max(millis(500)).build()?;
/// assert_eq!([0, 1, 2, 3].map(|n| backoff.next_delay(n)), [100, 200, 400, 500].map(millis));
///
/// let mut jittered = ExponentialBackoff::builder().jitter(Jitter::Full).seed(7).build()?;
/// assert!(jittered.next_delay(10_000) <= Duration::from_secs(60));
/// # Ok::<(), supervise_harness::backoff::BackoffError>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct ExponentialBackoff {
    initial: u64,
    max: u64,
    multiplier: f64,
    jitter: Jitter,
    previous: u64,
    rng: ChaCha8Rng,
}

/// Builds an [`ExponentialBackoff`]. A builder without a seed may be cloned or reused: each
/// strategy that it builds has different draws.
#[derive(Clone, Debug)]
#[must_use]
pub struct ExponentialBackoffBuilder {
    initial: Duration,
    max: Duration,
    multiplier: f64,
    jitter: Jitter,
    seed: Option<u64>,
}

impl ExponentialBackoff {
    /// Returns a builder with the defaults: 1 s, doubling up to 60 s, no jitter.
    pub fn builder() -> ExponentialBackoffBuilder {
        ExponentialBackoffBuilder {
            initial: Duration::from_secs(1),
            max: Duration::from_secs(60),
            multiplier: 2.0,
            jitter: Jitter::None,
            seed: None,
        }
    }

    /// The delay without jitter.
    fn curve(&self, attempt: u32) -> u64 {
        #[expect(
            clippy::cast_precision_loss,
            reason = "delays under 104 days are exact"
        )]
        let grown = self.initial as f64 * power(self.multiplier, attempt);
        round(grown).min(self.max)
    }

    /// Draws a number from `low` to `high`, both included. Every draw takes one word of the stream.
    /// This function does its own arithmetic: if another crate changed how it draws from a range,
    /// the delays of a seed would change. The bias is the size of the range over 2⁶⁴, which is far
    /// too small to measure.
    fn uniform(&mut self, low: u64, high: u64) -> u64 {
        let choices = u128::from(high - low) + 1;
        let scaled = (u128::from(self.rng.next_u64()) * choices) >> 64;
        low + u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

/// The builder's defaults: 1 s, doubling up to 60 s, no jitter.
impl Default for ExponentialBackoff {
    fn default() -> ExponentialBackoff {
        let second = 1_000_000_000;
        ExponentialBackoff {
            initial: second,
            max: 60 * second,
            multiplier: 2.0,
            jitter: Jitter::None,
            previous: second,
            // The seed does not matter: without jitter the strategy draws nothing.
            rng: seeded(0),
        }
    }
}

impl BackoffStrategy for ExponentialBackoff {
    fn next_delay(&mut self, attempt: u32) -> Duration {
        let nanos = match self.jitter {
            Jitter::None => self.curve(attempt),
            Jitter::Relative(fraction) => {
                let v = self.curve(attempt);
                #[expect(clippy::cast_precision_loss, reason = "a width, not a delay")]
                let width = round(v as f64 * fraction);
                let high = v.saturating_add(width).min(self.max);
                self.uniform(v.saturating_sub(width), high)
            }
            Jitter::Full => {
                let v = self.curve(attempt);
                self.uniform(0, v)
            }
            Jitter::Equal => {
                let v = self.curve(attempt);
                self.uniform(v / 2, v)
            }
            Jitter::Decorrelated => {
                if attempt == 0 {
                    self.reset();
                }
                let high = self.previous.saturating_mul(3).min(self.max);
                self.previous = self.uniform(self.initial, high);
                self.previous
            }
        };
        Duration::from_nanos(nanos)
    }

    fn reset(&mut self) {
        self.previous = self.initial;
    }
}

impl ExponentialBackoffBuilder {
    /// Sets the delay at attempt 0. Default: 1 s.
    pub fn initial(mut self, initial: Duration) -> Self {
        self.initial = initial;
        self
    }

    /// Sets the cap. No delay exceeds it, jitter included. Default: 60 s.
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// Sets the factor by which the delay grows from one attempt to the next, 1 or more.
    /// Default: 2.
    pub fn multiplier(mut self, multiplier: f64) -> Self {
        self.multiplier = multiplier;
        self
    }

    /// Sets the jitter. Default: none.
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Sets the seed, which makes the draws repeatable. Give each child its own seed: children with
    /// the same seed have the same delays and restart together. Default: a seed from the system.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// Returns initial delay, cap, multiplier and jitter as they were set, unchecked.
    #[cfg(feature = "conformance")]
    pub(crate) fn declared(&self) -> (Duration, Duration, f64, Jitter) {
        (self.initial, self.max, self.multiplier, self.jitter)
    }

    /// Checks the values and builds the strategy.
    ///
    /// # Errors
    ///
    /// The error names the field, the value and what was expected. These are errors:
    /// - an initial delay of zero;
    /// - a cap below the initial delay;
    /// - an initial delay or a cap above 584 years;
    /// - a multiplier that is below 1 or not finite;
    /// - a relative jitter outside 0 to 1.
    ///
    /// # Panics
    ///
    /// If no seed was set and the system has no entropy.
    pub fn build(self) -> Result<ExponentialBackoff, BackoffError> {
        let (initial, max) = bounds(self.initial, self.max)?;
        let multiplier = multiplier(self.multiplier)?;
        if let Jitter::Relative(value) = self.jitter {
            fraction(value)?;
        }
        Ok(ExponentialBackoff {
            initial,
            max,
            multiplier,
            jitter: self.jitter,
            previous: initial,
            rng: match self.seed {
                Some(seed) => seeded(seed),
                None => rand::make_rng(),
            },
        })
    }
}

/// Makes a generator from a seed. It stretches the seed to 256 bits with SplitMix64 (Steele, Lea,
/// Flood 2014). It does not call `seed_from_u64`: a new version of the rand crates may change what
/// that does, and the delays of a seed would change.
fn seeded(mut state: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for word in key.chunks_exact_mut(8) {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Returns `base` to the power of `exponent`, by squaring. The standard library's powers may differ
/// from platform to platform; products may not. It takes at most 64 products. A result that is too
/// large is infinite.
fn power(mut base: f64, mut exponent: u32) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

/// Rounds to whole nanoseconds. A value that is too large, such as infinity, becomes `u64::MAX`.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the cast saturates, and nothing here is negative"
)]
fn round(nanos: f64) -> u64 {
    nanos.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn backoff(jitter: Jitter) -> ExponentialBackoff {
        ExponentialBackoff::builder()
            .initial(millis(100))
            .max(millis(2_000))
            .jitter(jitter)
            .seed(7)
            .build()
            .expect("valid values")
    }

    const JITTERS: [Jitter; 5] = [
        Jitter::None,
        Jitter::Relative(0.5),
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated,
    ];

    #[test]
    fn the_default_is_what_the_builder_builds() {
        let mut built = ExponentialBackoff::builder().build().expect("the defaults");
        let mut default = ExponentialBackoff::default();
        for attempt in (0..10).chain([u32::MAX]) {
            assert_eq!(default.next_delay(attempt), built.next_delay(attempt));
        }
    }

    #[test]
    fn doubles_exactly_and_stays_at_the_cap() {
        let mut backoff = backoff(Jitter::None);
        let delays: Vec<Duration> = (0..7).map(|n| backoff.next_delay(n)).collect();
        assert_eq!(
            delays,
            [100, 200, 400, 800, 1_600, 2_000, 2_000].map(millis)
        );
    }

    #[test]
    fn is_the_cap_at_any_attempt_however_large() {
        for n in [63, 64, 65, 1_000, 10_000, u32::MAX] {
            assert_eq!(backoff(Jitter::None).next_delay(n), millis(2_000));
        }
        let mut slow = ExponentialBackoff::builder()
            .multiplier(1.0)
            .build()
            .expect("valid values");
        assert_eq!(slow.next_delay(u32::MAX), Duration::from_secs(1));
    }

    #[test]
    fn a_multiplier_without_an_exact_value_is_right_to_the_nanosecond() {
        let mut backoff = ExponentialBackoff::builder()
            .multiplier(1.1)
            .build()
            .expect("valid values");
        assert_eq!(backoff.next_delay(2), Duration::from_nanos(1_210_000_000));
        assert_eq!(backoff.next_delay(7), Duration::from_nanos(1_948_717_100));
        let mut short = ExponentialBackoff::builder()
            .initial(Duration::from_nanos(3))
            .multiplier(1.2)
            .build()
            .expect("valid values");
        // 3.6 rounds up.
        assert_eq!(short.next_delay(1), Duration::from_nanos(4));
    }

    #[test]
    fn the_largest_values_neither_overflow_nor_pass_the_cap() {
        let most = Duration::from_nanos(u64::MAX);
        for jitter in JITTERS {
            let mut backoff = ExponentialBackoff::builder()
                .initial(most)
                .max(most)
                .multiplier(f64::MAX)
                .jitter(jitter)
                .build()
                .expect("valid values");
            for n in [0, 1, 2, u32::MAX] {
                assert!(backoff.next_delay(n) <= most, "{jitter:?} at {n}");
            }
        }
    }

    #[test]
    fn draws_stay_within_the_law_and_the_cap() {
        for jitter in JITTERS {
            let mut backoff = backoff(jitter);
            let mut previous = 100;
            for n in 0..10_000 {
                let v = [100, 200, 400, 800, 1_600, 2_000][(n % 6) as usize];
                let delay = backoff.next_delay(n % 6);
                let (low, high) = match jitter {
                    Jitter::None => (v, v),
                    Jitter::Relative(_) => (v / 2, v + v / 2),
                    Jitter::Full => (0, v),
                    Jitter::Equal => (v / 2, v),
                    Jitter::Decorrelated => {
                        let before = if n % 6 == 0 { 100 } else { previous };
                        (100, 3 * (before + 1))
                    }
                };
                previous = u64::try_from(delay.as_millis()).expect("short");
                let allowed = millis(low)..=millis(high.min(2_000));
                assert!(allowed.contains(&delay), "{jitter:?} gave {delay:?} at {n}");
            }
        }
    }

    #[test]
    fn a_seed_gives_these_delays_forever() {
        let drawn = JITTERS.map(|jitter| {
            let mut backoff = backoff(jitter);
            [0, 1, 2, 5].map(|n| backoff.next_delay(n).as_nanos())
        });
        assert_eq!(
            drawn,
            [
                [100_000_000, 200_000_000, 400_000_000, 2_000_000_000],
                [90_049_503, 254_865_642, 402_975_412, 1_067_065_003],
                [40_049_503, 154_865_642, 202_975_412, 134_130_007],
                [70_024_751, 177_432_821, 301_487_706, 1_067_065_003],
                [180_099_006, 440_934_400, 720_497_458, 227_423_506],
            ]
        );
    }

    #[test]
    fn every_jitter_takes_one_word_a_delay() {
        let mut other = seeded(7);
        let mut backoff = backoff(Jitter::Full);
        for n in 0..8 {
            backoff.next_delay(n);
            other.next_u64();
        }
        assert_eq!(backoff.rng, other);
    }

    #[test]
    fn without_a_seed_two_built_alike_differ() {
        let builder = ExponentialBackoff::builder().jitter(Jitter::Full);
        let mut one = builder.clone().build().expect("valid values");
        let mut two = builder.build().expect("valid values");
        let same = (0..8).all(|n| one.next_delay(n) == two.next_delay(n));
        assert!(!same);
    }

    #[test]
    fn a_reset_brings_decorrelated_delays_back_to_the_first_range() {
        let mut backoff = backoff(Jitter::Decorrelated);
        for n in 0..50 {
            backoff.next_delay(n);
        }
        backoff.reset();
        assert!(backoff.next_delay(1) <= millis(300));
    }

    #[test]
    fn bad_values_are_refused_by_name_value_and_expectation() {
        let builder = ExponentialBackoff::builder;
        let says = |builder: ExponentialBackoffBuilder| {
            builder.build().expect_err("a bad value").to_string()
        };
        assert_eq!(
            says(builder().initial(Duration::ZERO)),
            "initial is 0s: expected a delay above zero (for none at all, ConstantBackoff::new(Duration::ZERO))"
        );
        assert_eq!(
            says(builder().max(millis(999))),
            "max is 999ms: expected at least initial, which is 1s"
        );
        assert_eq!(
            says(builder().multiplier(0.5)),
            "multiplier is 0.5: expected a finite number, 1 or more"
        );
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(says(builder().multiplier(bad)).starts_with("multiplier is "));
        }
        assert_eq!(
            says(builder().jitter(Jitter::Relative(1.5))),
            "jitter is Relative(1.5): expected a fraction from 0 to 1"
        );
        for bad in [f64::NAN, f64::INFINITY, -0.1] {
            assert!(says(builder().jitter(Jitter::Relative(bad))).starts_with("jitter is "));
        }
        assert_eq!(
            says(builder().max(Duration::MAX)),
            "max is 18446744073709551615.999999999s: expected at most 584 years, 18446744073.709551615s"
        );
    }
}
