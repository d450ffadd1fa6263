//! Probes of an agent that is up.

use std::num::NonZeroU32;
use std::time::Duration;

use agent_stub::Quoted;
use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::supervisor::{
    EndCause, Outcome, Probe, Readiness, RestartPolicy, RestartTracker, SpawnerOptions, Supervisor,
    SupervisorBuilder, SupervisorEvent,
};
use supervise_harness::{Agent, EventKind, EventSource, RunSpan, Script, Sim, SimHandle, Timeline};
use tokio::time::sleep;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn agent(sim: &SimHandle, name: &str, script: &str) -> Agent {
    sim.agent(name, Script::new().then_do(script).expect("a script"))
}

/// Probes of this agent every 10 s, for 3 s at most, until two fail in a row.
fn probe(probe: &Agent) -> Probe {
    Probe::new(probe.program())
        .args(probe.args())
        .every(seconds(10))
        .timeout(seconds(3))
        .failures(NonZeroU32::new(2).expect("above zero"))
}

/// A supervisor that restarts failures after 5 s.
fn supervisor(worker: &Agent) -> SupervisorBuilder {
    let spawner = worker.spawner_options().build().expect("a spawner");
    Supervisor::builder(spawner, "worker").backoff(ConstantBackoff::new(seconds(5)))
}

/// When the runs of an agent started and ended.
fn spans(timeline: &Timeline, name: &str) -> Vec<String> {
    let runs = timeline.runs(name).into_iter();
    let text = |run: RunSpan| match run.exit {
        Some(exit) => format!("{}-{exit}", run.start),
        None => format!("{}-", run.start),
    };
    runs.map(text).collect()
}

/// When the helper of that probe ended.
fn end_of_helper(timeline: &Timeline, probe: u32) -> String {
    let helper = EventSource::descendant("probe", probe, "helper");
    let mut events = timeline.events().iter();
    let exit =
        events.find(|event| event.who == helper && matches!(event.what, EventKind::Exit { .. }));
    exit.expect("its end").at.to_string()
}

/// What happens until `end`, when the supervisor is dropped.
fn timeline(worker: &str, probes: Script, end: u64) -> String {
    let timeline = Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", worker);
        let probes = sim.agent("probe", probes);
        let (supervisor, events) = supervisor(&worker).probe(probe(&probes)).start().unwrap();
        worker.follow(events);
        sleep(seconds(end)).await;
        drop(supervisor);
    });
    timeline.to_string()
}

#[test]
fn so_many_failures_in_a_row_are_a_failure_whatever_the_exit_code() {
    let failing = Script::new().exit(1);
    let slow = "on SIGTERM { run 2s; exit 0 }; stay";
    insta::assert_snapshot!(timeline(slow, failing, 31));
}

#[test]
fn a_success_begins_the_count_anew() {
    let fails = || Script::runs(1, Script::new().exit(1));
    let probes = fails()
        .then(Script::runs(1, Script::new().exit(0)))
        .then(Script::new().exit(1));
    insta::assert_snapshot!(timeline("stay", probes, 46));
}

#[test]
fn a_policy_of_never_finishes_with_a_failure() {
    Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "on SIGTERM { exit 0 }; stay");
        let probes = agent(&sim, "probe", "die SIGSEGV");
        let tracker = RestartTracker::builder().policy(RestartPolicy::Never);
        let (supervisor, _events) = supervisor(&worker)
            .probe(probe(&probes))
            .tracker(tracker.build().unwrap())
            .start()
            .unwrap();
        let Outcome::Finished {
            success: false,
            end,
        } = supervisor.wait().await.unwrap()
        else {
            panic!("{:?}", supervisor.status())
        };
        assert_eq!(end.cause, EndCause::Unhealthy);
        assert_eq!(end.up_for, seconds(20));
        assert_eq!(end.cause.to_string(), "failed its probes");
        sleep(seconds(60)).await;
        assert_eq!(probes.runs(), 2);
    });
}

#[test]
fn a_probe_that_hangs_fails_at_its_timeout_and_is_killed_with_its_group() {
    let timeline = Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "stay");
        let script = "on SIGTERM ignore; start \"helper\" same-group { stay }; stay";
        let probes = agent(&sim, "probe", script);
        let (supervisor, _events) = supervisor(&worker).probe(probe(&probes)).start().unwrap();
        sleep(seconds(24)).await;
        drop(supervisor);
    });
    assert_eq!(spans(&timeline, "worker"), ["0.000s-23.000s"]);
    assert_eq!(
        spans(&timeline, "probe"),
        ["10.000s-13.000s", "20.000s-23.000s"]
    );
    assert_eq!(end_of_helper(&timeline, 1), "13.000s");
    assert_eq!(end_of_helper(&timeline, 2), "23.000s");
}

#[test]
fn what_a_probe_leaves_in_its_group_ends_with_it() {
    let timeline = Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "stay");
        let script = "start \"helper\" same-group { stay }; run 1s; exit 0";
        let probes = agent(&sim, "probe", script);
        let (_supervisor, _events) = supervisor(&worker).probe(probe(&probes)).start().unwrap();
        sleep(seconds(15)).await;
    });
    assert_eq!(end_of_helper(&timeline, 1), "11.000s");
}

#[test]
fn there_is_one_probe_at_a_time() {
    let timeline = Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "stay");
        let probes = agent(&sim, "probe", "run 14s; exit 0");
        let probe = probe(&probes).timeout(seconds(15));
        let (supervisor, _events) = supervisor(&worker).probe(probe).start().unwrap();
        sleep(seconds(40)).await;
        drop(supervisor);
        sleep(seconds(1)).await;
    });
    assert_eq!(
        spans(&timeline, "probe"),
        ["10.000s-24.000s", "24.000s-38.000s", "38.000s-40.000s"]
    );
}

#[test]
fn the_first_is_a_period_after_the_run_is_up_in_each_run() {
    let timeline = Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "run 7s; ready fd 3; run 14s; exit 1");
        // One that runs ends with its run, and a failure counts for its run alone.
        let probes =
            Script::runs(1, Script::new().exit(1)).then(Script::new().run_for(seconds(2)).exit(1));
        let probes = sim.agent("probe", probes);
        let (_supervisor, _events) = supervisor(&worker)
            .readiness(Readiness::Notified)
            .probe(probe(&probes).every(seconds(13)))
            .start()
            .unwrap();
        sleep(seconds(50)).await;
    });
    assert_eq!(
        spans(&timeline, "worker"),
        ["0.000s-21.000s", "26.000s-47.000s"]
    );
    assert_eq!(
        spans(&timeline, "probe"),
        ["20.000s-20.000s", "46.000s-47.000s"]
    );
}

#[test]
fn one_that_runs_ends_with_a_stop_and_with_the_supervisor() {
    let timeline = Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "on SIGTERM { run 1s; exit 0 }; stay");
        let probes = agent(&sim, "probe", "stay");
        let (supervisor, _events) = supervisor(&worker).probe(probe(&probes)).start().unwrap();
        sleep(seconds(11)).await;
        let stopped = supervisor.stop().await.unwrap();
        assert_eq!(stopped.to_string(), "stopped: exit code 0");
        sleep(seconds(18)).await;
        supervisor.start().await.unwrap();
        sleep(seconds(11)).await;
        drop(supervisor);
        sleep(seconds(30)).await;
    });
    assert_eq!(
        spans(&timeline, "worker"),
        ["0.000s-12.000s", "30.000s-41.000s"]
    );
    assert_eq!(
        spans(&timeline, "probe"),
        ["10.000s-11.000s", "40.000s-41.000s"]
    );
}

#[test]
fn one_that_cannot_be_started_has_failed() {
    Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "stay");
        let missing = Probe::new("/no/such/probe").failures(NonZeroU32::MIN);
        let (supervisor, mut events) = supervisor(&worker).probe(missing).start().unwrap();
        let failed = loop {
            let (at, event) = events.next().await.unwrap();
            if matches!(event, SupervisorEvent::ProbeFailed { .. }) {
                break format!("{at} {event}");
            }
        };
        assert!(
            failed.starts_with("10.000s a probe of run 1 failed, 1 in a row: "),
            "{failed}"
        );
        assert!(failed.contains("/no/such/probe"), "{failed}");
        drop(supervisor);
    });
}

#[test]
fn it_has_the_agent_s_environment_and_directory_and_no_descriptor_of_ours() {
    let folder = tempfile::TempDir::new().unwrap();
    Sim::new().run(async |sim| {
        let worker = agent(&sim, "worker", "stay");
        let probes = agent(&sim, "probe", "stay");
        let options = worker
            .spawner_options()
            .env("COLOUR", "blue")
            .current_dir(folder.path());
        let (_supervisor, _events) = Supervisor::builder(options.build().unwrap(), "worker")
            .probe(probe(&probes))
            .start()
            .unwrap();
        let run = probes.started().await;
        let hygiene = run.hygiene().await.unwrap();
        assert!(hygiene.descriptors.keys().eq(&[0, 1, 2, 3]));
        assert_eq!(hygiene.cwd, Quoted::from(folder.path().to_str().unwrap()));
        let colour = Quoted::from("COLOUR=blue");
        assert!(hygiene.environment.contains(&colour));
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refusal = |probe: Probe| {
        let spawner = SpawnerOptions::new()
            .agent_path("/bin/true")
            .build()
            .unwrap();
        let started = Supervisor::builder(spawner, "worker").probe(probe).start();
        started.expect_err("a refusal").to_string()
    };
    let texts = [
        refusal(Probe::new("true").every(Duration::ZERO)),
        refusal(Probe::new("true").timeout(Duration::ZERO)),
        refusal(Probe::new("")),
        refusal(Probe::new("true").args(["a\0b"])),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}
