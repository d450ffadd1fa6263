//! Sims beside each other, and beside threads that fork.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use supervise_harness::{Script, Signal, Sim};
use tokio::process::Command;
use tokio::time::sleep;

use super::seconds;

/// A small supervisor's run, as its timeline.
fn scenario() -> String {
    let timeline = Sim::new().run(async |sim| {
        let script = Script::runs(1, Script::new().run_for(seconds(60)).exit(1))
            .then(Script::runs(
                1,
                Script::new().run_for(seconds(5)).die_by(Signal::ABRT),
            ))
            .then(Script::new().ready().run_for(seconds(9)).exit(0));
        let worker = sim.agent("worker", script);
        for delay in [1, 2, 4] {
            let status = Command::from(worker.command()).status().await.unwrap();
            sim.note(status.success());
            sleep(seconds(delay)).await;
        }
    });
    timeline.to_string()
}

/// That many threads at once: every one gives what one alone gives.
fn sims_at_once(count: usize) {
    let alone = scenario();
    assert_eq!(alone.matches("reap").count(), 3, "{alone}");
    let together = Barrier::new(count);
    thread::scope(|scope| {
        let sims: Vec<_> = (0..count)
            .map(|_| {
                scope.spawn(|| {
                    together.wait();
                    scenario()
                })
            })
            .collect();
        for sim in sims {
            assert_eq!(sim.join().unwrap(), alone);
        }
    });
}

#[test]
fn twenty_sims_at_once_know_nothing_of_each_other() {
    sims_at_once(20);
}

#[test]
#[ignore = "slow"]
fn a_hundred_sims_at_once_know_nothing_of_each_other() {
    sims_at_once(100);
}

#[test]
fn a_thread_that_forks_all_the_time_changes_nothing() {
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let is_over = AtomicBool::new(false);
    let alone = scenario();
    thread::scope(|scope| {
        let _stop = Stop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::process::Command::new("/bin/true").status().unwrap();
            }
        });
        for _ in 0..5 {
            assert_eq!(scenario(), alone);
        }
    });
}
