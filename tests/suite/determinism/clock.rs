//! The clock of tokio, whoever turns it, and the order of what happens in one instant.

use std::collections::BTreeMap;
use std::time::Duration;

use supervise_harness::{Script, Sim, SimFailure, SimHandle, Timeline, Timestamp};
use tokio::process::Command;

use super::{Busy, outcomes, spawn};

/// The body is exact, the same each time, or it fails with a text that names the call.
fn is_exact_or_names(call: &str, runs: usize, ends: Duration, body: impl AsyncFn(SimHandle)) {
    let all = outcomes(runs, async |sim, _| body(sim).await);
    assert!(all.is_one(), "{all}");
    match Sim::new().try_run(async |sim| body(sim).await) {
        Ok(timeline) => {
            let exit = timeline.runs("worker")[0].exit;
            let exit = exit.map(Timestamp::since_origin);
            assert_eq!(exit, Some(ends), "{timeline}");
        }
        Err(failure) => assert!(names(&failure, call), "{failure}"),
    }
}

fn names(failure: &SimFailure, call: &str) -> bool {
    failure.to_string().contains(call)
}

/// `tokio::time::advance` is a call like any other: the child ends at 10 s.
#[test]
fn advance_moves_everybodys_time_or_is_refused_by_name() {
    let _busy = Busy::new();
    let ends = Duration::from_secs(10);
    is_exact_or_names("advance", 20, ends, async |sim| {
        let mut child = spawn(&sim, "run 10s; exit 2", |_| {});
        tokio::time::advance(ends / 2).await;
        sim.note("advanced");
        tokio::time::advance(ends / 2).await;
        sim.note("advanced again");
        child.wait().await.unwrap();
    });
}

/// The clock is the sim's: it does not run by itself, whoever asks.
#[test]
fn resume_does_not_make_the_clock_real_or_is_refused_by_name() {
    let ends = Duration::from_millis(100);
    is_exact_or_names("resume", 5, ends, async |sim| {
        tokio::time::resume();
        let mut child = spawn(&sim, "run 100ms; exit 2", |_| {});
        child.wait().await.unwrap();
    });
}

fn stopped(order: [&str; 2]) -> Timeline {
    Sim::new().run(async |sim| {
        let mut children = BTreeMap::new();
        for name in ["db", "web"] {
            let agent = sim.agent(name, Script::new().stay());
            let child = Command::from(agent.command()).spawn().unwrap();
            children.insert(name, child);
            agent.started().await;
        }
        // real-time: none; by the sim's clock.
        tokio::time::sleep(Duration::from_secs(60)).await;
        for name in order {
            children.get_mut(name).unwrap().kill().await.unwrap();
        }
    })
}

/// Each is down before the next is told, all within one instant.
#[test]
fn the_order_in_which_two_agents_were_stopped_is_on_the_timeline() {
    let web_first = stopped(["web", "db"]).to_string();
    let db_first = stopped(["db", "web"]).to_string();
    assert_ne!(web_first, db_first, "web before db, and db before web");
}
