//! Virtual time over real processes.

use std::time::Duration;

use supervise_harness::{Script, Signal, Sim, SimError, SimHandle, Timestamp};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use crate::child;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lines(timeline: &supervise_harness::Timeline) -> Vec<String> {
    let text = timeline.to_string();
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn an_hour_of_an_agent_passes_at_once() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(3600)).exit(3));
        let mut child = Command::from(worker.command()).spawn().unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        assert_eq!(sim.now(), Timestamp::ORIGIN + seconds(3600));
    });
    assert_eq!(
        lines(&timeline),
        [
            "timeline v2 clock=virtual",
            "+0.000 worker#1 start",
            "+3600.000 worker#1 exit code=3",
            "+0.000 worker#1 reap",
        ]
    );
}

/// A supervisor that knows nothing of the harness.
async fn supervise(sim: SimHandle, name: &'static str, script: Script) {
    let agent = sim.agent(name, script);
    for round in 0..4 {
        let mut child = Command::from(agent.command()).spawn().unwrap();
        if round < 2 {
            child.wait().await.unwrap();
        } else {
            sleep(seconds(60)).await;
            let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
            nix::sys::signal::kill(pid, nix::sys::signal::SIGTERM).unwrap();
            if timeout(seconds(10), child.wait()).await.is_err() {
                agent.note("the grace is over");
                child.kill().await.unwrap();
            }
        }
        sleep(seconds(30 << round)).await;
    }
}

fn all_ends() -> Script {
    Script::runs(1, Script::new().run_for(seconds(3600)).exit(1))
        .then(Script::runs(
            1,
            Script::new().run_for(seconds(1)).die_by(Signal::ABRT),
        ))
        .then(Script::runs(
            1,
            Script::new()
                .on(Signal::TERM, Script::new().run_for(seconds(3)).exit(0))
                .stay(),
        ))
        .then(
            Script::new()
                .on(Signal::TERM, Script::new().run_for(seconds(30)).exit(0))
                .stay(),
        )
}

#[test]
fn two_agents_with_every_kind_of_end_give_the_same_timeline_every_time() {
    let run = || {
        Sim::new()
            .run(async |sim| {
                let a = tokio::task::spawn_local(supervise(sim.clone(), "a", all_ends()));
                let b = tokio::task::spawn_local(supervise(sim.clone(), "b", all_ends()));
                a.await.unwrap();
                b.await.unwrap();
            })
            .to_string()
    };
    let first = run();
    println!("{first}");
    for _ in 0..40 {
        assert_eq!(run(), first);
    }
}

#[test]
fn children_from_before_the_sim_are_none_of_its_business() {
    let mut older = std::process::Command::new(supervise_harness::stub::path().unwrap())
        .args(["--script", "forever { }"])
        .spawn()
        .unwrap();
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(9)).exit(0));
        Command::from(worker.command()).status().await.unwrap();
    });
    let still_runs = older.try_wait().unwrap().is_none();
    older.kill().unwrap();
    older.wait().unwrap();
    assert!(still_runs);
    assert_eq!(timeline.starts("worker"), 1);
}

#[test]
fn a_failure_names_the_seed_that_the_body_asked_for() {
    let sim = Sim::builder().seed(7).build().unwrap();
    let told = sim.clone().try_run(async |sim| Err::<(), _>(sim.seed()));
    assert_eq!(
        told.unwrap_err().to_string(),
        "the body of the sim failed: 7\nreplay    SUPERVISE_SEED=7"
    );
    let not_asked = sim.try_run(async |_| Err::<(), _>("on fire"));
    let text = not_asked.unwrap_err().to_string();
    assert_eq!(text, "the body of the sim failed: \"on fire\"");
}

#[test]
fn a_sim_without_a_watchdog_is_refused() {
    let built = Sim::builder().watchdog(Duration::ZERO).build();
    assert_eq!(built.unwrap_err(), SimError::ZeroWatchdog);
}

#[test]
fn the_environment_is_read_and_its_mistakes_are_reported() {
    const PATH: &str = "sim::the_environment_is_read_and_its_mistakes_are_reported";
    if child::is_child(PATH) {
        match Sim::builder().build() {
            Ok(sim) => sim.run(async |sim| println!("seed {}", sim.seed())),
            Err(error) => panic!("{error}"),
        };
        return;
    }
    let said = |name, value| {
        let output = child::command(PATH).env(name, value).output().unwrap();
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8_lossy(&output.stderr)
    };
    for (name, value, expected) in [
        ("SUPERVISE_SEED", "9", "seed 9\n"),
        (
            "SUPERVISE_SEED",
            "x",
            "SUPERVISE_SEED is `x`: expected a number from 0 to 2^64-1",
        ),
        (
            "SUPERVISE_WATCHDOG",
            "0",
            "SUPERVISE_WATCHDOG is `0`: expected a number of seconds above zero",
        ),
        (
            "SUPERVISE_SED",
            "9",
            "supervise-harness: SUPERVISE_SED means nothing: expected one of SUPERVISE_AGENT_CLOCK,",
        ),
    ] {
        let text = said(name, value);
        assert!(text.contains(expected), "{name}={value}: {text}");
    }
}

#[test]
fn a_sim_may_have_more_runs_than_there_are_descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    crate::child::run(
        "sim::a_sim_may_have_more_runs_than_there_are_descriptors",
        || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
            let timeline = Sim::new().run(async |sim| {
                let worker = sim.agent("worker", Script::new().run_for(seconds(1)).exit(0));
                for _ in 0..100 {
                    Command::from(worker.command()).status().await.unwrap();
                }
            });
            assert_eq!(timeline.starts("worker"), 100);
        },
    );
}

#[test]
fn a_pipe_ends_with_its_processes_whatever_other_sims_fork() {
    let read_to_the_end = || {
        Sim::new().run(async |sim| {
            let script = Script::new().run_for(seconds(1)).write("said").exit(0);
            let worker = sim.agent("worker", script);
            for run in 1..=20 {
                let before = sim.now();
                // Where the pipe did not end with the process, time would go on to this.
                let later = tokio::spawn(sleep(seconds(3600)));
                let output = Command::from(worker.command()).output().await.unwrap();
                assert_eq!(output.stdout, b"said");
                assert_eq!(sim.now() - before, seconds(1), "run {run}");
                later.abort();
            }
        })
    };
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(read_to_the_end);
        }
    });
}

// real-time: what is not the harness's child and no agent would hold up virtual time.
#[test]
fn how_a_run_ended_is_known_before_somebody_else_has_reaped_it() {
    for (script, status) in [
        (Script::new().exit(7), "code=7"),
        (Script::new().die_by(Signal::USR1), "signal=SIGUSR1"),
    ] {
        let sim = Sim::builder().real_time().build().unwrap();
        let timeline = sim.run(async |sim| {
            let worker = sim.agent("worker", script);
            let mut command = Command::new("sh");
            command.args(["-c", "\"$@\" & exec sleep 60", "sh"]);
            command.arg(worker.program()).args(worker.args());
            let mut sleep = command.kill_on_drop(true).spawn().unwrap();
            worker.started().await.ended().await;
            sleep.kill().await.unwrap();
        });
        let text = timeline.to_string();
        assert!(text.contains(&format!("exit     {status}")), "{text}");
    }
}
