//! Tests of the rules on timelines that no trial made, and on times that the harness sees late. The
//! timelines are written by hand.

use super::call::Control;
use super::catalog::rule;
use super::notice::Notice;
use super::observed::Observed;
use super::profile::{StopReturn, Time};
use super::unseeded::{SECOND, at, expect, observed, said, told};
use crate::rules::Tolerance;

/// A service whose first run a restart ends, and these events after that. Nobody looks any more
/// after 100 s.
fn stopped_again(last: &[&str]) -> Observed {
    let mut events = vec![
        "+0.000  worker#1  start",
        "+0.500  worker#1  signal  SIGTERM count=1",
        "+0.500  worker#1  exit  signal=SIGKILL",
        "+0.000  worker#1  reap",
    ];
    events.extend(last);
    let observed = told(observed(&events), Control::Begin, 0.0, Some(0.0));
    let mut observed = told(observed, Control::Restart, 0.5, Some(1.0));
    observed.service.policy = crate::supervisor::RestartPolicy::Never;
    observed
}

#[test]
fn what_starts_at_the_return_of_a_stop_may_live_die_or_be_asked_for() {
    let id = "no-start-after-stop";
    let stop = |observed, to| told(observed, Control::Stop, 2.0, Some(to));
    let second = "+0.000  worker#2  start";
    let died = "+1.000  worker#2  exit  signal=SIGTERM";
    let third = "+0.000  worker#3  start";
    let lives = || stopped_again(&[second, died, third]);
    expect(
        id,
        &stop(lives(), 2.0),
        "fail: run 3, started at 2.000s, is alive",
    );
    // A stop that takes some time must also end a run that starts meanwhile.
    expect(
        id,
        &stop(lives(), 2.5),
        "fail: run 3, started at 2.000s, is alive",
    );
    let later = "+0.700  worker#3  exit  signal=SIGTERM";
    let dies = || stopped_again(&[second, died, third, later]);
    expect(id, &stop(dies(), 2.7), "pass");
    expect(
        id,
        &stop(dies(), 2.0),
        "fail: run 3, started at 2.000s, lives until",
    );
    // If the stop does not wait for the end, the run has its grace.
    let mut at_once = stop(dies(), 2.0);
    at_once.profile.stopping.returns = Some(StopReturn::AtOnce);
    expect(id, &at_once, "pass");
    // A start that was asked for after the stop, and one that was asked for before it.
    let asked = told(stop(lives(), 2.0), Control::Start, 2.0, Some(2.0));
    expect(id, &asked, "pass");
    let before = told(lives(), Control::Start, 2.0, Some(2.0));
    expect(
        id,
        &stop(before, 2.0),
        "fail: run 3, started at 2.000s, is alive",
    );
    // Another rule judges a run that was alive at the stop and goes on.
    let goes_on = stop(stopped_again(&[second]), 2.0);
    expect(id, &goes_on, "pass");
    let starts_later = stop(
        stopped_again(&[second, died, "+0.500  worker#3  start"]),
        2.0,
    );
    expect(id, &starts_later, "fail: run 3 was started at 2.500s");
    // The rule judges the second stop, too.
    let twice = stop(stopped_again(&[second, died]), 2.0);
    let mut twice = told(twice, Control::Start, 3.0, Some(3.0));
    twice = told(twice, Control::Stop, 4.0, Some(4.0));
    expect(id, &twice, "pass");
    let events = [
        second,
        died,
        "+1.000  worker#3  start",
        "+0.500  worker#3  exit  code=1",
    ];
    let again = [&events[..], &["+1.500  worker#4  start"]].concat();
    let calls = twice.calls.clone();
    let mut again = stopped_again(&again);
    again.calls = calls;
    expect(id, &again, "fail: run 4 was started at 5.000s");
}

/// A subject that is judged by the machine's clock and may be 100 ms late.
fn in_real_time(mut observed: Observed) -> Observed {
    observed.profile.time = Time::Real {
        unit: SECOND,
        tolerance: Tolerance::of(SECOND / 10),
    };
    observed
}

#[test]
fn a_hello_or_a_look_may_take_as_long_as_the_machine_may_be_late() {
    // The harness sees the reap after the stop has returned.
    let stopped = |to: f64| {
        let events = [
            "+0.000  worker#1  start",
            "+2.000  worker#1  signal  SIGTERM count=1",
            "+1.000  worker#1  exit    code=0",
            "+0.000  worker#1  reap",
        ];
        in_real_time(told(observed(&events), Control::Stop, 2.0, Some(to)))
    };
    expect("stop-sync", &stopped(2.95), "pass");
    expect(
        "stop-sync",
        &stopped(2.85),
        "fail: it returned at 2.850s, 150ms early",
    );
    // The hello comes after the report of being up. The report is right at exec.
    let up = |at: f64, readiness| {
        let observed = told(
            observed(&["+1.000  worker#1  start"]),
            Control::Begin,
            0.9,
            Some(0.9),
        );
        let mut observed = in_real_time(said(observed, &[(at, Notice::Up)]));
        observed.service.readiness = readiness;
        observed
    };
    let (exec, uptime) = (
        crate::supervisor::Readiness::Exec,
        crate::supervisor::Readiness::MinUptime(SECOND),
    );
    expect("up-criterion", &up(0.95, exec), "pass");
    expect("up-criterion", &up(0.85, exec), "fail: up at 0.850s");
    expect("up-criterion", &up(1.95, uptime), "pass");
    expect(
        "up-criterion",
        &up(1.85, uptime),
        "fail: run 1 is up at 1.850s",
    );
    // The timeout counts from the exec, which came before the hello.
    let timed_out = |at: &str| {
        let exit = format!("+{at}  worker#1  exit  signal=SIGTERM");
        let events = ["+1.000  worker#1  start", &exit, "+2.000  worker#2  start"];
        let mut observed = in_real_time(observed(&events));
        observed.service.readiness = crate::supervisor::Readiness::Notified;
        observed.service.start_timeout = Some(SECOND * 5);
        observed
    };
    expect("start-timeout", &timed_out("4.950"), "pass");
    expect(
        "start-timeout",
        &timed_out("4.850"),
        "fail: it was ended at 5.850s",
    );
    // In virtual time, a hello and a look take no time.
    let mut exact = stopped(2.95);
    exact.profile.time = Time::Virtual;
    expect(
        "stop-sync",
        &exact,
        "fail: it returned at 2.950s, 50ms early",
    );
}

/// Checks what a rule says to a timeline that is not known to come from its own trial.
#[track_caller]
fn elsewhere(id: &str, observed: &Observed, expected: &str) {
    let verdict = rule(id).unwrap().check(observed);
    assert_eq!(verdict.word(), expected, "{id}: {verdict:?}");
}

#[test]
fn no_other_timeline_breaks_a_rule_about_what_does_not_show_in_one() {
    let crash = ["+0.000  worker#1  start", "+1.000  worker#1  exit  code=1"];
    for id in [
        "flood-no-block",
        "watchdog",
        "setup-failure-aborts",
        "instant-exit",
    ] {
        let mut observed = observed(&crash);
        observed.service.watchdog = Some(SECOND * 4);
        observed.service.current_dir = Some("/".into());
        elsewhere(id, &observed, "unknown");
        let said = rule(id).unwrap().check(&observed);
        let about = rule(id).unwrap().about().unwrap();
        let why = said.reason().unwrap();
        assert!(why.contains(about) || id == "instant-exit", "{why}");
    }
}

/// The calls show that somebody asked for the end and for the start.
#[test]
fn what_was_asked_for_is_nobodys_decision() {
    let events = [
        "+0.000  worker#1  start",
        "+1.000  worker#1  exit  signal=SIGTERM",
        "+0.000  worker#1  reap",
        "+0.000  worker#2  start",
    ];
    let mut asked = told(observed(&events), Control::Restart, 1.0, Some(1.0));
    asked.service.policy = crate::supervisor::RestartPolicy::Never;
    for id in [
        "policy-matrix",
        "min-spacing",
        "delay-origin",
        "delay-curve",
        "delay-capped",
    ] {
        elsewhere(id, &asked, "unknown");
        let mut alone = asked.clone();
        alone.calls.clear();
        let expected = if id == "delay-capped" { "pass" } else { "fail" };
        elsewhere(id, &alone, expected);
    }
}

#[test]
fn a_limit_may_be_why_nothing_follows() {
    let mut observed = observed(&[
        "+0.000  worker#1  start",
        "+1.000  worker#1  exit  code=1",
        "+2.000  worker#2  start",
        "+1.000  worker#2  exit  code=1",
    ]);
    elsewhere("policy-matrix", &observed, "fail");
    observed.service.limit =
        crate::supervisor::RestartLimit::Consecutive(std::num::NonZeroU32::MIN);
    elsewhere("policy-matrix", &observed, "pass");
    elsewhere("limit-boundary", &observed, "pass");
    // A timeline alone does not show what came after it.
    observed.end = at(4.0);
    elsewhere("limit-boundary", &observed, "pass");
    observed.service.limit = crate::supervisor::RestartLimit::Consecutive(2.try_into().unwrap());
    elsewhere("limit-boundary", &observed, "unknown");
}

#[test]
fn a_timeline_of_the_machines_clock_breaks_nothing_where_virtual_time_is_declared() {
    let mut observed = observed(&[
        "+0.000  worker#1  start",
        "+1.000  worker#1  exit  code=1",
        "+3.000  worker#2  start",
    ]);
    let events = observed.timeline.events().to_vec();
    observed.timeline =
        crate::timeline::Timeline::new(crate::timeline::TimelineClock::Real, events);
    elsewhere("delay-curve", &observed, "unknown");
    observed.profile.time = Time::Real {
        unit: SECOND,
        tolerance: Tolerance::of(SECOND / 10),
    };
    elsewhere("delay-curve", &observed, "fail");
}
