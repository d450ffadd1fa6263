//! Loops of a few lines that are right: no rule blames them, and those that are for loops pass.

use std::process::Stdio;
use std::time::Duration;

use supervise_harness::rules::{self, DelayCurve, Observed, Profile, Service, Setting, Verdict};
use supervise_harness::supervisor::{RestartLimit, RestartPolicy};
use supervise_harness::{Script, Sim, Timeline};
use tokio::process::Command;

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Runs the script once more than there are delays, in seconds, between the runs.
fn runs(script: &Script, delays: &[u64]) -> Timeline {
    Sim::new().run(async |sim| {
        let worker = sim.agent("worker", script.clone());
        let mut command = Command::from(worker.command());
        command.stdout(Stdio::null());
        command.status().await.unwrap();
        for delay in delays {
            tokio::time::sleep(secs(*delay)).await;
            command.status().await.unwrap();
        }
    })
}

/// What the loop declares: doubling delays from 1 s, three restarts and no more.
fn observed(timeline: Timeline) -> Observed {
    let mut service = Service::new("worker");
    service.policy = RestartPolicy::OnFailure;
    service.delays = DelayCurve::exponential(secs(1), 2.0, secs(60));
    service.limit = RestartLimit::consecutive(3).unwrap();
    let mut profile = Profile::new("mine");
    profile.restarts.policy = Setting::Configurable;
    profile.delay.curve = Setting::Configurable;
    profile.limit.consecutive = Setting::Configurable;
    profile.limit.reset_after = Setting::Configurable;
    profile.child.current_dir = true;
    profile.child.output = true;
    Observed::new(timeline, service, profile)
}

/// The rules that fail, each with what was.
fn blamed(observed: &Observed) -> Vec<String> {
    let fail = |rule: &'static rules::Rule| match rule.check(observed) {
        Verdict::Fail(violation) => Some(format!("{}: {}", rule.id, violation.actual)),
        _ => None,
    };
    rules::all().filter_map(fail).collect()
}

#[track_caller]
fn assert_word(id: &str, observed: &Observed, word: &str) {
    let verdict = rules::rule(id).unwrap().check(observed);
    assert_eq!(verdict.word(), word, "{id}: {verdict:?}");
}

#[test]
fn a_loop_of_three_restarts_passes_what_is_for_loops_and_is_blamed_for_nothing() {
    let script = Script::new().run_for(secs(1)).write("hello").exit(1);
    let mut observed = observed(runs(&script, &[1, 2, 4]));
    for id in [
        "delay-curve",
        "min-spacing",
        "policy-matrix",
        "delay-capped",
        "limit-boundary",
    ] {
        assert_word(id, &observed, "pass");
    }
    assert_eq!(blamed(&observed), [""; 0]);
    for id in ["start-exactly-one", "flood-no-block"] {
        assert_word(id, &observed, "unknown");
    }
    // Its working directory is there.
    observed.service.current_dir = Some("/".into());
    assert_eq!(blamed(&observed), [""; 0]);
}

#[test]
fn a_loop_that_is_wrong_is_blamed_for_that() {
    let script = Script::new().run_for(secs(1)).exit(1);
    let fast = observed(runs(&script, &[1, 1, 1]));
    let ids = |observed: &Observed| {
        let rules = rules::all();
        let broken = rules.filter(|rule| rule.check(observed).violation().is_some());
        broken.map(|rule| rule.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&fast), ["min-spacing", "delay-curve"]);
    let mut often = observed(runs(&script, &[1, 2, 4, 8]));
    assert_eq!(ids(&often), ["limit-boundary"]);
    often.service.limit = RestartLimit::Unlimited;
    often.service.policy = RestartPolicy::Never;
    assert_eq!(ids(&often), ["policy-matrix"]);
    often.service.policy = RestartPolicy::OnFailure;
    often.service.delays.max = secs(3);
    assert_eq!(ids(&often), ["delay-curve", "delay-capped"]);
}

/// It was to be run once, and was.
#[test]
fn one_run_that_nothing_follows_is_blamed_for_nothing() {
    let script = Script::new().run_for(secs(1)).exit(0);
    let once = observed(runs(&script, &[]));
    assert_eq!(blamed(&once), [""; 0]);
    assert_word("start-exactly-one", &once, "unknown");
}

/// Each run is healthy, so that the delay is the first one again.
#[test]
fn delays_that_begin_anew_after_healthy_runs_are_blamed_for_nothing() {
    let script = Script::new().run_for(secs(3600)).exit(1);
    let mut healthy = observed(runs(&script, &[1, 1, 1]));
    healthy.service.reset_after = Some(secs(60));
    assert_word("delay-curve", &healthy, "pass");
    assert_word("min-spacing", &healthy, "pass");
    assert_eq!(blamed(&healthy), [""; 0]);
    // Had none of them counted as healthy, the delays would be wrong.
    healthy.service.reset_after = None;
    assert_word("delay-curve", &healthy, "fail");
}

/// Two at once show on any timeline.
#[test]
fn two_instances_at_once_are_blamed_whoever_made_the_timeline() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(secs(5)).exit(1));
        let mut one = Command::from(worker.command()).spawn().unwrap();
        worker.started().await;
        tokio::time::sleep(secs(1)).await;
        let mut other = Command::from(worker.command()).spawn().unwrap();
        one.wait().await.unwrap();
        other.wait().await.unwrap();
    });
    let beside = observed(timeline);
    assert_word("start-exactly-one", &beside, "fail");
    assert_word("one-start-per-exit", &beside, "fail");
}
