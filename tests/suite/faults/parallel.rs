//! Sims beside each other, and beside threads that fork.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex};
use std::thread;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supervise_harness::{Script, Signal, Sim, Timeline};
use tokio::process::Command;
use tokio::time::sleep;

use super::seconds;
use crate::child;

/// Where threads wait for each other, or for one that fails and never comes.
struct Meeting {
    missing: Mutex<u64>,
    changed: Condvar,
}

impl Meeting {
    fn of(count: u64) -> Meeting {
        Meeting {
            missing: Mutex::new(count),
            changed: Condvar::new(),
        }
    }

    fn wait(&self) {
        let mut missing = self.missing.lock().unwrap();
        *missing = missing.saturating_sub(1);
        self.changed.notify_all();
        drop(
            self.changed
                .wait_while(missing, |missing| *missing > 0)
                .unwrap(),
        );
    }

    /// Nobody waits any longer when this is dropped in a panic.
    fn leave(&self) -> impl Drop {
        struct Leave<'a>(&'a Meeting);
        impl Drop for Leave<'_> {
            fn drop(&mut self) {
                if thread::panicking() {
                    *self.0.missing.lock().unwrap() = 0;
                    self.0.changed.notify_all();
                }
            }
        }
        Leave(self)
    }
}

/// A small supervisor's run, unlike that of any other number: two agents side by side, one of which is
/// started again. Meets the others, where there are any, when its first two processes live.
fn scenario(number: u64, others: Option<&Meeting>) -> Timeline {
    Sim::new().run(async |sim| {
        let script = Script::runs(1, Script::new().run_for(seconds(60 + number)).exit(1)).then(
            Script::new()
                .ready()
                .run_for(seconds(9))
                .die_by(Signal::ABRT),
        );
        let worker = sim.agent(&format!("worker-{number}"), script);
        let helper = sim.agent(&format!("helper-{number}"), Script::new().stay());
        let mut help = Command::from(helper.command()).spawn().unwrap();
        let mut work = Command::from(worker.command()).spawn().unwrap();
        helper.started().await;
        worker.started().await;
        if let Some(others) = others {
            others.wait();
        }
        for delay in [1, 2] {
            let status = work.wait().await.unwrap();
            worker.note(status);
            sleep(seconds(delay)).await;
            if delay == 1 {
                work = Command::from(worker.command()).spawn().unwrap();
            }
        }
        help.kill().await.unwrap();
    })
}

/// That many sims on threads of their own, all with processes that live at once: each timeline is the
/// one of the same sim alone, and has nothing of another's.
fn sims_at_once(count: u64) {
    let together = Meeting::of(count);
    let timelines: Vec<Timeline> = thread::scope(|scope| {
        let sims: Vec<_> = (0..count)
            .map(|number| {
                let together = &together;
                scope.spawn(move || {
                    let _leave = together.leave();
                    scenario(number, Some(together))
                })
            })
            .collect();
        sims.into_iter().map(|sim| sim.join().unwrap()).collect()
    });
    for (number, timeline) in (0..count).zip(timelines) {
        let names = [format!("worker-{number}"), format!("helper-{number}")];
        for event in timeline.events() {
            let who = event.who.to_string();
            assert!(
                names
                    .iter()
                    .any(|name| who.starts_with(&format!("{name}#"))),
                "{timeline}"
            );
        }
        assert_eq!(timeline.starts(&names[0]), 2, "{timeline}");
        assert_eq!(timeline.to_string(), scenario(number, None).to_string());
    }
}

/// In a process of its own, which may have more descriptors than is usual: a sim with two processes
/// takes eighteen.
#[test]
fn a_hundred_sims_at_once_know_nothing_of_each_other() {
    child::run(
        "faults::parallel::a_hundred_sims_at_once_know_nothing_of_each_other",
        || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            assert!(
                hard >= 2000,
                "the most descriptors that this process may have: {hard}"
            );
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
            sims_at_once(100);
        },
    );
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
    let alone = scenario(0, None).to_string();
    thread::scope(|scope| {
        let _stop = Stop(&is_over);
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                std::process::Command::new("/bin/true").status().unwrap();
            }
        });
        for _ in 0..5 {
            assert_eq!(scenario(0, None).to_string(), alone);
        }
    });
}
