//! Code under test that misbehaves, and code that does it in unusual ways.

use std::time::Duration;

use supervise_harness::{Script, Signal, Sim};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::{assert_contains, lines, seconds, short, spawn};
use crate::child;

fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

/// How far it gets before it is killed is the kernel's choice, and the timeline does not show it.
#[test]
fn an_agent_that_is_killed_in_the_turn_in_which_it_was_started_has_no_run() {
    for round in 0..60 {
        let timeline = Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            let mut child = worker.command().spawn().unwrap();
            for _ in 0..round * 1000 {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            // Time passes over the zombie.
            sleep(seconds(1)).await;
            child.wait().unwrap();
        });
        assert_eq!(lines(&timeline), [""; 0], "round {round}");
    }
}

/// Whoever misses the run is told why.
#[test]
fn the_text_of_a_failure_says_that_an_agent_was_killed_before_it_said_hello() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            for _ in 0..20 {
                let mut child = worker.command().spawn().unwrap();
                // It is through its exec.
                while !std::fs::read_to_string(format!("/proc/{}/comm", child.id()))
                    .unwrap()
                    .starts_with("agent-stub")
                {
                    std::hint::spin_loop();
                }
                child.kill().unwrap();
                sleep(seconds(1)).await;
                child.wait().unwrap();
            }
            assert_eq!(sim.timeline().starts("worker"), 20);
        })
        .unwrap_err();
    assert_contains(
        &failure.to_string(),
        "processes that ran the agents' program were ended before the sim knew whose runs those were, so that the \
         timeline lacks them. To have a run in the timeline, wait for `Agent::started` before you end it",
    );
}

#[test]
fn a_stub_that_is_no_agent_is_no_lost_one() {
    let timeline = Sim::new().run(async |_| {
        let program = supervise_harness::stub::path().unwrap();
        let mut child = Command::new(program)
            .args(["--script", "exit 3"])
            .spawn()
            .unwrap();
        child.wait().await.unwrap();
    });
    assert_eq!(timeline.findings(), [""; 0]);
}

#[test]
fn a_kill_of_the_wrong_agent_shows_in_the_timeline() {
    let timeline = Sim::new().run(async |sim| {
        let (a, b) = (sim.agent("a", Script::new()), sim.agent("b", Script::new()));
        let (mut one, mut two) = (spawn(&a), spawn(&b));
        a.started().await;
        b.started().await;
        sleep(seconds(5)).await;
        // Meant for a.
        kill(two.id().unwrap(), nix::sys::signal::SIGTERM);
        two.wait().await.unwrap();
        sleep(seconds(5)).await;
        one.kill().await.unwrap();
    });
    assert_eq!(
        lines(&timeline)[2..],
        [
            "+5.000 b#1 exit signal=SIGTERM",
            "+0.000 b#1 reap",
            "+5.000 a#1 exit signal=SIGKILL",
            "+0.000 a#1 reap",
        ]
    );
}

#[test]
fn an_agent_needs_neither_the_environment_nor_the_directory() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
        let mut command = Command::from(worker.command());
        let status = command.env_clear().current_dir("/").status().await.unwrap();
        assert_eq!(status.code(), Some(1));
        assert_eq!(sim.now().since_origin(), seconds(7));
    });
    assert_eq!(timeline.starts("worker"), 1);
}

#[test]
fn the_directory_may_change_in_the_middle_of_a_sim() {
    child::run(
        "faults::subjects::the_directory_may_change_in_the_middle_of_a_sim",
        || {
            let timeline = Sim::new().run(async |sim| {
                let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
                std::env::set_current_dir("/").unwrap();
                spawn(&worker).wait().await.unwrap();
            });
            assert_eq!(timeline.starts("worker"), 1);
        },
    );
}

/// The harness's own descriptors go too. What follows from that may be anything but a hang.
#[test]
fn code_that_closes_every_descriptor_ends_its_sim() {
    const PATH: &str = "faults::subjects::code_that_closes_every_descriptor_ends_its_sim";
    if child::is_child(PATH) {
        let result = short().try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
            let mut child = spawn(&worker);
            worker.started().await;
            for descriptor in 3..256 {
                // SAFETY: this is what the test is about; it ends this process soon.
                unsafe { nix::libc::close(descriptor) };
            }
            child.wait().await.map(|_| ())
        });
        println!("ended: {}", result.is_ok());
        std::process::exit(7);
    }
    let output = child::command(PATH).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn time_waits_for_a_child_that_is_no_agent() {
    let timeline = Sim::new()
        .try_run(async |sim| {
            let mut child = Command::new("/bin/sleep").arg("0.05").spawn().unwrap();
            // Under tokio's paused clock alone this would be over at once.
            let ended = timeout(seconds(5), child.wait()).await;
            assert!(ended.is_ok_and(|status| status.is_ok_and(|status| status.success())));
            assert_eq!(sim.now().since_origin(), Duration::ZERO);
        })
        .unwrap();
    assert_eq!(timeline.events().len(), 0);
}

#[test]
fn an_agent_that_is_frozen_from_outside_can_be_killed() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().count(Signal::TERM).stay());
        let mut child = spawn(&worker);
        worker.started().await;
        let pid = child.id().unwrap();
        kill(pid, nix::sys::signal::SIGSTOP);
        sleep(seconds(5)).await;
        kill(pid, nix::sys::signal::SIGTERM);
        assert!(timeout(seconds(10), child.wait()).await.is_err());
        child.kill().await.unwrap();
    });
    assert_eq!(
        lines(&timeline),
        [
            "+0.000 worker#1 start",
            "+15.000 worker#1 exit signal=SIGKILL",
            "+0.000 worker#1 reap",
        ]
    );
}

#[test]
fn a_supervisor_that_polls_sees_the_end_at_its_next_look_every_time() {
    let run = || {
        let timeline = Sim::new().run(async |sim| {
            let script = Script::new().run_for(Duration::from_millis(12_345)).exit(1);
            let worker = sim.agent("worker", script);
            for _ in 0..2 {
                let mut child = worker.command().spawn().unwrap();
                while child.try_wait().unwrap().is_none() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        });
        lines(&timeline)
    };
    let first = run();
    assert_eq!(
        first,
        [
            "+0.000 worker#1 start",
            "+12.345 worker#1 exit code=1",
            "+0.055 worker#1 reap",
            "+0.000 worker#2 start",
            "+12.345 worker#2 exit code=1",
            "+0.055 worker#2 reap",
        ]
    );
    for _ in 0..3 {
        assert_eq!(run(), first);
    }
}
