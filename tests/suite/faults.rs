//! What goes wrong in a sim: misbehaving agents, misbehaving code under test, and what then is said.
//!
//! A body's sleep is a step of virtual time, and takes none. In the bodies that run in real time too
//! (`hand`) a sleep says `real-time:` and why.

mod agents;
mod blind;
mod bodies;
mod bounds;
mod calls;
mod fake;
mod foreign;
mod hand;
mod left_behind;
mod parallel;
mod said;
mod scripts;
mod stuck;
mod subjects;
mod texts;
mod threads;

use std::time::Duration;

use supervise_harness::{Agent, Sim, SimFailure, Timeline};
use tokio::process::{Child, Command};

/// real-time: how long nothing moves before the watchdog ends a sim that is stuck for ever anyhow.
const LIMIT: Duration = Duration::from_millis(900);

/// A sim that is ended soon after it got stuck.
fn short() -> Sim {
    Sim::builder().watchdog(LIMIT).build().unwrap()
}

/// As [`short`], in real time.
fn short_real() -> Sim {
    Sim::builder().watchdog(LIMIT).real_time().build().unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The lines of a timeline, single-spaced, without its header.
fn lines(timeline: &Timeline) -> Vec<String> {
    let text = timeline.to_string();
    text.lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

/// The text of a failure, which must be the watchdog's.
#[track_caller]
fn stuck(result: Result<Timeline, SimFailure>) -> String {
    let failure = result.expect_err("a sim that is stuck");
    assert!(failure.is_stuck(), "{failure}");
    failure.to_string()
}

#[track_caller]
fn assert_contains(text: &str, part: &str) {
    assert!(text.contains(part), "expected {part:?} in:\n{text}");
}

/// Starts the agent. It goes on when the child is dropped.
fn spawn(agent: &Agent) -> Child {
    Command::from(agent.command()).spawn().unwrap()
}

/// Whether that process is still there, a zombie included.
fn is_there(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}
