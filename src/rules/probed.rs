//! Tests of the verdicts on probes that none of our broken supervisors causes. The timelines are
//! written by hand.

use super::call::{Control, ControlCall};
use super::curve::DelayCurve;
use super::observed::Observed;
use super::rest::RestReason;
use super::unseeded::{SECOND, at, expect, observed, told};
use crate::supervisor::Probe;
use crate::supervisor::RestartPolicy;

const ID: &str = "probe-failure-policy";

/// A service with a constant delay of 12 s. It is probed every 5 s, each probe for at most 3 s, and
/// the second failure in a row ends it. The observation ends at 100 s.
fn probed(events: &[&str]) -> Observed {
    let mut observed = observed(events);
    let probe = Probe::new("probe").every(SECOND * 5).timeout(SECOND * 3);
    observed.service.delays = DelayCurve::constant(SECOND * 12);
    observed.service.probe = Some(probe.failures(2.try_into().unwrap()));
    observed
}

fn until(mut observed: Observed, seconds: f64) -> Observed {
    observed.end = at(seconds);
    observed
}

/// A probe that takes no time. It comes `after` seconds after the event before it.
fn instant(run: u32, after: &str, code: u8) -> [String; 2] {
    [
        format!("+{after}  probe#{run}  start"),
        format!("+0.000  probe#{run}  exit  code={code}"),
    ]
}

/// A run that fails two probes, at 5 s and at 10 s, and then these events.
fn failed(then: &[&str]) -> Observed {
    let mut events = vec!["+0.000  worker#1  start".to_owned()];
    events.extend(instant(1, "5.000", 1));
    events.extend(instant(2, "5.000", 1));
    events.extend(then.iter().map(|event| (*event).to_owned()));
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    probed(&events)
}

const TOLD: &str = "+0.000  worker#1  signal  SIGTERM count=1";
const ENDS: &str = "+1.000  worker#1  exit  code=0";
const NEXT: &str = "+12.000  worker#2  start";

#[test]
fn too_little_may_have_been_seen() {
    let start = "+0.000  worker#1  start";
    expect(ID, &observed(&[start]), "unknown");
    expect(ID, &probed(&[]), "unknown");
    expect(ID, &until(probed(&[start]), 5.0), "unknown");
    expect(ID, &probed(&[start]), "fail: it is not, until 100.000s");
    let stopped = told(failed(&[TOLD, ENDS]), Control::Stop, 10.0, Some(11.0));
    expect(ID, &stopped, "unknown");
    expect(ID, &until(failed(&[]), 10.0), "unknown");
    expect(ID, &until(failed(&[TOLD, ENDS]), 12.0), "unknown");
}

#[test]
fn a_run_may_be_ended_early_late_not_at_all_or_otherwise() {
    expect(ID, &until(failed(&[TOLD, ENDS, NEXT]), 24.0), "pass");
    expect(
        ID,
        &until(
            failed(&["+0.000  worker#1  exit  signal=SIGTERM", NEXT]),
            23.0,
        ),
        "pass",
    );
    expect(
        ID,
        &failed(&["+0.000  worker#1  exit  signal=SIGKILL"]),
        "fail: SIGKILL comes instead",
    );
    expect(
        ID,
        &failed(&["+0.002  worker#1  signal  SIGTERM count=1"]),
        "fail: SIGTERM comes at 10.002s",
    );
    expect(
        ID,
        &failed(&["+0.000  worker#1  signal  SIGINT count=1"]),
        "fail: SIGINT comes instead",
    );
    expect(
        ID,
        &failed(&["+0.000  worker#1  exit  code=1"]),
        "fail: it ends, and no signal",
    );
    expect(
        ID,
        &until(failed(&[]), 14.0),
        "fail: nothing has come by 14.000s",
    );
    expect(ID, &failed(&[TOLD]), "fail: it is alive at 100.000s");
    expect(ID, &until(failed(&[TOLD]), 15.0), "pass");
    let early = [
        "+0.000  worker#1  start",
        "+5.000  probe#1  start",
        "+0.000  probe#1  exit  code=1",
        "+1.000  worker#1  signal  SIGTERM count=1",
    ];
    expect(ID, &probed(&early), "fail: SIGTERM ends it at 6.000s");
}

#[test]
fn the_policy_may_be_applied_wrongly() {
    let delayed = |delay: &str| {
        let next = format!("+{delay}  worker#2  start");
        let mut observed = failed(&[TOLD, ENDS, &next]);
        // So the observation ends before the next probe.
        observed.end = observed.timeline.events().last().unwrap().at;
        observed
    };
    // The delay may count from the run's start or from its end.
    expect(ID, &delayed("0.999"), "fail: run 2 is started at 11.999s");
    expect(ID, &delayed("1.000"), "pass");
    expect(ID, &delayed("12.001"), "pass");
    expect(ID, &delayed("12.002"), "fail: run 2 is started at 23.002s");
    expect(
        ID,
        &failed(&[TOLD, ENDS]),
        "fail: nothing is, until 100.000s",
    );
    let mut gave_up = failed(&[TOLD, ENDS]);
    let mut call = ControlCall::new("worker", Control::Outcome, at(11.0));
    call.rest = Some(RestReason::GaveUp {
        cause: None,
        restarts: None,
    });
    gave_up.calls.push(call);
    expect(ID, &gave_up, "unknown");
    let never = |rest: Option<RestReason>| {
        let mut observed = failed(&[TOLD, ENDS]);
        observed.service.policy = RestartPolicy::Never;
        let mut call = ControlCall::new("worker", Control::Outcome, at(11.0));
        call.rest = rest;
        observed.calls.push(call);
        observed
    };
    expect(ID, &never(None), "pass");
    expect(
        ID,
        &never(Some(RestReason::Finished { success: false })),
        "pass",
    );
    expect(
        ID,
        &never(Some(RestReason::Finished { success: true })),
        "fail: it rests: finished",
    );
}

#[test]
fn a_probe_may_come_when_there_is_nothing_to_ask() {
    expect(
        ID,
        &failed(&[TOLD, "+0.500  probe#3  start"]),
        "fail: probe 3 is started at 10.500s",
    );
    let before = ["+0.000  probe#1  start", "+1.000  worker#1  start"];
    expect(ID, &probed(&before), "fail: probe 1 is started at 0.000s");
    let crash = [
        "+0.000  worker#1  start",
        "+4.000  worker#1  exit  code=1",
        "+1.000  probe#1  start",
        "+0.000  probe#1  exit  code=1",
    ];
    expect(ID, &probed(&crash), "fail: probe 1 is started at 5.000s");
    // A subject that goes on with the period of the run before.
    let next = "+1.000  worker#2  start";
    let crash = [&crash[..2], &[next], &crash[2..]].concat();
    expect(ID, &probed(&crash), "fail: probe 1 is started at 6.000s");
}

#[test]
fn a_probe_may_come_early_late_or_beside_another() {
    let first = |after: &str| {
        let [start, exit] = instant(1, after, 0);
        let events = ["+0.000  worker#1  start", &start, &exit];
        until(probed(&events), 6.0)
    };
    expect(ID, &first("4.999"), "fail: probe 1 is started at 4.999s");
    expect(ID, &first("5.001"), "pass");
    expect(ID, &first("5.002"), "fail: probe 1 is started at 5.002s");
    let second = |after: &str| {
        let [start, exit] = instant(2, after, 0);
        let first = ["+5.000  probe#1  start", "+2.000  probe#1  exit  code=0"];
        let events = ["+0.000  worker#1  start", first[0], first[1], &start, &exit];
        until(probed(&events), 13.0)
    };
    // The period may count from the start or from the end of the probe before.
    expect(ID, &second("2.999"), "fail: probe 2 is started at 9.999s");
    expect(ID, &second("3.000"), "pass");
    expect(ID, &second("5.001"), "pass");
    expect(ID, &second("5.002"), "fail: probe 2 is started at 12.002s");
    let mut beside = probed(&[
        "+0.000  worker#1  start",
        "+5.000  probe#1  start",
        "+5.000  probe#2  start",
        "+5.000  probe#1  exit  code=0",
        "+0.000  probe#2  exit  code=0",
    ]);
    beside.service.probe.as_mut().unwrap().timeout = SECOND * 30;
    expect(ID, &beside, "fail: probe 2 is started at 10.000s");
}

#[test]
fn a_probe_may_outlive_its_time() {
    let hangs = |exit: &str| {
        let exit = format!("+{exit}  probe#1  exit  signal=SIGKILL");
        let events = ["+0.000  worker#1  start", "+5.000  probe#1  start", &exit];
        until(probed(&events), 9.0)
    };
    expect(ID, &hangs("3.001"), "pass");
    expect(ID, &hangs("3.002"), "fail: it ends at 8.002s");
    let unknown = [
        "+0.000  worker#1  start",
        "+5.000  probe#1  start",
        "+1.000  probe#1  exit  status=?",
    ];
    expect(ID, &until(probed(&unknown), 9.0), "unknown");
    let with_its_run = |exit: &str| {
        let exit = format!("+{exit}  probe#1  exit  signal=SIGKILL");
        let events = [
            "+0.000  worker#1  start",
            "+5.000  probe#1  start",
            "+1.000  worker#1  exit  code=1",
            &exit,
        ];
        until(probed(&events), 9.0)
    };
    expect(ID, &with_its_run("0.001"), "pass");
    expect(ID, &with_its_run("0.002"), "fail: it ends at 6.002s");
}
