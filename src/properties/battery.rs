//! Batteries of checks: one for backoffs, one for restart deciders and one for restart loops.

#[cfg(feature = "properties")]
use std::fmt::Display;

#[cfg(feature = "properties")]
use super::decisions::{
    self, clean_set, no_start_after_stop, one_start_per_exit, policy_matrix,
    requested_death_not_failure, status_overrides,
};
use super::declared::BackoffParams;
#[cfg(feature = "properties")]
use super::declared_rules::{Decider, RestartParams, RestartRules};
use super::delays::{self, delay_capped, delay_curve, delay_monotone, delay_no_overflow};
use super::jitter::{self, jitter_at_cap, jitter_law, jitter_seeded};
#[cfg(feature = "properties")]
use super::limits::{
    self, bad_limits_rejected, give_up_is_terminal, give_up_reports_cause, limit_boundary,
    limit_counts, limit_degenerate, window_kind,
};
#[cfg(feature = "properties")]
use super::loops::{self, LoopCase, backoff_interruptible, delay_origin, min_spacing};
use super::report::PropertyReport;
#[cfg(feature = "properties")]
use super::resets::{
    self, manual_reset, manual_start_after_give_up, no_early_reset, reset_after_healthy,
};
use crate::backoff::BackoffStrategy;

/// Checks a backoff against every rule for backoffs.
///
/// The factory makes a strategy, with the seed if it gets one. The checks call the factory many
/// times, and ask the strategies for almost a hundred thousand delays. They catch and report a
/// panic of the factory or of a strategy. The panic hook prints it as well.
///
/// A correct backoff fails by chance in at most one of 1/[`FALSE_ALARM_RATE`](super::FALSE_ALARM_RATE) runs.
pub fn backoff<S: BackoffStrategy>(
    factory: impl Fn(Option<u64>) -> S,
    params: &BackoffParams,
) -> PropertyReport {
    let verdicts = vec![
        (delays::CURVE, delay_curve(&factory, params)),
        (delays::CAPPED, delay_capped(&factory, params)),
        (delays::NO_OVERFLOW, delay_no_overflow(&factory, params)),
        (delays::MONOTONE, delay_monotone(&factory, params)),
        (jitter::LAW, jitter_law(&factory, params)),
        (jitter::AT_CAP, jitter_at_cap(&factory, params)),
        (jitter::SEEDED, jitter_seeded(&factory, params)),
    ];
    PropertyReport::new(params.seed, verdicts)
}

/// Checks a restart decider against every rule for restart decisions.
///
/// The factory makes a decider with the restart rules that it is given, or returns an error that
/// says why it cannot. A check skips the cases whose restart rules are valid but refused by the
/// factory. If the factory refuses all cases of a check, the verdict is `unsupported`.
///
/// ```
/// use supervise_harness::properties::{self, RestartParams, RestartRules};
///
/// properties::restart(RestartRules::tracker, &RestartParams::new()).assert();
/// ```
///
/// These are not checked here, because they need processes, several children or a wall clock:
/// - the spacing of restarts of many children;
/// - siblings;
/// - the scope of giving up;
/// - steps of the clock.
#[cfg(feature = "properties")]
pub fn restart<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> PropertyReport {
    let f = &factory;
    let verdicts = vec![
        (decisions::MATRIX, policy_matrix(f, params)),
        (decisions::CLEAN, clean_set(f, params)),
        (decisions::OVERRIDES, status_overrides(f, params)),
        (decisions::REQUESTED, requested_death_not_failure(f, params)),
        (decisions::STOPPED, no_start_after_stop(f, params)),
        (decisions::ONE_START, one_start_per_exit(f, params)),
        (resets::AGAIN, manual_start_after_give_up(f, params)),
        (limits::REFUSED, bad_limits_rejected(f, params)),
        (limits::BOUNDARY, limit_boundary(f, params)),
        (limits::COUNTS, limit_counts(f, params)),
        (limits::KIND, window_kind(f, params)),
        (limits::DEGENERATE, limit_degenerate(f, params)),
        (limits::TERMINAL, give_up_is_terminal(f, params)),
        (limits::CAUSE, give_up_reports_cause(f, params)),
        (resets::HEALTHY, reset_after_healthy(f, params)),
        (resets::EARLY, no_early_reset(f, params)),
        (resets::MANUAL, manual_reset(f, params)),
    ];
    PropertyReport::new(params.seed, verdicts)
}

/// Checks a restart loop on a fake clock. A restart loop starts something until a start succeeds.
///
/// ```
/// use supervise_harness::supervisor::RestartLoop;
/// use supervise_harness::properties::{self, LoopCase, RestartParams};
///
/// let run = async |case: LoopCase| {
///     let LoopCase { clock, backoff, cancel, mut starter } = case;
///     let mut restarts = RestartLoop::builder().backoff(backoff).clock(clock).build();
///     let _ = restarts.run_unless(&mut starter, cancel.cancelled()).await;
/// };
/// properties::restart_loop(run, &RestartParams::new()).assert();
/// ```
#[cfg(feature = "properties")]
pub fn restart_loop(run: impl AsyncFn(LoopCase), params: &RestartParams) -> PropertyReport {
    let verdicts = vec![
        (loops::SPACING, min_spacing(&run, params)),
        (loops::ORIGIN, delay_origin(&run, params)),
        (loops::INTERRUPTIBLE, backoff_interruptible(&run, params)),
    ];
    PropertyReport::new(params.seed, verdicts)
}
