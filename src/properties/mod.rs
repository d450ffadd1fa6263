//! Ready-made checks for backoffs and restart decisions, and proptest strategies for both.
//!
//! You bring a factory and say what it makes; the checks say which rules it breaks, each of them
//! blaming only its own rule:
//!
//! ```
//! use std::time::Duration;
//! use supervise_harness::properties::{self, BackoffParams, Curve};
//!
//! // A backoff of your own, of a retry crate, or of this one.
//! let factory = |_seed: Option<u64>| {
//!     |attempt: u32| Duration::from_millis(100).saturating_mul(1 << attempt.min(10))
//! };
//! let params = BackoffParams::builder(Duration::from_millis(100), Duration::from_secs(60))
//!     .curve(Curve::Exponential { multiplier: 2.0 })
//!     .build()?;
//! let report = properties::backoff(factory, &params);
//! assert_eq!(report.violations().next().unwrap().rule.id, "delay-capped"); // 102.4 s
//! # Ok::<(), supervise_harness::BackoffError>(())
//! ```
//!
//! Everything that is drawn, is drawn from `SUPERVISE_SEED` (0 where it is not set).

mod declared;
mod delays;
mod jitter;
mod report;
pub mod strategies;

use std::env;

use crate::BackoffStrategy;

pub use declared::{BackoffParams, BackoffParamsBuilder, Curve, JitterLaw};
pub use delays::{delay_capped, delay_curve, delay_monotone, delay_no_overflow};
pub use jitter::{FALSE_ALARM_RATE, jitter_at_cap, jitter_law, jitter_seeded};
pub use report::{Report, Rule, Verdict, Violation};

/// Checks a backoff against every rule for backoffs.
///
/// The factory makes a strategy, with the seed if there is one. It is called many times, and what
/// it makes is asked for some hundred thousand delays. A panic of either is caught and reported.
///
/// A correct backoff fails by chance at most once in 1/[`FALSE_ALARM_RATE`] runs.
pub fn backoff<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> Report {
    let verdicts = vec![
        (delays::CURVE, delay_curve(&factory, params)),
        (delays::CAPPED, delay_capped(&factory, params)),
        (delays::NO_OVERFLOW, delay_no_overflow(&factory, params)),
        (delays::MONOTONE, delay_monotone(&factory, params)),
        (jitter::LAW, jitter_law(&factory, params)),
        (jitter::AT_CAP, jitter_at_cap(&factory, params)),
        (jitter::SEEDED, jitter_seeded(&factory, params)),
    ];
    Report::new(params.seed, verdicts)
}

/// `SUPERVISE_SEED`, or 0.
fn seed() -> u64 {
    match env::var("SUPERVISE_SEED") {
        Err(env::VarError::NotPresent) => 0,
        Ok(text) => match text.parse() {
            Ok(seed) => seed,
            Err(error) => {
                panic!("SUPERVISE_SEED is `{text}`: expected a number from 0 to 2^64-1: {error}")
            }
        },
        Err(error) => panic!("SUPERVISE_SEED: {error}"),
    }
}
