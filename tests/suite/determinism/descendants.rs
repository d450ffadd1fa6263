//! What became of a process that an agent has started.

use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use supervise_harness::{Sim, SimHandle};
use tokio::time::{sleep, timeout};

use super::{Busy, Log, assert_same, spawn};

async fn a_descendant(sim: SimHandle, script: &str, log: Log) {
    let status = spawn(&sim, script, |_| {}).wait().await.unwrap();
    log.say(status.to_string());
}

#[test]
fn a_descendants_exit_code_is_told_each_time() {
    assert_same(30, async |sim, log| {
        let script = "start kid { run 1s; exit 3 }; run 2s; exit 0";
        a_descendant(sim, script, log).await;
    });
}

#[test]
fn a_descendants_exit_code_in_a_session_of_its_own_is_told_each_time() {
    assert_same(30, async |sim, log| {
        let script = "start kid own-session { run 1s; exit 3 }; run 2s; exit 0";
        a_descendant(sim, script, log).await;
    });
}

#[test]
fn a_descendants_death_by_a_signal_is_told_each_time() {
    assert_same(30, async |sim, log| {
        let script = "start kid { run 1s; die SIGKILL }; run 2s; exit 0";
        a_descendant(sim, script, log).await;
    });
}

/// The agent that is its parent has reaped it long before the end, so the code is known.
#[test]
fn a_descendants_exit_code_is_on_the_timeline() {
    for _ in 0..20 {
        let timeline = Sim::new().run(async |sim| {
            let script = "start kid { run 1s; exit 3 }; run 2s; exit 0";
            a_descendant(sim, script, Log::default()).await;
        });
        let text = timeline.to_string();
        let first = text.lines().find(|line| line.contains("exit"));
        assert!(first.unwrap().contains("code=3"), "{text}");
    }
}

/// Two groups, each with descendants that end by the signal, end later, or ignore it.
#[test]
fn two_signalled_groups_end_alike_each_time() {
    assert_same(15, async |sim, log| {
        for _ in 0..2 {
            let script = "start h1 { on SIGTERM { run 1s; exit 0 }; stay }; start h2 { stay }; \
                start h3 { on SIGTERM ignore; stay }; on SIGTERM { run 2s; exit 7 }; stay";
            let mut child = spawn(&sim, script, |command| {
                command.process_group(0);
            });
            sleep(Duration::from_secs(2)).await;
            let group = Pid::from_raw(child.id().unwrap().cast_signed());
            killpg(group, Signal::SIGTERM).unwrap();
            let ended = timeout(Duration::from_secs(4), child.wait()).await;
            log.say(format!("{ended:?}"));
            killpg(group, Signal::SIGKILL).unwrap();
            sleep(Duration::from_secs(1)).await;
        }
    });
}

/// By who started whom, and not by who was faster.
#[test]
fn what_is_left_behind_is_named_in_the_same_order_each_time() {
    let _busy = Busy::new();
    for _ in 0..20 {
        let failure = Sim::new().try_run(async |sim| {
            let helper = |name| {
                format!("start {name} double-fork {{ start below own-session {{ stay }}; stay }}")
            };
            let script = format!("{}; {}; run 1s; exit 0", helper("one"), helper("two"));
            let mut child = spawn(&sim, &script, |_| ());
            child.wait().await.unwrap();
        });
        let failure = failure.unwrap_err();
        let names = failure.leaks().iter().map(|leak| leak.split(':').next());
        let names: Vec<&str> = names.map(Option::unwrap).collect();
        let expected = ["one", "below", "two", "below"].map(|name| format!("worker#1/{name}"));
        assert_eq!(names, expected);
    }
}
