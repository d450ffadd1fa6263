//! Threads of the code under test, and those that several sims share.

use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use supervise_harness::{Script, Sim, SimHandle};
use tokio::sync::{mpsc::unbounded_channel, oneshot};
use tokio::time::{interval, timeout};

use super::{Busy, Log, assert_same};

/// Each run's reap comes before the next one's start.
#[test]
fn a_thread_that_restarts_reaps_before_it_starts() {
    let _busy = Busy::new();
    assert_same(8, async |sim: SimHandle, log: Log| {
        let script = Script::new().run_for(Duration::from_secs(1)).exit(1);
        let agent = sim.agent("job", script);
        let (tell, mut told) = unbounded_channel();
        thread::spawn(move || {
            for run in 0..6 {
                let status = agent.command().spawn().unwrap().wait().unwrap();
                tell.send((run, status)).unwrap();
            }
        });
        let mut tick = interval(Duration::from_millis(500));
        loop {
            tokio::select! { biased;
                status = told.recv() => match status {
                    Some(status) => log.say(format!("{status:?}")),
                    None => break,
                },
                _ = tick.tick() => log.say("tick"),
            }
        }
        let timeline = sim.timeline().to_string();
        let acts = timeline.lines().filter_map(|line| {
            let act = line.split_whitespace().nth(2)?;
            ["start", "exit", "reap"].contains(&act).then_some(act)
        });
        let acts: Vec<&str> = acts.collect();
        assert_eq!(acts, ["start", "exit", "reap"].repeat(6), "{timeline}");
    });
}

type Job = Box<dyn FnOnce() + Send>;

/// A pool that a sim makes, and all later ones use.
fn share(job: Job) {
    static POOL: LazyLock<Mutex<Sender<Job>>> = LazyLock::new(|| {
        let (sender, jobs) = channel::<Job>();
        let jobs = Arc::new(Mutex::new(jobs));
        let work = move || {
            loop {
                let job = jobs.lock().unwrap().recv();
                let Ok(job) = job else { return };
                job();
            }
        };
        let make = async |_| {
            for _ in 0..4 {
                thread::spawn(work.clone());
            }
        };
        let first = thread::scope(|scope| scope.spawn(|| Sim::new().run(make)).join());
        first.unwrap();
        Mutex::new(sender)
    });
    POOL.lock().unwrap().send(job).unwrap();
}

/// real-time: what a thread works takes time.
fn work() {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(3) {
        std::hint::spin_loop();
    }
}

#[test]
fn what_a_pool_of_all_sims_works_is_waited_for() {
    let _busy = Busy::new();
    assert_same(8, async |sim: SimHandle, log: Log| {
        for _ in 0..3 {
            let (tell, told) = oneshot::channel();
            share(Box::new(move || {
                work();
                tell.send(7).unwrap();
            }));
            let told = timeout(Duration::from_secs(100), told).await;
            log.say(format!("{told:?}"));
        }
        assert_eq!(sim.now().since_origin(), Duration::ZERO);
    });
}

#[test]
fn what_a_pool_of_all_sims_reads_is_waited_for() {
    assert_same(10, async |sim: SimHandle, log: Log| {
        let script = Script::new()
            .then_do("run 1s; write \"x\"; exit 1")
            .unwrap();
        let agent = sim.agent("job", script);
        for _ in 0..3 {
            let mut command: Command = agent.command();
            command.stdout(Stdio::piped());
            let (tell, told) = oneshot::channel();
            share(Box::new(move || {
                work();
                tell.send(command.output().unwrap().stdout).unwrap();
            }));
            log.say(format!(
                "{:?}",
                timeout(Duration::from_secs(100), told).await
            ));
        }
        assert_eq!(sim.now().since_origin(), Duration::from_secs(3));
    });
}
