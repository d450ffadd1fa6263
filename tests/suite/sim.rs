//! Virtual time over real processes.

use std::time::Duration;

use supervise_harness::{Script, Signal, Sim, SimHandle, Timestamp};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

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
            "timeline v1 clock=virtual",
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
