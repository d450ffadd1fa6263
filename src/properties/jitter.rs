//! The checks of a backoff's jitter.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::backoff::BackoffStrategy;
use crate::rules::{Rule, Verdict, registered};

use super::declared::{BackoffParams, JitterLaw, duration, nanos};
use super::delays::{ATTEMPTS, Panicked, Probe, broken, verdict};

pub(super) const LAW: &Rule = registered("jitter-law");
pub(super) const AT_CAP: &Rule = registered("jitter-at-cap");
pub(super) const SEEDED: &Rule = registered("jitter-seeded");

/// The largest probability that a correct backoff breaks a rule by chance, in one run of all
/// checks.
///
/// It is the sum of the bounds of all statistical tests. These bounds hold for any generator whose
/// draws are independent and follow the declared law. They are not estimates: Hoeffding's and
/// Azuma's inequalities hold for any number of draws.
///
/// With a fixed seed, chance plays no part: each run gives the same verdict.
pub const FALSE_ALARM_RATE: f64 = 1e-10;

/// The number of draws of each attempt in `jitter-law`.
const ROUNDS: u32 = 2_000;
/// The false-alarm rate of each test in `jitter-law`. It tests mean and spread, for each attempt
/// and for all attempts together.
const ALPHA: f64 = 1e-12;
/// How much rounding to a thousandth of a range may change a mean.
const ROUNDING: f64 = 0.002;
/// The number of draws at the cap in `jitter-at-cap`.
const AT_CAP_DRAWS: u32 = 512;
/// The share of these draws that may lie on the cap itself, in addition to the one that is expected
/// there.
const PILE: f64 = 0.25;

/// The distance from the expected mean that the mean of `n` draws from 0 to 1 exceeds with at most
/// this probability, in either direction.
///
/// Source: Hoeffding 1963, theorem 2; Azuma 1967 for draws that depend on those before.
fn deviation(n: u32, alpha: f64) -> f64 {
    ((2.0 / alpha).ln() / (2.0 * f64::from(n))).sqrt()
}

/// Sums over draws, each scaled from its range to 0..1. A uniform draw has the mean 1/2. The square
/// of twice its distance from the middle has the mean 1/3.
#[derive(Clone, Copy, Default)]
struct Sums {
    mean: f64,
    spread: f64,
    counted: u32,
}

impl Sums {
    fn add(&mut self, draw: f64) {
        self.mean += draw - 0.5;
        self.spread += (2.0 * draw - 1.0).powi(2) - 1.0 / 3.0;
        self.counted += 1;
    }

    /// If mean or spread is too far off, returns what was expected and what was seen. There could
    /// have been `slots` draws. Draws that the check left out count as exactly right: the bound
    /// then holds even if other draws decide which ones are left out.
    fn off(&self, slots: u32) -> Option<(String, String)> {
        let allowed = deviation(slots, ALPHA) + ROUNDING;
        let off = |sum: f64| sum / f64::from(slots);
        let seen = |about: f64, sum: f64| about + sum / f64::from(self.counted.max(1));
        let within = "of a range from 0 to 1";
        if off(self.mean).abs() > allowed {
            return Some((
                format!("mean 0.5 {within}, give or take {allowed:.3}"),
                format!(
                    "mean {:.3} over {} draws",
                    seen(0.5, self.mean),
                    self.counted
                ),
            ));
        }
        (off(self.spread).abs() > allowed).then(|| {
            (
                format!("spread 0.333 (mean squared distance from the middle {within}, doubled), give or take {allowed:.3}"),
                format!("spread {:.3} over {} draws", seen(1.0 / 3.0, self.spread), self.counted),
            )
        })
    }
}

/// Rule `jitter-law`: every delay lies in the range of the declared jitter, and the delays are
/// spread over it like uniform draws. It makes 2 000 draws at each of the first 33 attempts, and
/// tests mean and spread for each attempt and for all together.
///
/// Looks only at ranges that are wholly below the cap. `delay-capped` and `jitter-at-cap` check
/// what happens at the cap. If the declared resolution hides the jitter, the verdict is `unknown`.
/// The false-alarm rate is part of [`FALSE_ALARM_RATE`].
///
/// Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
pub fn jitter_law<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Verdict {
    if params.jitter == JitterLaw::None {
        return Verdict::unsupported("no jitter is declared");
    }
    if params.range_at(0, nanos(params.initial)).is_none() {
        return Verdict::unsupported("the law, or the curve it needs, is not declared");
    }
    verdict(check_law(factory, params))
}

fn check_law<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Result<Verdict, Panicked> {
    let mut probe = Probe::new(&factory, params.strategy_seed(0))?;
    let mut by_attempt = vec![Sums::default(); ATTEMPTS as usize];
    // The widest of the ranges that were left out because they are too narrow.
    let mut narrow: f64 = 0.0;
    for round in 0..ROUNDS {
        let mut previous = nanos(params.initial);
        for (n, sums) in (0..ATTEMPTS).zip(&mut by_attempt) {
            let Some((low, high)) = params.range_at(n, previous) else {
                break;
            };
            if high >= nanos(params.cap) && !decorrelated(params) {
                break;
            }
            let delay = nanos(probe.next(n)?);
            previous = delay;
            if high >= nanos(params.cap) {
                continue;
            }
            if high - low < params.least_width() {
                narrow = narrow.max(high - low);
                continue;
            }
            let tolerance = params.tolerance(high);
            if !(low - tolerance..=high + tolerance).contains(&delay) {
                return Ok(broken(
                    params,
                    LAW,
                    format!("attempt {n}, round {round}"),
                    format!("from {:?} to {:?}", duration(low), duration(high)),
                    format!("{:?}", duration(delay)),
                ));
            }
            sums.add(((delay - low) / (high - low)).clamp(0.0, 1.0));
        }
        probe.reset()?;
    }
    let all = by_attempt.iter().fold(Sums::default(), |all, one| Sums {
        mean: all.mean + one.mean,
        spread: all.spread + one.spread,
        counted: all.counted + one.counted,
    });
    if all.counted == 0 && narrow > 0.0 {
        let hidden = params.hides(narrow).unwrap_or_default();
        return Ok(Verdict::Unknown(hidden));
    }
    if all.counted == 0 {
        return Ok(Verdict::unsupported(
            "no range lies below the cap and is wide enough",
        ));
    }
    // The number of attempts must not depend on the draws. For decorrelated jitter the number of
    // attempts that were counted does depend on them, so all attempts are taken.
    let attempts = if decorrelated(params) {
        ATTEMPTS
    } else {
        let looked = by_attempt.iter().filter(|sums| sums.counted > 0);
        u32::try_from(looked.count()).unwrap_or(ATTEMPTS)
    };
    for (n, sums) in by_attempt.iter().enumerate() {
        if let Some((expected, actual)) = sums.off(ROUNDS) {
            return Ok(broken(
                params,
                LAW,
                format!("attempt {n}"),
                expected,
                actual,
            ));
        }
    }
    match all.off(ROUNDS * attempts) {
        Some((expected, actual)) => Ok(broken(
            params,
            LAW,
            format!("all of {attempts} attempts"),
            expected,
            actual,
        )),
        None => Ok(Verdict::Pass),
    }
}

fn decorrelated(params: &BackoffParams) -> bool {
    matches!(
        params.jitter,
        JitterLaw::Decorrelated | JitterLaw::DecorrelatedClamped
    )
}

/// Rule `jitter-at-cap`: 512 delays from attempt 64 on are not all the same. At most a quarter of
/// them, plus one, lie on the cap itself. More lie there if a strategy clamps the delay after the
/// draw.
///
/// The second part is not checked if the declared law clamps ([`JitterLaw::DecorrelatedClamped`]),
/// or if the law, or the curve that it needs, is not declared. The false-alarm rate, at most e⁻⁶⁴,
/// is part of [`FALSE_ALARM_RATE`].
///
/// Source: children that start together and whose delays are clamped restart together.
pub fn jitter_at_cap<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Verdict {
    if params.widest() <= 0.0 {
        return Verdict::unsupported("no jitter is declared that could be seen");
    }
    let cap = nanos(params.cap);
    let curve = params.curve_at(64);
    if !decorrelated(params) && curve.is_some_and(|v| v < cap) {
        return Verdict::unsupported("the curve has not reached the cap at attempt 64");
    }
    if params.jitter == JitterLaw::DecorrelatedClamped && 2 * params.initial > params.cap {
        return Verdict::unsupported("the initial delay is above half the cap");
    }
    if let Some(hidden) = params.hides(params.widest()) {
        return Verdict::Unknown(hidden);
    }
    let check = || {
        let mut probe = Probe::new(&factory, params.strategy_seed(0))?;
        for n in 0..64 {
            probe.next(n)?;
        }
        let delays: Vec<Duration> = (64..64 + AT_CAP_DRAWS)
            .map(|n| probe.next(n))
            .collect::<Result<_, _>>()?;
        let place = format!("attempts 64 to {}", 63 + AT_CAP_DRAWS);
        if delays.iter().collect::<BTreeSet<_>>().len() == 1 {
            return Ok(broken(
                params,
                AT_CAP,
                place,
                "different delays".to_owned(),
                format!("{:?} each time", delays[0]),
            ));
        }
        let may_pile = curve.is_none() && !decorrelated(params)
            || matches!(
                params.jitter,
                JitterLaw::DecorrelatedClamped | JitterLaw::Undeclared
            );
        let on_cap = |delay: &&Duration| (nanos(**delay) - cap).abs() <= nanos(params.resolution);
        let piled = u32::try_from(delays.iter().filter(on_cap).count()).unwrap_or(u32::MAX);
        if !may_pile && f64::from(piled) > PILE * f64::from(AT_CAP_DRAWS) + 1.0 {
            return Ok(broken(
                params,
                AT_CAP,
                place,
                format!("delays spread below the cap, {:?}", params.cap),
                format!("{piled} of {AT_CAP_DRAWS} exactly on it"),
            ));
        }
        Ok(Verdict::Pass)
    };
    verdict(check())
}

/// How many of the first delays must have a wide range, so that two sequences differ. Two sequences
/// of five delays with a thousand possible values each are the same once in 10¹⁵.
const WIDE: usize = 5;

/// The width of the fifth-widest range among the first 33 delays, in nanoseconds. It is 0 if fewer
/// than five of these delays are drawn at random.
fn width_of_a_seed(params: &BackoffParams) -> f64 {
    let cap = nanos(params.cap);
    let width = |n: u32| match params.range_at(n, nanos(params.initial)) {
        Some((low, high)) => high.min(cap) - low.min(cap),
        None => params.widest(),
    };
    let mut widths: Vec<f64> = (0..ATTEMPTS).map(width).collect();
    widths.sort_by(|one, other| other.total_cmp(one));
    widths[WIDE - 1].min(params.widest())
}

/// Rule `jitter-seeded`: two strategies with the same seed give the same 33 delays. Two strategies
/// with different seeds, or without a seed, give different delays. For a backoff that is not
/// seedable, only two strategies without a seed are compared.
///
/// Source: with a fixed seed in a configuration, all its instances restart at the same times.
pub fn jitter_seeded<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Verdict {
    let width = width_of_a_seed(params);
    if width <= 0.0 {
        return Verdict::unsupported("no jitter is declared that could be seen in 33 delays");
    }
    if let Some(hidden) = params.hides(width) {
        return Verdict::Unknown(hidden);
    }
    let sequence = |seed| {
        let mut probe = Probe::new(&factory, seed)?;
        let next = |n| probe.next(n);
        (0..ATTEMPTS)
            .map(next)
            .collect::<Result<Vec<Duration>, _>>()
    };
    let found = |place: String, expected: &str, actual: &str| {
        broken(
            params,
            SEEDED,
            place,
            expected.to_owned(),
            actual.to_owned(),
        )
    };
    let check = || {
        if params.seedable {
            let (one, two) = (params.seed, params.seed.wrapping_add(1));
            let first = sequence(Some(one))?;
            if sequence(Some(one))? != first {
                let place = format!("seed {one}, twice");
                return Ok(found(place, "the same delays", "different ones"));
            }
            if sequence(Some(two))? == first {
                let place = format!("seeds {one} and {two}");
                return Ok(found(place, "different delays", "the same ones"));
            }
        }
        if sequence(None)? == sequence(None)? {
            let place = "two strategies without a seed".to_owned();
            return Ok(found(place, "different delays", "the same ones"));
        }
        Ok(Verdict::Pass)
    };
    verdict(check())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_of_a_whole_run_together_stay_below_the_stated_false_alarm_rate() {
        let law = 2.0 * (f64::from(ATTEMPTS) + 1.0) * ALPHA;
        // `at_cap`: at most a thousandth of a range is on the cap, and the test is one-sided.
        // `overflow`: the longest of 64 draws in `delay-no-overflow`, at eight attempts.
        let slack = PILE - 0.001;
        let at_cap = (-2.0 * f64::from(AT_CAP_DRAWS) * slack * slack).exp();
        let overflow = 8.0 * 0.25_f64.powi(64);
        let seeded = 2.0 * 0.001_f64.powi(5);
        assert!(law + at_cap + overflow + seeded < FALSE_ALARM_RATE);
        const { assert!(FALSE_ALARM_RATE < 1e-9) };
    }

    #[test]
    fn hoeffdings_bound_is_the_textbooks() {
        // 2·exp(−2·n·t²) = α
        let t = deviation(2_000, ALPHA);
        let alpha = 2.0 * (-2.0 * 2_000.0 * t * t).exp();
        assert!((alpha / ALPHA - 1.0).abs() < 1e-9);
        assert!(t < 0.085);
    }

    #[test]
    fn half_the_width_and_half_a_width_beside_the_middle_are_both_seen() {
        let sums = |from: f64, to: f64| {
            let mut sums = Sums::default();
            for step in 0..ROUNDS {
                sums.add(from + (to - from) * (f64::from(step) + 0.5) / f64::from(ROUNDS));
            }
            sums.off(ROUNDS)
                .map(|(expected, _)| expected[..4].to_owned())
        };
        assert_eq!(sums(0.0, 1.0), None);
        assert_eq!(sums(0.25, 0.75).as_deref(), Some("spre"));
        assert_eq!(sums(0.0, 0.5).as_deref(), Some("mean"));
    }
}
