//! The integration tests of `policy`: the decision tables, the limits' edges, the terminal states.

use std::time::Duration;

use rstest::rstest;
use supervise_harness::supervisor::{
    Decision, EndCause, PolicyError, RestartLimit, RestartPolicy, RestartTracker,
    RestartTrackerBuilder, RunEnd,
};
use supervise_harness::{ExitStatus, Signal, Timestamp};

const SECOND: Duration = Duration::from_secs(1);
const NANO: Duration = Duration::from_nanos(1);

fn at(since_origin: Duration) -> Timestamp {
    Timestamp::ORIGIN + since_origin
}

fn tracker(builder: RestartTrackerBuilder) -> RestartTracker {
    builder.build().expect("valid rules")
}

fn unlimited(policy: RestartPolicy) -> RestartTrackerBuilder {
    RestartTracker::builder().policy(policy)
}

fn crash() -> RunEnd {
    RunEnd::exited(1)
}

fn core_dump() -> RunEnd {
    RunEnd::new(EndCause::Exited(ExitStatus::Signaled {
        signal: Signal::SEGV,
        core_dumped: true,
    }))
}

/// Whether the first decision on `end` is a restart.
fn restarts(mut tracker: RestartTracker, end: RunEnd) -> bool {
    tracker.decide(&end, Timestamp::ORIGIN) == Decision::Restart { attempt: 0 }
}

#[rstest]
#[case::code_0(RunEnd::exited(0), false)]
#[case::code_1(RunEnd::exited(1), true)]
#[case::code_255(RunEnd::exited(255), true)]
#[case::signal(RunEnd::killed_by(Signal::TERM), true)]
#[case::core_dump(core_dump(), true)]
#[case::start_failure(RunEnd::new(EndCause::StartFailed), true)]
#[case::start_timeout(RunEnd::new(EndCause::StartTimeout), true)]
#[case::watchdog_timeout(RunEnd::new(EndCause::WatchdogTimeout), true)]
#[case::unhealthy(RunEnd::new(EndCause::Unhealthy), true)]
fn the_policy_decides_by_cause(#[case] end: RunEnd, #[case] failure: bool) {
    let by = |policy| restarts(tracker(unlimited(policy)), end);
    assert!(!by(RestartPolicy::Never));
    assert_eq!(by(RestartPolicy::OnFailure), failure);
    assert!(by(RestartPolicy::Always));
}

#[test]
fn success_codes_and_signals_are_not_failures() {
    let rules = || {
        unlimited(RestartPolicy::OnFailure)
            .success_codes([3, 200])
            .success_signals([Signal::TERM])
    };
    for clean in [
        RunEnd::exited(3),
        RunEnd::exited(200),
        RunEnd::killed_by(Signal::TERM),
    ] {
        let decision = tracker(rules()).decide(&clean, Timestamp::ORIGIN);
        assert_eq!(decision, Decision::Finished { success: true });
    }
    for failure in [
        RunEnd::exited(0),
        RunEnd::exited(143),
        RunEnd::killed_by(Signal::KILL),
    ] {
        assert!(restarts(tracker(rules()), failure));
    }
}

#[test]
fn the_prevent_list_beats_the_force_list_and_both_beat_the_policy() {
    let forced = || unlimited(RestartPolicy::Never).force_restart_codes([0, 7]);
    assert!(restarts(tracker(forced()), RunEnd::exited(7)));
    assert!(!restarts(tracker(forced()), RunEnd::exited(8)));
    let prevented = || {
        unlimited(RestartPolicy::Always)
            .force_restart_codes([7])
            .prevent_restart_codes([7])
            .force_restart_signals([Signal::USR1])
            .prevent_restart_signals([Signal::USR1])
    };
    assert!(!restarts(tracker(prevented()), RunEnd::exited(7)));
    assert!(!restarts(
        tracker(prevented()),
        RunEnd::killed_by(Signal::USR1)
    ));
    assert!(restarts(tracker(prevented()), RunEnd::exited(8)));
}

#[test]
fn a_requested_death_is_success_and_is_not_followed_by_a_restart() {
    let mut tracker = tracker(unlimited(RestartPolicy::Always).force_restart_codes([1]));
    let mut decide = |end: RunEnd| tracker.decide(&end.on_request(), Timestamp::ORIGIN);
    let finished = |success| Decision::Finished { success };
    assert_eq!(decide(RunEnd::killed_by(Signal::TERM)), finished(true));
    assert_eq!(decide(RunEnd::killed_by(Signal::KILL)), finished(true));
    assert_eq!(decide(RunEnd::exited(0)), finished(true));
    assert_eq!(decide(RunEnd::exited(1)), finished(false));
}

#[test]
fn n_restarts_in_a_row_are_allowed_and_one_more_gives_up() {
    let limit = RestartLimit::consecutive(2).unwrap();
    let mut tracker = tracker(unlimited(RestartPolicy::Always).limit(limit));
    let mut decide = |end: RunEnd| tracker.decide(&end, Timestamp::ORIGIN);
    assert_eq!(decide(crash()), Decision::Restart { attempt: 0 });
    assert_eq!(decide(RunEnd::exited(0)), Decision::Restart { attempt: 1 });
    let Decision::GiveUp(gave_up) = decide(core_dump()) else {
        panic!("the third restart was allowed");
    };
    assert_eq!((gave_up.restarts, gave_up.limit), (2, limit));
    assert_eq!(
        gave_up.to_string(),
        "gave up after 2 restarts in a row: killed by SIGSEGV, core dumped"
    );
}

#[rstest]
#[case::just_outside(10 * SECOND + NANO, true)]
#[case::exactly_as_old_as_the_window(10 * SECOND, false)]
#[case::just_inside(10 * SECOND - NANO, false)]
fn a_restart_leaves_the_window_one_nanosecond_after_its_length(
    #[case] third: Duration,
    #[case] allowed: bool,
) {
    let limit = RestartLimit::window(2, 10 * SECOND).unwrap();
    let mut tracker = tracker(unlimited(RestartPolicy::Always).limit(limit));
    for (attempt, time) in [(0, Duration::ZERO), (1, 5 * SECOND)] {
        let decision = tracker.decide(&crash(), at(time));
        assert_eq!(decision, Decision::Restart { attempt });
    }
    let decision = tracker.decide(&crash(), at(third));
    assert_eq!(decision == Decision::Restart { attempt: 2 }, allowed);
}

#[test]
fn a_window_slides_over_a_slow_crash_loop_forever() {
    let limit = RestartLimit::window(3, 10 * SECOND).unwrap();
    let mut tracker = tracker(unlimited(RestartPolicy::Always).limit(limit));
    for attempt in 0..1_000 {
        let decision = tracker.decide(&crash(), at(attempt * 4 * SECOND));
        assert_eq!(decision, Decision::Restart { attempt });
    }
}

#[test]
fn a_clock_that_goes_back_frees_nothing() {
    let limit = RestartLimit::window(1, SECOND).unwrap();
    let mut tracker = tracker(unlimited(RestartPolicy::Always).limit(limit));
    let _ = tracker.decide(&crash(), at(10 * SECOND));
    let decision = tracker.decide(&crash(), at(SECOND));
    assert!(matches!(decision, Decision::GiveUp(_)));
}

#[rstest]
#[case::just_short(SECOND - NANO, 1)]
#[case::exactly(SECOND, 0)]
fn a_healthy_run_starts_the_count_again(#[case] up_for: Duration, #[case] attempt: u32) {
    let mut tracker = tracker(unlimited(RestartPolicy::Always).reset_after(SECOND));
    let _ = tracker.decide(&crash(), Timestamp::ORIGIN);
    let decision = tracker.decide(&crash().after(up_for), Timestamp::ORIGIN);
    assert_eq!(decision, Decision::Restart { attempt });
}

#[test]
fn a_healthy_run_clears_a_row_but_not_a_window() {
    let decide_twice = |limit| {
        let rules = unlimited(RestartPolicy::Always)
            .reset_after(SECOND)
            .limit(limit);
        let mut tracker = tracker(rules);
        let healthy = crash().after(SECOND);
        let _ = tracker.decide(&healthy, Timestamp::ORIGIN);
        tracker.decide(&healthy, at(SECOND))
    };
    let row = decide_twice(RestartLimit::consecutive(1).unwrap());
    assert_eq!(row, Decision::Restart { attempt: 0 });
    let window = decide_twice(RestartLimit::window(1, SECOND).unwrap());
    assert!(matches!(window, Decision::GiveUp(_)));
}

#[test]
fn giving_up_and_stopping_are_final_until_a_reset() {
    let limit = RestartLimit::consecutive(1).unwrap();
    let mut tracker = tracker(unlimited(RestartPolicy::Always).limit(limit));
    let restart = Decision::Restart { attempt: 0 };
    assert_eq!(tracker.decide(&crash(), Timestamp::ORIGIN), restart);
    let gave_up = tracker.decide(&core_dump(), Timestamp::ORIGIN);
    assert!(matches!(gave_up, Decision::GiveUp(_)));
    assert_eq!(tracker.decide(&crash(), at(100 * SECOND)), gave_up);

    tracker.reset();
    assert_eq!(tracker.decide(&crash(), at(100 * SECOND)), restart);

    tracker.stop();
    let finished = Decision::Finished { success: false };
    assert_eq!(tracker.decide(&crash(), at(200 * SECOND)), finished);
    tracker.reset();
    assert_eq!(tracker.decide(&crash(), at(300 * SECOND)), restart);
}

#[test]
fn impossible_rules_are_refused_with_their_alternative() {
    let said = |error: PolicyError| error.to_string();
    assert_eq!(
        said(RestartLimit::consecutive(0).unwrap_err()),
        "restart limit is 0: expected 1 or more (for no restarts at all, RestartPolicy::Never)"
    );
    assert_eq!(RestartLimit::window(0, SECOND), Err(PolicyError::ZeroLimit));
    assert_eq!(
        said(RestartLimit::window(1, Duration::ZERO).unwrap_err()),
        "restart window is 0s: expected a period above zero (for a limit without a window, RestartLimit::consecutive)"
    );
    let built = |builder: RestartTrackerBuilder| builder.build().map(drop).unwrap_err();
    let by_hand = RestartLimit::Window {
        restarts: std::num::NonZeroU32::MIN,
        within: Duration::ZERO,
    };
    let builder = RestartTracker::builder;
    assert_eq!(built(builder().limit(by_hand)), PolicyError::ZeroWindow);
    assert_eq!(
        built(builder().reset_after(Duration::ZERO)),
        PolicyError::ZeroReset
    );
    assert_eq!(
        said(built(builder().success_codes([0, 256, -1]))),
        "success_codes has the code 256: expected 0 to 255"
    );
}
