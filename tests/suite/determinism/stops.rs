//! Agents that are stopped, and what comes together with the SIGCONT.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use supervise_harness::{Script, Sim, SimHandle};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::{Busy, Log, assert_same, spawn};

fn pid(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap())
}

/// What comes in the same turn may be there before the agent has gone on, or after.
#[rstest]
#[case::a_deadly_signal(Signal::SIGTERM)]
#[case::a_kill(Signal::SIGKILL)]
fn who_dies_as_it_goes_on_is_not_said_to_have_gone_on(#[case] signal: Signal) {
    let _busy = Busy::new();
    assert_same(20, async |sim: SimHandle, _| {
        let mut child = spawn(&sim, "run 1s; freeze", |_| {});
        sleep(Duration::from_secs(2)).await;
        kill(pid(&child), Signal::SIGCONT).unwrap();
        kill(pid(&child), signal).unwrap();
        child.wait().await.unwrap();
        let timeline = sim.timeline().to_string();
        assert!(timeline.contains("frozen") && !timeline.contains("thawed"));
    });
}

#[test]
fn who_is_stopped_as_it_goes_on_goes_on_once() {
    let _busy = Busy::new();
    assert_same(20, async |sim: SimHandle, log: Log| {
        let mut child = spawn(&sim, "run 1s; freeze; freeze; exit 3", |_| {});
        sleep(Duration::from_secs(2)).await;
        kill(pid(&child), Signal::SIGCONT).unwrap();
        kill(pid(&child), Signal::SIGSTOP).unwrap();
        sleep(Duration::from_secs(1)).await;
        log.say(sim.timeline().to_string());
        for _ in 0..2 {
            kill(pid(&child), Signal::SIGCONT).unwrap();
            let ended = timeout(Duration::from_secs(1), child.wait()).await;
            log.say(format!("{ended:?}"));
        }
        let timeline = sim.timeline().to_string();
        assert_eq!(timeline.matches("thawed").count(), 2, "{timeline}");
    });
}

/// Whose wait is over while it is stopped acts when it goes on, and no sooner.
#[test]
fn a_wait_that_is_over_while_stopped_ends_with_the_sigcont() {
    assert_same(20, async |sim: SimHandle, _| {
        let script = Script::new().run_for(Duration::from_secs(2)).exit(3);
        let agent = sim.agent("job", script);
        let mut child = Command::from(agent.command()).spawn().unwrap();
        agent.started().await;
        kill(pid(&child), Signal::SIGSTOP).unwrap();
        sleep(Duration::from_secs(9)).await;
        assert_eq!(child.try_wait().unwrap(), None);
        kill(pid(&child), Signal::SIGCONT).unwrap();
        assert_eq!(child.wait().await.unwrap().code(), Some(3));
        assert_eq!(sim.now().since_origin(), Duration::from_secs(9));
    });
}

/// It may have said hello by then, or not: when it starts is luck, since nobody awaits `started`.
#[test]
fn who_is_stopped_before_it_said_hello_says_it_when_it_goes_on() {
    for _ in 0..20 {
        Sim::new().run(async |sim| {
            let agent = sim.agent("job", Script::new().exit(3));
            let mut child = Command::from(agent.command()).spawn().unwrap();
            kill(pid(&child), Signal::SIGSTOP).unwrap();
            sleep(Duration::from_secs(1)).await;
            kill(pid(&child), Signal::SIGCONT).unwrap();
            assert_eq!(child.wait().await.unwrap().code(), Some(3));
            assert_eq!(sim.now().since_origin(), Duration::from_secs(1));
        });
    }
}
