//! Threads and shells that hear of what one agent did, and do something to another: the cause stands before its
//! effect.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use rstest::rstest;
use supervise_harness::{Agent, Script, SimHandle};
use tokio::sync::oneshot;

use super::shells::{filled, shell, words};
use super::{Busy, Log, assert_same};

/// `who what` of what happened after the start, but for the lines about reaps.
fn acts(sim: &SimHandle) -> Vec<String> {
    let timeline = sim.timeline().to_string();
    let acts = timeline.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let (who, what) = (words.next()?, words.next()?);
        (!["start", "reap"].contains(&what)).then(|| format!("{who} {what}"))
    });
    acts.collect()
}

/// A worker that has the first place, and ends by nothing but a signal; and one that ends after a second.
fn worker_and_clock(sim: &SimHandle) -> (Agent, Agent) {
    let worker = sim.agent("worker", Script::new().stay());
    let clock = Script::new().run_for(Duration::from_secs(1)).exit(0);
    (worker, sim.agent("clock", clock))
}

/// Does it on a thread, and waits for that.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || drop(tell.send(work())));
    told.await.unwrap()
}

#[test]
fn a_thread_that_hears_of_an_end_and_kills_another_does_so_after_it() {
    let _busy = Busy::new();
    assert_same(30, async |sim: SimHandle, log: Log| {
        let (worker, clock) = worker_and_clock(&sim);
        let ends = on_a_thread(move || {
            let mut worker = worker.command().spawn().unwrap();
            let ended = clock.command().spawn().unwrap().wait().unwrap();
            worker.kill().unwrap();
            (ended, worker.wait().unwrap())
        });
        log.say(format!("{:?}", ends.await));
        assert_eq!(acts(&sim), ["clock#1 exit", "worker#1 exit"]);
    });
}

#[test]
fn a_thread_that_hears_of_an_end_and_asks_another_to_stop_does_so_after_it() {
    let _busy = Busy::new();
    assert_same(20, async |sim: SimHandle, log: Log| {
        let (_, clock) = worker_and_clock(&sim);
        let worker = Script::new().then_do("on SIGTERM { write \"bye\\n\"; exit 3 }; stay");
        let worker = sim.agent("worker", worker.unwrap());
        let ends = on_a_thread(move || {
            let mut worker = worker.command().spawn().unwrap();
            let ended = clock.command().spawn().unwrap().wait().unwrap();
            send(&worker, nix::sys::signal::Signal::SIGTERM);
            (ended, worker.wait().unwrap())
        });
        log.say(format!("{:?}", ends.await));
        let after = ["worker#1 signal", "worker#1 wrote", "worker#1 exit"];
        assert_eq!(acts(&sim)[0], "clock#1 exit");
        assert_eq!(acts(&sim)[1..], after);
    });
}

/// The writer has no time to say that it wrote.
#[rstest]
#[case::a_line("write \"ready\\n\"; stay")]
#[case::a_line_of_a_page("write 4096B; stay")]
#[case::a_line_and_an_end("write \"ready\\n\"; exit 0")]
fn who_is_killed_for_what_it_wrote_wrote_it(#[case] script: &'static str) {
    let _busy = Busy::new();
    assert_same(40, async |sim: SimHandle, log: Log| {
        let script = format!("run 1s; {script}");
        let writer = sim.agent("writer", Script::new().then_do(&script).unwrap());
        let other = sim.agent("another", Script::new().stay());
        let end = on_a_thread(move || {
            let mut other = other.command().spawn().unwrap();
            let mut command = writer.command();
            let mut writer = command.stdout(Stdio::piped()).spawn().unwrap();
            let mut line = String::new();
            let mut output = BufReader::new(writer.stdout.take().unwrap());
            output.read_line(&mut line).unwrap();
            writer.kill().unwrap();
            writer.wait().unwrap();
            other.kill().unwrap();
            other.wait().unwrap();
            line.len()
        });
        log.say(format!("{:?}", end.await));
        let acts = acts(&sim);
        assert_eq!(acts[0], "writer#1 wrote");
        assert_eq!(acts.len(), 3, "{acts:?}");
    });
}

#[rstest]
#[case::killed("A & w=$!; B; kill -9 $w; wait $w")]
#[case::asked("A & w=$!; B; kill $w; wait $w")]
#[case::and_another_before("B & b=$!; A & w=$!; wait $b; kill -9 $w; wait $w")]
fn a_shell_that_hears_of_an_end_and_kills_another_does_so_after_it(#[case] text: &str) {
    let _busy = Busy::new();
    assert_same(20, async |sim: SimHandle, log: Log| {
        let (worker, clock) = worker_and_clock(&sim);
        let text = filled(text, &[('A', &words(&worker)), ('B', &words(&clock))]);
        log.say(format!("{}", shell(&text).status().await.unwrap()));
        assert_eq!(acts(&sim), ["clock#1 exit", "worker#1 exit"]);
    });
}

fn send(child: &Child, signal: nix::sys::signal::Signal) {
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, signal).unwrap();
}

/// One that starts the next on a thread, as a supervisor without tokio does.
#[test]
fn a_thread_that_starts_one_when_another_has_ended_starts_it_after_that() {
    let _busy = Busy::new();
    assert_same(20, async |sim: SimHandle, log: Log| {
        let (_, clock) = worker_and_clock(&sim);
        let worker = sim.agent("worker", Script::new().exit(3));
        let ends = on_a_thread(move || {
            let ended = clock.command().spawn().unwrap().wait().unwrap();
            (ended, worker.command().status().unwrap())
        });
        log.say(format!("{:?}", ends.await));
        assert_eq!(acts(&sim), ["clock#1 exit", "worker#1 exit"]);
    });
}

/// As a supervisor that has threads does it where one end ends all: longer work than one act, and starts behind it.
#[rstest]
#[case::from_the_first([0, 1, 2])]
#[case::from_the_last([2, 1, 0])]
fn a_thread_that_restarts_all_when_one_has_ended_does_it_in_one_step(#[case] order: [usize; 3]) {
    let _busy = Busy::new();
    assert_same(25, async |sim: SimHandle, log: Log| {
        let name = |place: usize| ["x", "y", "z"][place];
        let script = |place| match place == order[0] {
            true => Script::new().run_for(Duration::from_secs(2)).exit(1),
            false => Script::new().stay(),
        };
        let agents: Vec<Agent> = (0..3)
            .map(|place| sim.agent(name(place), script(place)))
            .collect();
        let ends = on_a_thread(move || {
            let mut ends = Vec::new();
            for _ in 0..3 {
                let start = |agent: &Agent| agent.command().spawn().unwrap();
                let mut all: Vec<Child> = agents.iter().map(start).collect();
                ends.push(all[order[0]].wait().unwrap());
                for place in &order[1..] {
                    all[*place].kill().unwrap();
                    ends.push(all[*place].wait().unwrap());
                }
            }
            ends
        });
        log.say(format!("{:?}", ends.await));
        assert_eq!(acts(&sim).len(), 9);
    });
}
