//! What a failed sim says, word for word.

use supervise_harness::{Script, Sim, SimFailure};
use tokio::process::Command;

use super::{seconds, short};

/// The text with process ids, the program's own path and the sim's address replaced, and without what these tests
/// have inherited: a shell has its background jobs ignore two signals.
fn plain(failure: &SimFailure) -> String {
    let text = failure.to_string();
    let own = |line| match str::split_once(line, "; it ignores ") {
        Some((before, after)) if after.ends_with(", as its parent does") => before,
        _ => line,
    };
    let text = text.lines().map(own).collect::<Vec<_>>().join("\n");
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let is_pid = words.last().is_some_and(|last| last.ends_with("process"));
        words.push(match word {
            _ if is_pid && word.bytes().all(|b| b.is_ascii_digit()) => "PID".to_owned(),
            _ if word.starts_with("@supervise-") => "ADDRESS".to_owned(),
            _ => word.to_owned(),
        });
    }
    words.join(" ")
}

#[test]
fn stuck_with_a_full_pipe() {
    let failure = short()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().flood(1 << 20).exit(0));
            let mut child = Command::from(worker.command())
                .stdout(std::process::Stdio::piped())
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            child.wait().await.unwrap();
        })
        .unwrap_err();
    insta::assert_snapshot!(plain(&failure));
}

#[test]
fn stuck_in_spawn_blocking() {
    let failure = short()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
            tokio::task::spawn_blocking(move || worker.command().status())
                .await
                .unwrap()
                .unwrap();
        })
        .unwrap_err();
    insta::assert_snapshot!(plain(&failure));
}

#[test]
fn stuck_on_the_runtimes_thread() {
    let failure = short()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
            worker.command().status().unwrap();
        })
        .unwrap_err();
    // How far the agent had come when it was looked at is chance.
    let text = plain(&failure);
    let (cause, _) = text.split_once("\n  worker#1 is ").unwrap();
    insta::assert_snapshot!(cause);
}

#[test]
fn left_behind() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let idle = sim.agent("idle", Script::new());
            let over = sim.agent("over", Script::new().exit(3));
            for agent in [&idle, &over] {
                std::mem::forget(agent.command().spawn().unwrap());
            }
            idle.started().await;
            over.started().await.ended().await;
        })
        .unwrap_err();
    insta::assert_snapshot!(plain(&failure));
}

#[test]
fn an_error_of_the_body() {
    let failure = Sim::new()
        .try_run(async |_| "forty".parse::<u8>().map(|_| ()))
        .unwrap_err();
    insta::assert_snapshot!(plain(&failure));
}

#[test]
fn a_panic_of_the_body_comes_before_what_is_left_behind() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            std::mem::forget(worker.command().spawn().unwrap());
            worker.started().await;
            assert_eq!(1, 2, "the test's own words");
        })
        .unwrap_err();
    insta::assert_snapshot!(plain(&failure));
}
