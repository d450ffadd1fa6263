//! The checks of a backoff's curve and cap.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::backoff::BackoffStrategy;
use crate::rules::{Rule, Verdict, Violation, registered};

use super::declared::{BackoffParams, JitterLaw, duration, nanos};
use super::report::replay;

pub(super) const CURVE: &Rule = registered("delay-curve");
pub(super) const CAPPED: &Rule = registered("delay-capped");
pub(super) const NO_OVERFLOW: &Rule = registered("delay-no-overflow");
pub(super) const MONOTONE: &Rule = registered("delay-monotone");

/// How many attempts the checks of curve and jitter look at. Later attempts belong to
/// `delay-no-overflow`.
pub(super) const ATTEMPTS: u32 = 33;
/// How many attempts the checks of cap and overflow look at, before they look at `u32::MAX`.
const LONG: u32 = 10_001;
/// The attempts at which `delay-no-overflow` draws repeatedly, to see that long delays still occur.
const EDGES: [u32; 8] = [63, 64, 65, 127, 128, 1_000, 10_000, u32::MAX];
/// How often it draws there. By chance, all draws are below a quarter of the range with the
/// probability 4⁻⁶⁴ ≈ 3·10⁻³⁹.
const REPEATS: u32 = 64;

/// Wraps a strategy and catches its panics.
pub(super) struct Probe<S>(S);

/// Where a strategy or its factory panicked, such as `attempt 64`, and with which message.
pub(super) struct Panicked {
    place: String,
    message: String,
}

impl<S: BackoffStrategy> Probe<S> {
    pub(super) fn new(
        factory: impl Fn(Option<u64>) -> S,
        seed: Option<u64>,
    ) -> Result<Probe<S>, Panicked> {
        caught(
            || factory(seed),
            || format!("making a strategy with seed {seed:?}"),
        )
        .map(Probe)
    }

    pub(super) fn next(&mut self, attempt: u32) -> Result<Duration, Panicked> {
        caught(
            || self.0.next_delay(attempt),
            || format!("attempt {attempt}"),
        )
    }

    pub(super) fn reset(&mut self) -> Result<(), Panicked> {
        caught(|| self.0.reset(), || "reset".to_owned())
    }
}

fn caught<T>(call: impl FnOnce() -> T, place: impl Fn() -> String) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|payload| Panicked {
        place: place(),
        message: message(payload.as_ref()),
    })
}

/// The message of a panic, after `panicked: `.
pub(super) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// Returns the verdict of a check. If a panic ended the check, the verdict is `Unknown`: the rule
/// `delay-no-overflow` reports panics.
pub(super) fn verdict(checked: Result<Verdict, Panicked>) -> Verdict {
    checked.unwrap_or_else(|Panicked { place, .. }| {
        Verdict::Unknown(format!("panicked, see {NO_OVERFLOW}: {place}"))
    })
}

pub(super) fn broken(
    params: &BackoffParams,
    rule: &'static Rule,
    place: String,
    expected: String,
    actual: String,
) -> Verdict {
    let mut violation = Violation::new(expected, actual).of(rule);
    violation.place = Some(place);
    violation.replay = Some(replay(params.seed));
    violation.into()
}

/// Rule `delay-curve`: without jitter, each delay is the value of the curve. It may be off by twice
/// the declared resolution plus one part in a million. Looks at those of the first 33 attempts
/// where the curve is not above the cap.
///
/// Source: `ExponentialBackoff` of the Go package `supervise`; `RestartSteps=` of
/// systemd.service(5).
pub fn delay_curve<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Verdict {
    if params.jitter != JitterLaw::None {
        return Verdict::unsupported("with jitter, the curve shows in jitter-law");
    }
    let mut curve = (0..ATTEMPTS)
        .map_while(|n| params.curve_at(n).map(|v| (n, v)))
        .peekable();
    if curve.peek().is_none() {
        return Verdict::unsupported("no curve is declared");
    }
    let check = || {
        let mut probe = Probe::new(&factory, params.strategy_seed(0))?;
        for (n, v) in curve {
            let delay = probe.next(n)?;
            if v <= nanos(params.cap) && (nanos(delay) - v).abs() > params.tolerance(v) {
                return Ok(broken(
                    params,
                    CURVE,
                    format!("attempt {n}"),
                    format!("{:?}", duration(v)),
                    format!("{delay:?}"),
                ));
            }
        }
        Ok(Verdict::Pass)
    };
    verdict(check())
}

/// Rule `delay-capped`: no delay exceeds the cap, not even by a nanosecond. Looks at 32 rounds of
/// 65 attempts, and at one round of 10 001 attempts and then `u32::MAX`.
///
/// Source: the docs of most retry crates say "maximum delay", but the crates add the jitter
/// afterwards. The Go package `supervise` does so too.
pub fn delay_capped<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Verdict {
    let check = || {
        let mut probe = Probe::new(&factory, params.strategy_seed(0))?;
        for round in 0..33 {
            let most = if round < 32 { 65 } else { LONG };
            for n in (0..most).chain((round == 32).then_some(u32::MAX)) {
                // A panic belongs to `delay-no-overflow`. All delays before it were within the cap.
                let Ok(delay) = probe.next(n) else {
                    return Ok(Verdict::Pass);
                };
                if delay > params.cap {
                    return Ok(broken(
                        params,
                        CAPPED,
                        format!("attempt {n}, round {round}"),
                        format!("at most {:?}", params.cap),
                        format!("{delay:?}, {:?} more", delay - params.cap),
                    ));
                }
            }
            probe.reset()?;
        }
        Ok(Verdict::Pass)
    };
    verdict(check())
}

/// Rule `delay-no-overflow`: at no attempt does the strategy panic, or return a delay that is
/// shorter than its curve and jitter allow. Asks for the attempts 0 to 10 000 and `u32::MAX`, in
/// order, and looks at the delays from attempt 63 on.
/// - Without jitter, each delay must be at least the value of the curve or the cap, whichever is
///   less. If no curve is declared, it must be at least the initial delay.
/// - With jitter, it makes 64 draws at each of eight attempts. The longest must reach a quarter of
///   that value (1 ns if no curve is declared), or the initial delay if the jitter is decorrelated.
///   `jitter-law` checks how short a single draw may be.
///
/// A panic of the strategy, at any attempt, is a violation of this rule and of no other.
///
/// Source: `1 << attempt` and `Duration * 2` in hand-written backoffs.
pub fn delay_no_overflow<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Verdict {
    let cap = nanos(params.cap);
    // The least that each single draw must be, and the least that the longest of many draws must
    // be.
    let least = |n: u32| {
        let v = params.curve_at(n).map(|v| v.min(cap));
        match params.jitter {
            JitterLaw::None => (v.unwrap_or(nanos(params.initial)), 0.0),
            JitterLaw::Decorrelated | JitterLaw::DecorrelatedClamped => {
                (0.0, nanos(params.initial))
            }
            _ => (0.0, v.map_or(1.0, |v| v / 4.0)),
        }
    };
    let check = || {
        let mut probe = Probe::new(&factory, params.strategy_seed(0))?;
        for n in (0..LONG).chain([u32::MAX]) {
            let repeats = if EDGES.contains(&n) { REPEATS } else { 1 };
            let mut largest = Duration::ZERO;
            for _ in 0..repeats {
                let delay = probe.next(n)?;
                largest = largest.max(delay);
                let (each, _) = least(n);
                if n >= EDGES[0] && nanos(delay) < each - params.tolerance(each) {
                    return Ok(collapsed(params, n, each, delay));
                }
            }
            let (_, one) = least(n);
            if repeats == REPEATS && nanos(largest) < one {
                return Ok(collapsed(params, n, one, largest));
            }
        }
        Ok(Verdict::Pass)
    };
    check().unwrap_or_else(|Panicked { place, message }| {
        broken(
            params,
            NO_OVERFLOW,
            place,
            "a delay, whatever the attempt".to_owned(),
            message,
        )
    })
}

fn collapsed(params: &BackoffParams, attempt: u32, least: f64, delay: Duration) -> Verdict {
    broken(
        params,
        NO_OVERFLOW,
        format!("attempt {attempt}"),
        format!("at least {:?}", duration(least)),
        format!("{delay:?}"),
    )
}

/// Rule `delay-monotone`: without jitter, no delay is shorter than the previous one. Looks at the
/// first 33 attempts.
///
/// Source: delays that become shorter only postpone a storm of restarts.
pub fn delay_monotone<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Verdict {
    if params.jitter != JitterLaw::None {
        return Verdict::unsupported("with jitter, delays may shrink");
    }
    let check = || {
        let mut probe = Probe::new(&factory, params.strategy_seed(0))?;
        let mut before = Duration::ZERO;
        for n in 0..ATTEMPTS {
            let delay = probe.next(n)?;
            if delay < before {
                return Ok(broken(
                    params,
                    MONOTONE,
                    format!("attempt {n}"),
                    format!("at least {before:?}, as at attempt {}", n - 1),
                    format!("{delay:?}"),
                ));
            }
            before = delay;
        }
        Ok(Verdict::Pass)
    };
    verdict(check())
}
