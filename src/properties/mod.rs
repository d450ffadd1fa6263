//! Ready-made checks for backoffs and restart decisions, and proptest strategies for both.
//!
//! You pass a factory and declare what it makes. The checks report which rules it breaks. Each
//! check reports only violations of its own rule:
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
//! assert_eq!(report.with("fail"), ["delay-capped"]); // 102.4 s
//! # Ok::<(), supervise_harness::backoff::BackoffError>(())
//! ```
//!
//! The checks make all their random draws from the seed `SUPERVISE_SEED`, or from 0 if it is not
//! set.

// A module imports only from modules above it.
mod seed;

mod declared;

#[cfg(feature = "properties")]
mod declared_rules;

mod report;

mod delays;

mod jitter;

#[cfg(feature = "properties")]
mod generated;

#[cfg(feature = "properties")]
pub mod strategies;

#[cfg(feature = "properties")]
mod decisions;

#[cfg(feature = "properties")]
mod limits;

#[cfg(feature = "properties")]
mod resets;

#[cfg(feature = "properties")]
mod loops;

mod battery;

pub use crate::rules::{Rule, Verdict, Violation};
pub use battery::backoff;
#[cfg(feature = "properties")]
pub use battery::{restart, restart_loop};
#[cfg(feature = "properties")]
pub use decisions::{
    clean_set, no_start_after_stop, one_start_per_exit, policy_matrix, requested_death_not_failure,
    status_overrides,
};
pub use declared::{BackoffParams, BackoffParamsBuilder, Curve, JitterLaw};
#[cfg(feature = "properties")]
pub use declared_rules::{Decider, LimitRule, RestartParams, RestartRules, WindowEdge};
pub use delays::{delay_capped, delay_curve, delay_monotone, delay_no_overflow};
pub use jitter::{FALSE_ALARM_RATE, jitter_at_cap, jitter_law, jitter_seeded};
#[cfg(feature = "properties")]
pub use limits::{
    bad_limits_rejected, give_up_is_terminal, give_up_reports_cause, limit_boundary, limit_counts,
    limit_degenerate, window_kind,
};
#[cfg(feature = "properties")]
pub use loops::{
    Cancel, FailingStarter, LoopCase, backoff_interruptible, delay_origin, min_spacing,
};
pub use report::PropertyReport;
#[cfg(feature = "properties")]
pub use resets::{manual_reset, manual_start_after_give_up, no_early_reset, reset_after_healthy};
