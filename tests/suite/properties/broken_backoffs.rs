//! Backoffs with exactly one bug each, all claiming to double from 100 ms to 10 s.

use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use supervise_harness::backoff::BackoffStrategy;

pub(super) const INITIAL: Duration = Duration::from_millis(100);
pub(super) const CAP: Duration = Duration::from_secs(10);

type Boxed = Box<dyn BackoffStrategy + Send>;

/// Draws from `low` to `high`, in seconds.
struct Dice(ChaCha8Rng);

impl Dice {
    fn new(seed: Option<u64>) -> Dice {
        Dice(seed.map_or_else(rand::make_rng, ChaCha8Rng::seed_from_u64))
    }

    fn draw(&mut self, low: f64, high: f64) -> f64 {
        let unit = f64::from(self.0.next_u32()) / f64::from(u32::MAX);
        low + (high - low) * unit
    }
}

/// min(cap, initial·2ⁿ), in seconds.
fn curve(attempt: u32) -> f64 {
    let grown = INITIAL.as_secs_f64() * 2_f64.powi(attempt.min(100).cast_signed());
    grown.min(CAP.as_secs_f64())
}

fn seconds(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// A backoff that draws from a range that depends on the curve's value.
fn drawn(seed: Option<u64>, draw: impl Fn(&mut Dice, f64) -> f64 + Send + 'static) -> Boxed {
    let mut dice = Dice::new(seed);
    Box::new(move |attempt: u32| seconds(draw(&mut dice, curve(attempt))))
}

/// The seed package's own: the delay is capped, and the jitter comes on top.
pub(super) fn jitter_after_the_cap(seed: Option<u64>) -> Boxed {
    drawn(seed, |dice, v| dice.draw(v * 0.5, v * 1.5))
}

/// A shift by the attempt: from 64 on it begins again.
pub(super) fn shift_wraps(_: Option<u64>) -> Boxed {
    Box::new(|attempt: u32| {
        let factor = 1_u64.wrapping_shl(attempt);
        let millis = factor.saturating_mul(100);
        Duration::from_millis(millis).min(CAP)
    })
}

/// The power is infinite at attempt 1 028, and a duration cannot be.
pub(super) fn panics_on_infinity(_: Option<u64>) -> Boxed {
    Box::new(|attempt: u32| {
        if attempt < 10 {
            return seconds(curve(attempt));
        }
        let grown = 2_f64.powi(attempt.cast_signed());
        assert!(grown.is_finite(), "value is either too big or NaN");
        CAP
    })
}

/// A full jitter whose range has wrapped to nothing.
pub(super) fn full_collapses(seed: Option<u64>) -> Boxed {
    let mut dice = Dice::new(seed);
    Box::new(move |attempt: u32| {
        let v = if attempt > 5_000 {
            0.001
        } else {
            curve(attempt)
        };
        seconds(dice.draw(0.0, v))
    })
}

/// Every instance draws the same.
pub(super) fn constant_seed(_: Option<u64>) -> Boxed {
    drawn(Some(42), |dice, v| dice.draw(0.0, v))
}

/// The seed is thrown away.
pub(super) fn ignores_its_seed(_: Option<u64>) -> Boxed {
    drawn(None, |dice, v| dice.draw(0.0, v))
}

/// Jitter is only for delays that still grow.
pub(super) fn no_jitter_at_the_cap(seed: Option<u64>) -> Boxed {
    let cap = CAP.as_secs_f64();
    drawn(
        seed,
        move |dice, v| if v < cap { dice.draw(0.0, v) } else { v },
    )
}

/// What lies above the cap is moved onto it: half of all delays.
pub(super) fn clamped_after_the_draw(seed: Option<u64>) -> Boxed {
    let cap = CAP.as_secs_f64();
    drawn(seed, move |dice, v| dice.draw(v * 0.5, v * 1.5).min(cap))
}

/// A decorrelated jitter, from `most` and then clamped to the cap.
fn decorrelated(seed: Option<u64>, most: f64, clamp: f64) -> Boxed {
    let mut dice = Dice::new(seed);
    let initial = INITIAL.as_secs_f64();
    let mut previous = initial;
    Box::new(move |attempt: u32| {
        if attempt == 0 {
            previous = initial;
        }
        previous = dice.draw(initial, most.min(previous * 3.0)).min(clamp);
        seconds(previous)
    })
}

/// As AWS published it, which piles up on the cap.
pub(super) fn clamped_decorrelated(seed: Option<u64>) -> Boxed {
    decorrelated(seed, f64::INFINITY, CAP.as_secs_f64())
}

/// The cap is taken for a number of seconds where it is one of milliseconds.
pub(super) fn decorrelated_without_its_cap(seed: Option<u64>) -> Boxed {
    decorrelated(seed, 1_000.0 * CAP.as_secs_f64(), f64::INFINITY)
}

/// It triples.
pub(super) fn triples(_: Option<u64>) -> Boxed {
    Box::new(|attempt: u32| {
        INITIAL
            .saturating_mul(3_u32.saturating_pow(attempt))
            .min(CAP)
    })
}

/// The first delay is the longest.
pub(super) fn shrinks(_: Option<u64>) -> Boxed {
    Box::new(|attempt: u32| INITIAL + (CAP - INITIAL) / attempt.saturating_add(1))
}

/// Relative jitter of a quarter, where a half is declared.
pub(super) fn half_the_width(seed: Option<u64>) -> Boxed {
    let cap = CAP.as_secs_f64();
    drawn(seed, move |dice, v| {
        dice.draw(v * 0.75, (v * 1.25).min(cap))
    })
}

/// Relative jitter that only shortens.
pub(super) fn only_downwards(seed: Option<u64>) -> Boxed {
    drawn(seed, |dice, v| dice.draw(v * 0.5, v))
}

/// Full jitter, where equal is declared.
pub(super) fn too_wide(seed: Option<u64>) -> Boxed {
    drawn(seed, |dice, v| dice.draw(0.0, v))
}

/// Right everywhere but at one attempt.
pub(super) fn one_attempt_off_centre(seed: Option<u64>) -> Boxed {
    let third = curve(3);
    drawn(seed, move |dice, v| {
        #[expect(clippy::float_cmp, reason = "the same computation")]
        let low = if v == third { v / 3.0 } else { 0.0 };
        dice.draw(low, v)
    })
}
