//! What our supervisor says, in the timeline.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::supervisor::{
    Readiness, RestartLimit, RestartTracker, Spawner, SpawnerOptions, Supervisor, SupervisorBuilder,
};
use supervise_harness::{Agent, Following, Script, Signal, Sim, SimHandle, Timeline};
use tokio::time::sleep;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn limited(spawner: Spawner, restarts: u32) -> SupervisorBuilder {
    let limit = RestartLimit::consecutive(restarts).unwrap();
    Supervisor::builder(spawner, "worker")
        .tracker(RestartTracker::builder().limit(limit).build().unwrap())
        .backoff(ConstantBackoff::new(seconds(2)))
}

fn spawner(agent: &Agent) -> Spawner {
    agent.spawner_options().build().unwrap()
}

fn start(agent: &Agent, builder: SupervisorBuilder) -> (Supervisor, Following) {
    let (supervisor, events) = builder.start().unwrap();
    (supervisor, agent.follow(events))
}

/// Does this in a shell instead of starting the agent, until it says `exec "$AGENT" "$@"`. No file of
/// its own, which another test's fork could hold open for writing.
fn wrapped(agent: &Agent, dir: &Path, script: &str) -> SpawnerOptions {
    let command = agent.command();
    let names = format!(
        "DIR={}\nAGENT={}\n",
        dir.display(),
        command.get_program().display()
    );
    SpawnerOptions::new()
        .agent_path("/bin/sh")
        .args(["-c", &(names + script), "wrapper"])
        .args(command.get_args())
}

#[test]
fn every_decision_stands_beside_its_run() {
    let timeline = Sim::new().run(async |sim| {
        let script = Script::runs(1, Script::new().run_for(seconds(5)).exit(1))
            .then(Script::runs(
                1,
                Script::new().run_for(seconds(5)).die_by(Signal::SEGV),
            ))
            .then(
                Script::new()
                    .on(Signal::TERM, Script::new().run_for(seconds(1)).exit(0))
                    .ready()
                    .stay(),
            );
        let worker = sim.agent("worker", script);
        let builder = limited(spawner(&worker), 9).readiness(Readiness::MinUptime(seconds(4)));
        let (supervisor, following) = start(&worker, builder);
        sleep(seconds(60)).await;
        following.note("asked to stop");
        supervisor.stop().await.unwrap();
        following.note("stopped");
    });
    insta::assert_snapshot!(timeline, @r##"
    timeline v2  clock=virtual
    +0.000  worker#1  start
    +0.000  worker#1  note     "started"
    +4.000  worker#1  note     "ready"
    +1.000  worker#1  exit     code=1
    +0.000  worker#1  reap
    +0.000  worker#1  note     "ended code=1"
    +0.000  worker#1  note     "backing off 2s (attempt 0)"
    +2.000  worker#2  start
    +0.000  worker#2  note     "started"
    +4.000  worker#2  note     "ready"
    +1.000  worker#2  exit     signal=SIGSEGV
    +0.000  worker#2  reap
    +0.000  worker#2  note     "ended signal=SIGSEGV"
    +0.000  worker#2  note     "backing off 2s (attempt 1)"
    +2.000  worker#3  start
    +0.000  worker#3  note     "started"
    +0.000  worker#3  ready
    +4.000  worker#3  note     "ready"
    +42.000 worker#3  note     "asked to stop"
    +0.000  worker#3  note     "stopping SIGTERM"
    +0.000  worker#3  signal   SIGTERM count=1
    +1.000  worker#3  exit     code=0
    +0.000  worker#3  reap
    +0.000  worker#3  note     "ended code=0"
    +0.000  worker#3  note     "stopped: exit code 0"
    +0.000  worker#3  note     "stopped"
    "##);
}

/// It depends on the kernel's mood how far the agent got: not what is written.
#[test]
fn a_stop_before_the_agent_has_said_a_word_is_a_run_every_time() {
    let play = || {
        Sim::new()
            .run(async |sim| {
                let worker = sim.agent("worker", Script::new().run_for(seconds(3600)).exit(1));
                let (supervisor, _) = start(&worker, limited(spawner(&worker), 1));
                supervisor.stop().await.unwrap();
                supervisor.start().await.unwrap();
                supervisor.stop().await.unwrap();
            })
            .to_string()
    };
    let first = play();
    insta::assert_snapshot!(first, @r##"
    timeline v2  clock=virtual
    +0.000  worker#1  start
    +0.000  worker#1  note     "started"
    +0.000  worker#1  note     "ready"
    +0.000  worker#1  note     "stopping SIGTERM"
    +0.000  worker#1  exit     signal=SIGTERM
    +0.000  worker#1  reap
    +0.000  worker#1  note     "ended signal=SIGTERM"
    +0.000  worker#1  note     "stopped: killed by SIGTERM"
    +0.000  worker#2  start
    +0.000  worker#2  note     "started"
    +0.000  worker#2  note     "ready"
    +0.000  worker#2  note     "stopping SIGTERM"
    +0.000  worker#2  exit     signal=SIGTERM
    +0.000  worker#2  reap
    +0.000  worker#2  note     "ended signal=SIGTERM"
    +0.000  worker#2  note     "stopped: killed by SIGTERM"
    "##);
    for _ in 0..100 {
        assert_eq!(play(), first);
    }
}

#[test]
fn a_run_that_never_says_hello_has_its_number_its_start_and_its_end() {
    let dir = tempfile::tempdir().unwrap();
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(5)).exit(3));
        let first_sleeps = r#"mkdir "$DIR/first" && exec sleep 1000; exec "$AGENT" "$@""#;
        let spawner = wrapped(&worker, dir.path(), first_sleeps).build().unwrap();
        let (supervisor, _) = start(&worker, limited(spawner, 1));
        // Nothing tells of it but looking; virtual time waits for the program.
        while !dir.path().join("first").exists() {
            tokio::task::yield_now().await;
        }
        supervisor.stop().await.unwrap();
        assert_eq!(worker.runs(), 0);
        supervisor.start().await.unwrap();
        assert_eq!(worker.started().await.number(), 2);
        supervisor.stop().await.unwrap();
    });
    insta::assert_snapshot!(timeline, @r##"
    timeline v2  clock=virtual
    +0.000  worker#1  start
    +0.000  worker#1  note     "started"
    +0.000  worker#1  note     "ready"
    +0.000  worker#1  note     "stopping SIGTERM"
    +0.000  worker#1  exit     signal=SIGTERM
    +0.000  worker#1  reap
    +0.000  worker#1  note     "ended signal=SIGTERM"
    +0.000  worker#1  note     "stopped: killed by SIGTERM"
    +0.000  worker#2  start
    +0.000  worker#2  note     "started"
    +0.000  worker#2  note     "ready"
    +0.000  worker#2  note     "stopping SIGTERM"
    +0.000  worker#2  exit     signal=SIGTERM
    +0.000  worker#2  reap
    +0.000  worker#2  note     "ended signal=SIGTERM"
    +0.000  worker#2  note     "stopped: killed by SIGTERM"
    "##);
    assert_eq!(timeline.findings(), [""; 0]);
}

#[test]
fn a_start_that_fails_takes_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("worker");
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(5)).exit(0));
        let options = worker.spawner_options().agent_path(&program);
        let (supervisor, _) = start(&worker, limited(options.build().unwrap(), 9));
        sleep(seconds(3)).await;
        symlink(worker.program(), &program).unwrap();
        supervisor.wait().await.unwrap();
    });
    let text = timeline.to_string();
    let text = text.replace(program.to_str().unwrap(), "PROGRAM");
    insta::assert_snapshot!(text, @r##"
    timeline v2  clock=virtual
    +0.000  worker#1  note     "failed to start: cannot start `PROGRAM`: no such file"
    +0.000  worker#1  note     "backing off 2s (attempt 0)"
    +2.000  worker#2  note     "failed to start: cannot start `PROGRAM`: no such file"
    +0.000  worker#2  note     "backing off 2s (attempt 1)"
    +2.000  worker#3  start
    +0.000  worker#3  note     "started"
    +0.000  worker#3  note     "ready"
    +5.000  worker#3  exit     code=0
    +0.000  worker#3  reap
    +0.000  worker#3  note     "ended code=0"
    +0.000  worker#3  note     "finished: exit code 0"
    "##);
}

#[test]
fn a_second_supervisor_of_the_agent_counts_on() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(5)).exit(1));
        for _ in 0..2 {
            let (supervisor, _) = start(&worker, limited(spawner(&worker), 1));
            supervisor.wait().await.unwrap();
            sleep(seconds(10)).await;
        }
    });
    assert_eq!(runs_with_their_ends(&timeline), [1, 2, 3, 4]);
}

/// The runs beside which `ended` stands, each after its own reap.
fn runs_with_their_ends(timeline: &Timeline) -> Vec<u32> {
    let lines: Vec<_> = timeline.to_string().lines().map(str::to_owned).collect();
    let pairs = lines.windows(2);
    let ends = pairs.filter(|pair| pair[1].contains("ended "));
    ends.map(|pair| {
        let run = |line: &str| {
            let (_, rest) = line.split_once('#').unwrap();
            rest.split(' ').next().unwrap().parse::<u32>().unwrap()
        };
        assert!(pair[0].ends_with("reap"), "{pair:?}");
        assert_eq!(run(&pair[0]), run(&pair[1]), "{pair:?}");
        run(&pair[1])
    })
    .collect()
}

#[test]
fn what_was_said_before_it_was_followed_stands_at_its_own_time() {
    let play = |late: u64| {
        let body = async |sim: SimHandle| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(5)).exit(1));
            let builder = limited(spawner(&worker), 2);
            let (supervisor, events) = builder.start().unwrap();
            sleep(seconds(late)).await;
            worker.follow(events);
            supervisor.wait().await.unwrap();
        };
        Sim::new().run(body).to_string()
    };
    assert_eq!(play(13), play(0));
}

#[test]
fn supervisors_of_two_agents_do_not_mix() {
    let play = || {
        Sim::new()
            .run(async |sim| {
                let mut supervisors = Vec::new();
                for name in ["a", "b"] {
                    let agent = sim.agent(name, Script::new().exit(1));
                    supervisors.push(start(&agent, limited(spawner(&agent), 2)).0);
                }
                for supervisor in &supervisors {
                    supervisor.wait().await.unwrap();
                }
            })
            .to_string()
    };
    let first = play();
    insta::assert_snapshot!(first, @r##"
    timeline v2  clock=virtual
    +0.000  a#1  start
    +0.000  a#1  note     "started"
    +0.000  a#1  note     "ready"
    +0.000  b#1  start
    +0.000  b#1  note     "started"
    +0.000  b#1  note     "ready"
    +0.000  a#1  exit     code=1
    +0.000  a#1  reap
    +0.000  a#1  note     "ended code=1"
    +0.000  a#1  note     "backing off 2s (attempt 0)"
    +0.000  b#1  exit     code=1
    +0.000  b#1  reap
    +0.000  b#1  note     "ended code=1"
    +0.000  b#1  note     "backing off 2s (attempt 0)"
    +2.000  a#2  start
    +0.000  a#2  note     "started"
    +0.000  a#2  note     "ready"
    +0.000  b#2  start
    +0.000  b#2  note     "started"
    +0.000  b#2  note     "ready"
    +0.000  a#2  exit     code=1
    +0.000  a#2  reap
    +0.000  a#2  note     "ended code=1"
    +0.000  a#2  note     "backing off 2s (attempt 1)"
    +0.000  b#2  exit     code=1
    +0.000  b#2  reap
    +0.000  b#2  note     "ended code=1"
    +0.000  b#2  note     "backing off 2s (attempt 1)"
    +2.000  a#3  start
    +0.000  a#3  note     "started"
    +0.000  a#3  note     "ready"
    +0.000  b#3  start
    +0.000  b#3  note     "started"
    +0.000  b#3  note     "ready"
    +0.000  a#3  exit     code=1
    +0.000  a#3  reap
    +0.000  a#3  note     "ended code=1"
    +0.000  a#3  note     "gave up after 2 restarts in a row: exit code 1"
    +0.000  b#3  exit     code=1
    +0.000  b#3  reap
    +0.000  b#3  note     "ended code=1"
    +0.000  b#3  note     "gave up after 2 restarts in a row: exit code 1"
    "##);
    for _ in 0..20 {
        assert_eq!(play(), first);
    }
}

#[test]
fn in_real_time_it_has_the_same_order() {
    let body = async |sim: SimHandle| {
        let worker = sim.agent("worker", Script::new().exit(1));
        let builder = limited(spawner(&worker), 1);
        let (supervisor, _) = start(
            &worker,
            builder.backoff(ConstantBackoff::new(Duration::ZERO)),
        );
        supervisor.wait().await.unwrap();
    };
    let words = |timeline: Timeline| -> Vec<String> {
        let events = timeline.events().iter();
        events
            .map(|event| format!("{} {}", event.who, event.what))
            .collect()
    };
    assert_eq!(
        words(Sim::builder().real_time().build().unwrap().run(body)),
        words(Sim::new().run(body))
    );
}

/// What the kernel said stands in the note, which is all that is left of the error.
#[test]
fn a_start_that_fails_names_the_kernels_reason() {
    let program = tempfile::NamedTempFile::new().unwrap();
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(program.path(), mode).unwrap();
    // It is open for writing all the time.
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let options = worker.spawner_options().agent_path(program.path());
        let (supervisor, _) = start(&worker, limited(options.build().unwrap(), 1));
        supervisor.wait().await.unwrap();
    });
    let text = timeline.to_string();
    let text = text.replace(program.path().to_str().unwrap(), "PROGRAM");
    insta::assert_snapshot!(text, @r##"
    timeline v2  clock=virtual
    +0.000  worker#1  note     "failed to start: cannot start `PROGRAM`: cannot execute it: Text file busy (os error 26)"
    +0.000  worker#1  note     "backing off 2s (attempt 0)"
    +2.000  worker#2  note     "failed to start: cannot start `PROGRAM`: cannot execute it: Text file busy (os error 26)"
    +0.000  worker#2  note     "gave up after 1 restart in a row: start failed"
    "##);
}

/// A program that is no agent is a run, too, and the watchdog says what it waits for.
#[test]
fn a_run_that_never_says_hello_is_named_by_the_watchdog() {
    let dir = tempfile::tempdir().unwrap();
    let sim = Sim::builder()
        .watchdog(Duration::from_millis(900))
        .build()
        .unwrap();
    let failure = sim.try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let spawner = wrapped(&worker, dir.path(), "exec sleep 1000")
            .build()
            .unwrap();
        let (supervisor, _) = start(&worker, limited(spawner, 1));
        supervisor.wait().await.unwrap();
    });
    let text = failure.unwrap_err().to_string();
    assert!(
        text.contains("worker#1 is running; it has not said hello"),
        "{text}"
    );
}
