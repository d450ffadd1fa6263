//! The same sim, run again and again: each run prints the same timeline, and the code under test sees
//! the same, in the same order.

mod clock;
mod descendants;
mod ends;
mod others;
mod reactions;
mod reading;
mod scenarios;
mod shells;
mod sockets;
mod stops;
mod threads;

#[path = "../../fixtures/generated/mod.rs"]
mod generated;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use supervise_harness::{Script, Sim, SimHandle};
use tokio::process::{Child, Command};

use generated::Outcomes;

/// What the code under test has seen, in its order.
#[derive(Clone, Default)]
struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    fn say(&self, text: impl Into<String>) {
        self.0.borrow_mut().push(text.into());
    }

    fn lines(&self) -> Vec<String> {
        self.0.borrow().clone()
    }
}

/// Starts a worker that does what the script says, in the stub's grammar.
fn spawn(sim: &SimHandle, script: &str, change: impl FnOnce(&mut Command)) -> Child {
    let agent = sim.agent("worker", Script::new().then_do(script).unwrap());
    let mut command = Command::from(agent.command());
    change(&mut command);
    command.spawn().unwrap()
}

fn outcomes(runs: usize, body: impl AsyncFn(SimHandle, Log)) -> Outcomes {
    let mut outcomes = Outcomes::default();
    for _ in 0..runs {
        let log = Log::default();
        let result = Sim::new().try_run(async |sim| body(sim, log.clone()).await);
        outcomes.add(&result, log.0.borrow().join("\n"));
    }
    outcomes
}

#[track_caller]
fn assert_same(runs: usize, body: impl AsyncFn(SimHandle, Log)) {
    let outcomes = outcomes(runs, body);
    assert!(outcomes.is_one(), "{outcomes}");
    assert_eq!(outcomes.failed(), 0, "{outcomes}");
}

/// Threads that keep the cores busy until this is dropped: what else is at work changes nothing.
struct Busy(Arc<AtomicBool>);

impl Busy {
    fn new() -> Busy {
        let is_over = Arc::new(AtomicBool::new(false));
        for _ in 0..std::thread::available_parallelism().unwrap().get() {
            let is_over = Arc::clone(&is_over);
            std::thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        Busy(is_over)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
