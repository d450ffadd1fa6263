//! Tests of the verdicts that none of our broken supervisors causes. The timelines are written by
//! hand.

use std::time::Duration;

use agent_stub::{Finding, Hygiene};

use super::call::{Control, ControlCall};
use super::catalog::rule;
use super::curve::DelayCurve;
use super::exhaustion::{CLEARED, SHORT};
use super::notice::{Notice, Noticed};
use super::observed::Observed;
use super::profile::{DelayOrigin, Environment, NotifyAccess};
use super::service::Service;
use crate::conformance::{Reference, Subject};
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn at(seconds: f64) -> Timestamp {
    Timestamp::ORIGIN + Duration::from_secs_f64(seconds)
}

/// A service with a constant delay of 2 s, and these events. The observation ends at 100 s.
pub(super) fn observed(events: &[&str]) -> Observed {
    let mut timeline = "timeline v2  clock=virtual".to_owned();
    for event in events {
        timeline.push('\n');
        timeline.push_str(event);
    }
    let mut service = Service::new("worker");
    service.delays = DelayCurve::constant(SECOND * 2);
    let timeline = timeline.parse().unwrap();
    let mut observed = Observed::new(timeline, service, Reference::new().profile());
    observed.end = at(100.0);
    observed
}

pub(super) fn said(mut observed: Observed, notices: &[(f64, Notice)]) -> Observed {
    let noticed = |(seconds, notice): &(f64, Notice)| Noticed::new(at(*seconds), notice.clone());
    observed.notices = notices.iter().map(noticed).collect();
    observed
}

pub(super) fn told(
    mut observed: Observed,
    control: Control,
    from: f64,
    to: Option<f64>,
) -> Observed {
    let mut call = ControlCall::new("worker", control, at(from));
    call.to = to.map(at);
    observed.calls.push(call);
    observed
}

fn cleared(mut observed: Observed, seconds: u64) -> Observed {
    observed
        .facts
        .numbers
        .insert(CLEARED, seconds * 1_000_000_000);
    observed
}

fn failed() -> Notice {
    Notice::StartFailed("cannot".to_owned())
}

fn exited(code: i32) -> Notice {
    Notice::Ended(ExitStatus::Exited { code })
}

/// Checks the verdict of a rule on its own trial: the verdict's word, and the beginning of what
/// broke the rule or of the reason.
#[track_caller]
pub(super) fn expect(id: &str, observed: &Observed, expected: &str) {
    let rule = rule(id).unwrap();
    let verdict = rule.check(&observed.of_trial(rule.id));
    let broken = verdict.violation().map(|broken| broken.actual.as_str());
    let why = broken.or(verdict.reason()).unwrap_or_default();
    let text = format!("{}: {why}", verdict.word());
    assert!(text.starts_with(expected), "{id}: {text}\n{verdict:?}");
}

#[test]
fn a_restart_may_be_early_or_late() {
    let restart = |delta: &str| {
        let start = format!("+{delta}  worker#2  start");
        observed(&[
            "+0.000  worker#1  start",
            "+5.000  worker#1  exit  code=1",
            &start,
        ])
    };
    for id in ["delay-origin", "delay-curve"] {
        expect(id, &restart("1.999"), "fail: run 2 starts at 6.999");
        expect(id, &restart("2.000"), "pass");
        expect(id, &restart("2.001"), "pass");
        expect(id, &restart("2.002"), "fail: run 2 starts at 7.002");
        expect(id, &observed(&["+0.000  worker#1  start"]), "unknown");
    }
    let from_the_start = |delta| {
        let mut observed = restart(delta);
        observed.profile.delay.origin = DelayOrigin::LastStart;
        observed
    };
    expect("delay-origin", &from_the_start("0.000"), "pass");
    expect("delay-origin", &from_the_start("2.000"), "fail");
    // The other rule judges what the delay is counted from.
    expect("delay-curve", &from_the_start("2.000"), "pass");
}

#[test]
fn children_may_start_together_or_fail_apart() {
    let herd = |exit: &str, start: &str| {
        let mut observed = observed(&[
            "+0.000  worker#1  start",
            "+0.000  other#1   start",
            "+1.000  worker#1  exit  code=1",
            exit,
            "+5.000  worker#2  start",
            start,
        ]);
        observed.service.delays = observed.service.delays.jitter(crate::backoff::Jitter::Full);
        observed
    };
    let together = "+0.000  other#1   exit  code=1";
    expect(
        "herd-spacing",
        &herd(together, "+0.001  other#2  start"),
        "fail: all",
    );
    expect(
        "herd-spacing",
        &herd(together, "+0.002  other#2  start"),
        "pass",
    );
    let apart = herd("+1.000  other#1  exit  code=1", "+0.000  other#2  start");
    expect("herd-spacing", &apart, "unknown");
    let mut narrow = herd(together, "+0.000  other#2  start");
    narrow.service.delays.jitter = crate::backoff::Jitter::None;
    expect("herd-spacing", &narrow, "unknown");
}

#[test]
fn a_stop_in_a_delay_may_take_its_time_or_never_return() {
    let stopped = |from, to| {
        let events = ["+0.000  worker#1  start", "+0.000  worker#1  exit  code=1"];
        told(observed(&events), Control::Stop, from, to)
    };
    let id = "backoff-interruptible";
    expect(id, &stopped(1.0, Some(1.0)), "pass");
    expect(id, &stopped(1.0, Some(2.0)), "fail: it returns after 1s");
    expect(id, &stopped(1.0, None), "fail: it has not returned");
    expect(id, &stopped(3.0, None), "unknown");
}

#[test]
fn an_environment_may_lack_double_or_exceed() {
    let inherits = |kind, entries: &[String]| {
        let mut observed = observed(&["+0.000  worker#1  start"]);
        observed.profile.child.environment = Some(kind);
        observed.facts.environment = vec![("OWN".into(), "1".into())];
        observed.service.env = vec![("KEY".into(), "value".into())];
        let mut report = Hygiene::default();
        for entry in entries {
            report.add(Finding::Env(entry.as_str().into()));
        }
        observed.facts.hygiene.insert(1, report);
        observed
    };
    let entries = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let check = |kind, text: &str, expected: &str| {
        expect("env-contract", &inherits(kind, &entries(text)), expected);
    };
    let (inherited, cleared) = (Environment::Inherited, Environment::Cleared);
    check(inherited, "OWN=1 KEY=value", "pass");
    // The entry of `KEY` is too long for the report, so its value is missing.
    check(inherited, "OWN=1 KEY", "pass");
    check(inherited, "KEY=value", "fail: it has no `OWN`");
    check(inherited, "OWN=1 KEY=other", "fail: it has KEY=other");
    check(
        inherited,
        "OWN=1 KEY=value KEY=other",
        "fail: run 1 has 2 of `KEY`",
    );
    check(cleared, "KEY=value", "pass");
    let many: Vec<String> = (0..9).map(|n| format!("MORE{n}=1")).collect();
    check(
        cleared,
        &format!("KEY=value {}", many[..8].join(" ")),
        "pass",
    );
    check(
        cleared,
        &format!("KEY=value {}", many.join(" ")),
        "fail: it has 9 more",
    );
}

#[test]
fn a_failed_start_may_be_silent_single_or_slow_to_recover() {
    for id in ["enoent-eacces", "etxtbsy"] {
        expect(id, &observed(&[]), "fail: nothing is said");
        let once = said(observed(&[]), &[(0.0, failed())]);
        expect(id, &once, "fail: there is none");
        let twice = [(0.0, failed()), (2.0, failed())];
        let back = |delta: &str| {
            let start = format!("+{delta}  worker#1  start");
            cleared(said(observed(&[&start]), &twice), 3)
        };
        expect(id, &back("4.000"), "pass");
        expect(id, &back("4.002"), "fail: it starts at");
        expect(
            id,
            &cleared(said(observed(&[]), &twice), 3),
            "fail: there is none",
        );
        expect(id, &back("2.000"), "unknown");
        let hurried = [(0.0, failed()), (1.0, failed())];
        expect(
            id,
            &said(observed(&[]), &hurried),
            "fail: one at 1.000s follows",
        );
        expect(id, &said(observed(&[]), &[(0.0, exited(127))]), "unknown");
    }
}

#[test]
fn a_shortage_may_be_met_in_silence_in_haste_or_for_good() {
    let short = |mut observed: Observed| {
        observed.facts.numbers.insert(SHORT, 1_000_000_000);
        observed
    };
    let ended = ["+0.000  worker#1  start", "+1.000  worker#1  exit  code=1"];
    let twice = [(3.0, failed()), (5.0, failed())];
    let back = |start: &str| {
        let start = format!("+{start}  worker#2  start");
        let observed = observed(&[ended[0], ended[1], &start]);
        cleared(short(said(observed, &twice)), 5)
    };
    for id in ["fork-eagain", "emfile"] {
        expect(id, &observed(&ended), "unknown: nothing ran short");
        expect(id, &back("6.000"), "pass");
        expect(id, &back("6.002"), "fail: it starts at");
        expect(id, &back("3.999"), "unknown: run 2 started in the shortage");
        expect(id, &short(observed(&ended)), "fail: nothing is said");
        let took = short(said(
            observed(&ended),
            &[(1.0, exited(1)), (3.0, exited(127))],
        ));
        expect(id, &took, "unknown: what failed was not reported");
        let mut early = short(observed(&ended));
        early.end = at(3.0);
        expect(id, &early, "unknown: looking ended");
        expect(
            id,
            &short(observed(&ended[..1])),
            "unknown: the run before the shortage has not ended",
        );
        let once = short(said(observed(&ended), &twice[..1]));
        expect(id, &once, "fail: there is none");
        let hurried = [(3.0, failed()), (4.0, failed())];
        let hurried = cleared(short(said(observed(&ended), &hurried)), 4);
        expect(id, &hurried, "fail: one at 4.000s follows");
        let thrice = [(3.0, failed()), (5.0, failed()), (7.0, failed())];
        let lasting = cleared(short(said(observed(&ended), &thrice)), 5);
        expect(id, &lasting, "fail: one fails at 7.000s");
        let stopped = told(back("6.000"), Control::Stop, 8.0, Some(8.0));
        expect(id, &stopped, "pass");
        let hangs = told(back("6.000"), Control::Stop, 8.0, None);
        expect(id, &hangs, "fail: the stop at 8.000s has not returned");
        let mut fails = told(back("6.000"), Control::Stop, 8.0, Some(8.0));
        fails.calls[0].error = Some("no".to_owned());
        expect(id, &fails, "fail: the stop at 8.000s failed: no");
        let refused = |events: &[&str]| {
            let begun = told(observed(events), Control::Begin, 1.0, Some(1.0));
            let mut refused = cleared(short(begun), 1);
            refused.calls[0].error = Some("no descriptor".to_owned());
            refused
        };
        expect(id, &refused(&["+1.000  worker#1  start"]), "pass");
        expect(id, &refused(&[]), "fail: there is no start");
    }
}

#[test]
fn an_exit_with_127_may_be_taken_for_a_failed_exec() {
    let events = [
        "+0.000  worker#1  start",
        "+1.000  worker#1  exit  code=127",
    ];
    let id = "exec-error-distinct";
    expect(id, &said(observed(&events), &[(1.0, exited(127))]), "pass");
    expect(
        id,
        &said(observed(&events), &[(1.0, failed())]),
        "fail: a failed start",
    );
    expect(id, &said(observed(&[]), &[(1.0, failed())]), "pass");
    expect(id, &observed(&[]), "unknown");
}

#[test]
fn a_bad_log_may_be_passed_over_in_silence() {
    let id = "log-open-error";
    let runs = ["+0.000  worker#1  start"];
    expect(
        id,
        &cleared(observed(&runs), 3),
        "fail: the service runs without a word",
    );
    expect(id, &cleared(observed(&[]), 3), "fail: nothing is said");
    expect(
        id,
        &cleared(said(observed(&[]), &[(0.0, failed())]), 3),
        "fail: there is no start",
    );
    let later = said(observed(&["+4.000  worker#1  start"]), &[(0.0, failed())]);
    expect(id, &cleared(later, 3), "pass");
}

#[test]
fn a_flood_may_kill_and_an_end_be_noticed_late() {
    let killed = [
        "+0.000  worker#1  start",
        "+0.000  worker#1  exit  signal=SIGPIPE",
    ];
    expect("flood-no-block", &observed(&killed), "fail: it ends before");
    let ended = ["+0.000  worker#1  start", "+1.000  worker#1  exit  code=1"];
    let id = "held-pipe-exit";
    expect(id, &said(observed(&ended), &[(1.001, exited(1))]), "pass");
    expect(
        id,
        &said(observed(&ended), &[(1.002, exited(1))]),
        "fail: it is reported at 1.002s",
    );
    let held = [
        "+0.000  worker#1  start",
        "+0.000  worker#1/helper  start",
        "+1.000  worker#1  exit  code=1",
    ];
    expect(
        id,
        &said(observed(&held), &[(1.002, exited(1))]),
        "fail: it is reported at 1.002s. `worker#1/helper` lives and has the run's stdout open: wait for",
    );
}

#[test]
fn a_notification_may_be_anothers_or_too_late() {
    let id = "ready-sender";
    let helped = ["+0.000  worker#1  start", "+1.000  worker#1/helper  ready"];
    let access = |access, notices: &[(f64, Notice)]| {
        let mut observed = said(observed(&helped), notices);
        observed.profile.readiness.notify_access = Some(access);
        observed
    };
    let up = |seconds| [(seconds, Notice::Up)];
    expect(id, &access(NotifyAccess::All, &up(1.0)), "pass");
    expect(
        id,
        &access(NotifyAccess::Main, &up(1.0)),
        "fail: it is reported as up",
    );
    expect(id, &access(NotifyAccess::Main, &[]), "pass");
    let exits = [
        "+0.000  worker#1  start",
        "+0.000  worker#1  ready",
        "+0.000  worker#1  exit  code=1",
    ];
    let ended = |at| (at, exited(1));
    expect(id, &said(observed(&exits), &[ended(0.0)]), "pass");
    expect(
        id,
        &said(observed(&exits), &[ended(0.5)]),
        "fail: it is reported at",
    );
    expect(id, &observed(&exits), "fail: it is not reported");
    let after = [ended(0.0), (1.0, Notice::Up)];
    expect(
        id,
        &said(observed(&exits), &after),
        "fail: it is reported as up",
    );
}

#[test]
fn a_heartbeat_may_be_missed_early_late_or_for_ever() {
    let ends = |delta: &str| {
        let exit = format!("+{delta}  worker#1  exit  signal=SIGKILL");
        let mut observed = observed(&["+0.000  worker#1  start", "+3.000  worker#1  beat", &exit]);
        observed.service.watchdog = Some(SECOND * 4);
        observed
    };
    expect("watchdog", &ends("3.999"), "fail: it ends at 6.999");
    expect("watchdog", &ends("4.001"), "pass");
    expect("watchdog", &ends("4.002"), "fail: it ends at 7.002");
    let mut alive = observed(&["+0.000  worker#1  start"]);
    expect("watchdog", &alive, "unknown");
    alive.service.watchdog = Some(SECOND * 4);
    expect("watchdog", &alive, "fail: it is alive");
}
