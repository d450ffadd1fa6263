//! The integration tests of `properties`: what is right passes, and each broken thing is blamed on
//! exactly the rule that names its bug.

#![cfg(feature = "properties")]

mod broken_backoffs;
mod broken_deciders;
mod broken_loops;
mod model;

use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use supervise_harness::backoff::{
    BackoffStrategy, ConstantBackoff, ExponentialBackoff, Jitter, LinearBackoff,
};
use supervise_harness::properties::{
    self, BackoffParams, BackoffParamsBuilder, Curve, JitterLaw, LoopCase, PropertyReport,
    RestartParams, RestartRules, WindowEdge, strategies,
};
use supervise_harness::rules::DelayOrigin;
use supervise_harness::rules::Verdict;
use supervise_harness::supervisor::RestartLoop;

use super::child;
use broken_backoffs::{CAP, INITIAL};
use broken_deciders::Made;

/// The ids of the rules that were broken.
fn blamed(report: &PropertyReport) -> Vec<&'static str> {
    report.with("fail")
}

/// Doubling from 100 ms to 10 s, as every broken backoff claims.
fn doubling(jitter: JitterLaw) -> BackoffParamsBuilder {
    BackoffParams::builder(INITIAL, CAP)
        .curve(Curve::Exponential { multiplier: 2.0 })
        .jitter(jitter)
        .seedable()
}

#[rstest]
#[case::jitter_after_the_cap(
    "delay-capped",
    JitterLaw::Relative(0.5),
    broken_backoffs::jitter_after_the_cap
)]
#[case::shift_wraps("delay-no-overflow", JitterLaw::None, broken_backoffs::shift_wraps)]
#[case::panics_on_infinity(
    "delay-no-overflow",
    JitterLaw::None,
    broken_backoffs::panics_on_infinity
)]
#[case::full_collapses("delay-no-overflow", JitterLaw::Full, broken_backoffs::full_collapses)]
#[case::constant_seed("jitter-seeded", JitterLaw::Full, broken_backoffs::constant_seed)]
#[case::ignores_its_seed("jitter-seeded", JitterLaw::Full, broken_backoffs::ignores_its_seed)]
#[case::no_jitter_at_the_cap(
    "jitter-at-cap",
    JitterLaw::Full,
    broken_backoffs::no_jitter_at_the_cap
)]
#[case::clamped_after_the_draw(
    "jitter-at-cap",
    JitterLaw::Relative(0.5),
    broken_backoffs::clamped_after_the_draw
)]
#[case::clamped_decorrelated(
    "jitter-at-cap",
    JitterLaw::Decorrelated,
    broken_backoffs::clamped_decorrelated
)]
#[case::decorrelated_without_its_cap(
    "delay-capped",
    JitterLaw::Decorrelated,
    broken_backoffs::decorrelated_without_its_cap
)]
#[case::triples("delay-curve", JitterLaw::None, broken_backoffs::triples)]
#[case::half_the_width(
    "jitter-law",
    JitterLaw::Relative(0.5),
    broken_backoffs::half_the_width
)]
#[case::only_downwards(
    "jitter-law",
    JitterLaw::Relative(0.5),
    broken_backoffs::only_downwards
)]
#[case::too_wide("jitter-law", JitterLaw::Equal, broken_backoffs::too_wide)]
#[case::one_attempt_off_centre(
    "jitter-law",
    JitterLaw::Full,
    broken_backoffs::one_attempt_off_centre
)]
fn a_broken_backoff_is_blamed_for_its_bug_alone(
    #[case] rule: &str,
    #[case] jitter: JitterLaw,
    #[case] factory: fn(Option<u64>) -> Box<dyn BackoffStrategy + Send>,
) {
    let report = properties::backoff(factory, &doubling(jitter).build().unwrap());
    assert_eq!(blamed(&report), [rule], "\n{report}");
}

#[test]
fn a_shrinking_backoff_without_a_declared_curve_is_blamed_for_that_alone() {
    let params = BackoffParams::builder(INITIAL, CAP).build().unwrap();
    let report = properties::backoff(broken_backoffs::shrinks, &params);
    assert_eq!(blamed(&report), ["delay-monotone"], "\n{report}");
}

#[test]
fn a_factory_that_panics_is_a_violation_and_no_crash() {
    let factory = |_: Option<u64>| -> ConstantBackoff { panic!("no entropy") };
    let report = properties::backoff(factory, &doubling(JitterLaw::None).build().unwrap());
    assert_eq!(blamed(&report), ["delay-no-overflow"]);
    assert_eq!(
        report.violations().next().unwrap().actual,
        "panicked: no entropy"
    );
}

#[test]
fn aws_decorrelated_jitter_passes_as_what_it_is() {
    let params = doubling(JitterLaw::DecorrelatedClamped).build().unwrap();
    properties::backoff(broken_backoffs::clamped_decorrelated, &params).assert();
}

#[test]
fn an_undeclared_jitter_is_still_held_to_vary() {
    let params = BackoffParams::builder(INITIAL, CAP)
        .jitter(JitterLaw::Undeclared)
        .seedable()
        .build()
        .unwrap();
    properties::backoff(broken_backoffs::too_wide, &params).assert();
    let report = properties::backoff(broken_backoffs::no_jitter_at_the_cap, &params);
    assert_eq!(blamed(&report), ["jitter-at-cap"], "\n{report}");
}

#[test]
fn constant_and_linear_backoffs_pass() {
    let constant = BackoffParams::builder(CAP, CAP)
        .curve(Curve::Constant)
        .build()
        .unwrap();
    properties::backoff(|_| ConstantBackoff::new(CAP), &constant).assert();

    let step = Duration::from_millis(300);
    let linear = BackoffParams::builder(INITIAL, CAP)
        .curve(Curve::Linear { step })
        .build()
        .unwrap();
    let factory = |_| LinearBackoff::new(INITIAL, step, CAP).unwrap();
    properties::backoff(factory, &linear).assert();
}

#[rstest]
fn the_exponential_backoff_passes_with_every_jitter(
    #[values(
        Jitter::None,
        Jitter::Relative(0.25),
        Jitter::Relative(1.0),
        Jitter::Full,
        Jitter::Equal,
        Jitter::Decorrelated
    )]
    jitter: Jitter,
) {
    let builder = ExponentialBackoff::builder()
        .initial(INITIAL)
        .max(CAP)
        .jitter(jitter);
    let report = properties::backoff(seeded(&builder), &BackoffParams::of(&builder).unwrap());
    report.assert();
    let applied = report
        .verdicts()
        .filter(|(_, verdict)| verdict.is_pass())
        .count();
    assert_eq!(
        applied,
        if jitter == Jitter::None { 4 } else { 5 },
        "\n{report}"
    );
}

/// The factory that a builder is.
fn seeded(
    builder: &supervise_harness::backoff::ExponentialBackoffBuilder,
) -> impl Fn(Option<u64>) -> ExponentialBackoff {
    let builder = builder.clone();
    move |seed| match seed {
        Some(seed) => builder.clone().seed(seed).build().unwrap(),
        None => builder.clone().build().unwrap(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_exponential_backoff_keeps_every_rule(builder in strategies::exponential_backoffs()) {
        let report = properties::backoff(seeded(&builder), &BackoffParams::of(&builder).unwrap());
        // Of jitters of some nanoseconds nobody can say more.
        let hidden = |verdict: &Verdict| verdict.reason().is_some_and(|why| why.contains("hides"));
        let is_good = |verdict: &Verdict| verdict.word() != "unknown" || hidden(verdict);
        let known = report.verdicts().all(|(_, verdict)| is_good(verdict));
        prop_assert!(known && report.with("fail").is_empty(), "{}", report);
    }
}

#[test]
fn a_report_reads_like_a_table_and_a_violation_like_a_compiler_error() {
    let params = doubling(JitterLaw::None).seed(7).build().unwrap();
    let report = properties::backoff(broken_backoffs::triples, &params);
    assert_eq!(
        report.to_string(),
        "        fail  delay-curve
        pass  delay-capped
        pass  delay-no-overflow
        pass  delay-monotone
 unsupported  jitter-law                  no jitter is declared
 unsupported  jitter-at-cap               no jitter is declared that could be seen
 unsupported  jitter-seeded               no jitter is declared that could be seen in 33 delays
       total  3 pass, 1 fail, 3 unsupported, 0 unknown; SUPERVISE_SEED=7

rule `delay-curve` broken
  rule      the k-th delay matches the declared curve
  expected  200ms
  actual    300ms
  place     attempt 1
  replay    SUPERVISE_SEED=7"
    );
    assert!(!report.passed() && !report.verdict("delay-curve").unwrap().is_pass());
    let panic = std::panic::catch_unwind(|| report.assert()).unwrap_err();
    let said = panic.downcast_ref::<String>().unwrap();
    assert!(said.starts_with("properties broken\n") && said.contains(&report.to_string()));
}

/// Full jitter in whole units of the resolution, or what claims to be it.
fn coarse(
    cap: Duration,
    resolution: Duration,
    make: impl Fn(Option<u64>) -> Box<dyn BackoffStrategy + Send>,
) -> PropertyReport {
    let declared = BackoffParams::builder(INITIAL, cap)
        .curve(Curve::Exponential { multiplier: 2.0 })
        .jitter(JitterLaw::Full)
        .resolution(resolution);
    properties::backoff(make, &declared.build().unwrap())
}

#[rstest]
#[case::of_milliseconds(500, 1)]
#[case::of_ten_milliseconds(5_000, 10)]
fn a_declared_jitter_that_the_resolution_hides_is_unknown(#[case] cap: u64, #[case] step: u64) {
    let cap = Duration::from_millis(cap);
    let highest = move |attempt: u32| INITIAL.saturating_mul(1 << attempt.min(16)).min(cap);
    let report = coarse(cap, Duration::from_millis(step), |_| Box::new(highest));
    assert_eq!(
        report.with("unknown"),
        ["jitter-law", "jitter-at-cap", "jitter-seeded"],
        "\n{report}"
    );
    assert!(!report.passed() && blamed(&report).is_empty());
    let why = report.verdict("jitter-law").unwrap().reason().unwrap();
    assert!(why.contains("resolution"), "{why}");
}

/// What shows at a resolution is judged: none of it is a reason to say less.
#[test]
fn a_declared_jitter_that_the_resolution_does_not_hide_is_judged() {
    let cap = Duration::from_secs(5);
    let highest = move |attempt: u32| INITIAL.saturating_mul(1 << attempt.min(16)).min(cap);
    let report = coarse(cap, Duration::from_millis(1), |_| Box::new(highest));
    assert!(report.with("unknown").is_empty(), "\n{report}");
    assert!(blamed(&report).contains(&"jitter-at-cap"), "\n{report}");
}

/// A constant delay of a narrow jitter is hidden however high the cap is.
#[test]
fn a_narrow_jitter_of_a_constant_delay_is_unknown_whatever_the_cap() {
    let declared = BackoffParams::builder(INITIAL, CAP)
        .curve(Curve::Constant)
        .jitter(JitterLaw::Full)
        .resolution(Duration::from_millis(1));
    let report = properties::backoff(
        |_| ConstantBackoff::new(INITIAL),
        &declared.build().unwrap(),
    );
    assert_eq!(
        report.with("unknown"),
        ["jitter-law", "jitter-seeded"],
        "\n{report}"
    );
}

#[test]
fn what_is_not_supported_is_not_a_pass() {
    let params = doubling(JitterLaw::Full).build().unwrap();
    let verdict = properties::delay_curve(broken_backoffs::no_jitter_at_the_cap, &params);
    assert!(matches!(&verdict, Verdict::Unsupported(_)) && !verdict.is_pass());
}

#[test]
fn impossible_declarations_are_refused() {
    let refused = |builder: BackoffParamsBuilder| builder.build().unwrap_err().to_string();
    assert!(refused(BackoffParams::builder(CAP, INITIAL)).starts_with("max is 100ms"));
    assert!(refused(BackoffParams::builder(Duration::ZERO, CAP)).starts_with("initial is 0s"));
    assert!(
        refused(doubling(JitterLaw::Relative(f64::NAN))).starts_with("jitter is Relative(NaN)")
    );
    let curve = Curve::Exponential { multiplier: 0.5 };
    assert!(
        refused(BackoffParams::builder(INITIAL, CAP).curve(curve)).starts_with("multiplier is 0.5")
    );
}

#[rstest]
#[case::a_core_dump_is_clean("policy-matrix", broken_deciders::a_core_dump_is_clean)]
#[case::success_signals_are_ignored("clean-set", broken_deciders::success_signals_are_ignored)]
#[case::a_failure_is_final(
    "clean-set",
    broken_deciders::a_failure_is_final_where_successes_are_listed
)]
#[case::force_beats_prevent("status-overrides", broken_deciders::force_beats_prevent)]
#[case::a_stop_is_a_failure("requested-death-not-failure", broken_deciders::a_stop_is_a_failure)]
#[case::a_stop_lasts_one_end("no-start-after-stop", broken_deciders::a_stop_lasts_one_end)]
#[case::each_end_counts_twice("one-start-per-exit", broken_deciders::each_end_counts_twice)]
#[case::failed_for_good("manual-start-after-give-up", broken_deciders::failed_for_good)]
#[case::zero_is_unlimited("bad-limits-rejected", broken_deciders::zero_is_unlimited)]
#[case::a_zero_window_panics("bad-limits-rejected", broken_deciders::a_zero_window_panics)]
#[case::one_too_many("limit-boundary", broken_deciders::one_too_many)]
#[case::one_too_few("limit-boundary", broken_deciders::one_too_few)]
#[case::only_failures_count("limit-counts", broken_deciders::only_failures_count)]
#[case::never_forgets("window-kind", broken_deciders::never_forgets)]
#[case::tumbles("window-kind", broken_deciders::tumbles)]
#[case::a_row_expires("window-kind", broken_deciders::a_row_expires)]
#[case::a_hundred_is_enough("limit-degenerate", broken_deciders::a_hundred_is_enough)]
#[case::forgives_after_a_day("give-up-is-terminal", broken_deciders::forgives_after_a_day)]
#[case::reports_the_first_cause("give-up-reports-cause", broken_deciders::reports_the_first_cause)]
#[case::miscounts_its_restarts("give-up-reports-cause", broken_deciders::miscounts_its_restarts)]
#[case::never_resets("reset-after-healthy", broken_deciders::never_resets)]
#[case::resets_at_half_time("no-early-reset", broken_deciders::resets_at_half_time)]
#[case::a_reset_keeps_the_attempt("manual-reset", broken_deciders::a_reset_keeps_the_attempt)]
fn a_broken_decider_is_blamed_for_its_bug_alone(
    #[case] rule: &str,
    #[case] factory: fn(&RestartRules) -> Made,
) {
    let report = properties::restart(factory, &RestartParams::new());
    assert_eq!(blamed(&report), [rule], "\n{report}");
    let applies = |verdict: &Verdict| !matches!(verdict, Verdict::Unsupported(_));
    assert!(report.verdicts().all(|(_, verdict)| applies(verdict)));
}

#[test]
fn the_tracker_keeps_every_rule_of_a_decider() {
    for seed in 0..4 {
        let report = properties::restart(RestartRules::tracker, &RestartParams::new().seed(seed));
        report.assert();
        assert!(
            report.verdicts().all(|(_, verdict)| verdict.is_pass()),
            "{report}"
        );
    }
}

#[test]
fn what_a_decider_declares_is_what_it_is_held_to() {
    let open = RestartParams::new().window_edge(WindowEdge::Open);
    let report = properties::restart(RestartRules::tracker, &open);
    assert_eq!(blamed(&report), ["window-kind"]);

    let counted = RestartParams::new().first_start_counts();
    let report = properties::restart(RestartRules::tracker, &counted);
    assert_eq!(blamed(&report), ["limit-boundary"]);
    properties::restart(broken_deciders::one_too_few, &counted).assert();
}

#[test]
fn a_failing_case_is_the_smallest() {
    let params = RestartParams::new().seed(5);
    let verdict = properties::limit_boundary(broken_deciders::one_too_many, &params);
    assert_eq!(
        verdict.violation().unwrap().to_string(),
        "rule `limit-boundary` broken
  rule      N events in T are allowed, N+1 trips; whether the first start counts is declared
  case      Consecutive(2)
  expected  2 restarts
  actual    3
  place     crash 3
  replay    SUPERVISE_SEED=5"
    );
}

#[test]
fn a_decider_that_cannot_be_made_has_shown_nothing() {
    let none =
        |_: &RestartRules| Err::<supervise_harness::supervisor::RestartTracker, _>("not today");
    let report = properties::restart(none, &RestartParams::new());
    assert!(!report.passed() && report.violations().next().is_none());
    let panic = std::panic::catch_unwind(|| report.assert()).unwrap_err();
    assert!(
        panic
            .downcast_ref::<String>()
            .unwrap()
            .contains("not today")
    );
}

#[test]
fn the_restart_loop_keeps_every_rule_of_a_loop() {
    let run = async |case: LoopCase| {
        let LoopCase {
            clock,
            backoff,
            cancel,
            mut starter,
        } = case;
        let mut restarts = RestartLoop::builder().backoff(backoff).clock(clock).build();
        let _ = restarts.run_unless(&mut starter, cancel.cancelled()).await;
    };
    let report = properties::restart_loop(run, &RestartParams::new());
    report.assert();
    assert!(report.verdicts().all(|(_, verdict)| verdict.is_pass()));

    let from_start = RestartParams::new().delay_origin(DelayOrigin::LastStart);
    assert_eq!(
        blamed(&properties::restart_loop(run, &from_start)),
        ["delay-origin"]
    );
}

#[test]
fn a_broken_loop_is_blamed_for_its_bug_alone() {
    let params = RestartParams::new();
    let blamed = [
        blamed(&properties::restart_loop(
            broken_loops::retries_once_at_once,
            &params,
        )),
        blamed(&properties::restart_loop(
            broken_loops::counts_from_the_start,
            &params,
        )),
        blamed(&properties::restart_loop(
            broken_loops::deaf_in_a_delay,
            &params,
        )),
        blamed(&properties::restart_loop(
            broken_loops::starts_once_more,
            &params,
        )),
    ];
    assert_eq!(
        blamed,
        [
            ["min-spacing"],
            ["delay-origin"],
            ["backoff-interruptible"],
            ["backoff-interruptible"]
        ]
    );
    let from_start = params.delay_origin(DelayOrigin::LastStart);
    properties::restart_loop(broken_loops::counts_from_the_start, &from_start).assert();
}

#[test]
fn the_seed_comes_from_the_environment() {
    const PATH: &str = "properties::the_seed_comes_from_the_environment";
    if child::is_child(PATH) {
        let params = doubling(JitterLaw::Full).build().unwrap();
        println!(
            "{}",
            properties::backoff(broken_backoffs::too_wide, &params)
        );
        return;
    }
    let said = |seed| {
        let output = child::command(PATH)
            .env("SUPERVISE_SEED", seed)
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    let nine = said("9");
    assert!(
        nine.contains("5 pass, 0 fail, 2 unsupported, 0 unknown; SUPERVISE_SEED=9"),
        "{nine}"
    );
    let bad = said("x");
    assert!(
        bad.contains("SUPERVISE_SEED is `x`: expected a number from 0 to 2^64-1"),
        "{bad}"
    );
}
