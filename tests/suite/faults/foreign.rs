//! Children that are no agents: whose they are when a sim ends, and how time waits for them.

use std::time::Duration;

use rstest::rstest;
use supervise_harness::{Script, Sim};
use tokio::process::Command;
use tokio::time::sleep;

use super::{assert_contains, is_there, seconds, short, stuck};
use crate::child;

/// Starts a process that never ends by itself, and is no agent. Nobody waits for it.
fn start_foreign() -> u32 {
    let child = std::process::Command::new("/bin/sleep").arg("1000").spawn();
    child.unwrap().id()
}

#[rstest]
#[case::of_the_runtimes_thread(false)]
#[case::of_spawn_blocking(true)]
fn a_child_that_is_no_agent_is_left_behind_and_ended(#[case] is_blocking: bool) {
    let mut pid = 0;
    let failure = Sim::new()
        .try_run(async |_| {
            pid = match is_blocking {
                true => tokio::task::spawn_blocking(start_foreign).await.unwrap(),
                false => start_foreign(),
            };
        })
        .unwrap_err();
    assert_eq!(failure.leaks().len(), 1, "{failure}");
    assert_contains(&failure.leaks()[0], "sleep, running, child of this process");
    assert!(!is_there(pid));
}

/// It goes on when its child is killed, and is not waited for.
#[test]
fn a_child_that_a_task_in_spawn_blocking_waits_for_is_left_behind_and_ended() {
    let (tell, told) = std::sync::mpsc::channel();
    let failure = Sim::new()
        .try_run(async |_| {
            let (begin, begun) = tokio::sync::oneshot::channel();
            tokio::task::spawn_blocking(move || {
                let mut child = std::process::Command::new("/bin/sleep")
                    .arg("1000")
                    .spawn()
                    .unwrap();
                begin.send(child.id()).unwrap();
                // It may have been reaped for it.
                let _ = child.wait();
                tell.send(()).unwrap();
            });
            begun.await.unwrap();
        })
        .unwrap_err();
    assert_eq!(failure.leaks().len(), 1, "{failure}");
    assert_contains(&failure.leaks()[0], "sleep, running, child of this process");
    told.recv().unwrap();
}

/// A thread that the body starts is the sim's, and so is what that starts, wherever it goes.
#[rstest]
#[case::its_child("exec sleep 1000")]
#[case::an_orphan_in_a_session_of_its_own("setsid sleep 1000 &")]
fn what_a_thread_of_its_own_has_started_is_left_behind_and_ended(#[case] script: &'static str) {
    let failure = Sim::new()
        .try_run(async |_| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", script]);
            // The sim reaps what is left.
            #[allow(clippy::zombie_processes)]
            let start = move || {
                let mut shell = shell.spawn().unwrap();
                // The orphan's shell ends by itself.
                if script.starts_with("setsid") {
                    shell.wait().unwrap();
                }
            };
            let thread = std::thread::spawn(start);
            tokio::task::spawn_blocking(move || thread.join().unwrap())
                .await
                .unwrap();
        })
        .unwrap_err();
    assert_eq!(failure.leaks().len(), 1, "{failure}");
}

#[test]
fn the_end_of_a_sim_leaves_alone_what_another_has_started() {
    let mut pid = 0;
    let failure = Sim::new()
        .try_run(async |sim| {
            pid = tokio::task::spawn_blocking(start_foreign).await.unwrap();
            let worker = sim.agent("worker", Script::new().stay());
            let mut child = Command::from(worker.command()).spawn().unwrap();
            let run = worker.started().await;
            let other = std::thread::spawn(|| {
                let failure = Sim::new().try_run(async |_| {
                    tokio::task::spawn_blocking(start_foreign).await.unwrap();
                });
                failure.unwrap_err().leaks().len()
            });
            assert_eq!(other.join().unwrap(), 1);
            assert!(run.is_alive() && is_there(pid));
            child.kill().await.unwrap();
        })
        .unwrap_err();
    assert_eq!(failure.leaks().len(), 1, "{failure}");
    assert!(!is_there(pid));
}

/// Its mark is given to no other, however many there are.
#[test]
fn a_thread_that_outlives_its_sim_is_no_later_sims() {
    let path = "faults::foreign::a_thread_that_outlives_its_sim_is_no_later_sims";
    child::run(path, || {
        let (tell, told) = std::sync::mpsc::channel::<()>();
        let mut thread = None;
        Sim::new().run(async |_| {
            thread = Some(std::thread::spawn(move || {
                // Its sim is over by then.
                told.recv().unwrap();
                wait_for_events(&told);
            }));
        });
        tell.send(()).unwrap();
        // More than there are marks.
        for _ in 0..1100 {
            // A thread that waits for events of its own would be named.
            Sim::new().run(async |_| sleep(seconds(1)).await);
        }
        drop(tell);
        thread.unwrap().join().unwrap();
    });
}

/// As the thread of a runtime does, until the other end of the channel is gone.
fn wait_for_events(told: &std::sync::mpsc::Receiver<()>) {
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollTimeout};
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let is_over = || told.try_recv() == Err(std::sync::mpsc::TryRecvError::Disconnected);
    while !is_over() {
        let mut events = [nix::sys::epoll::EpollEvent::empty()];
        epoll.wait(&mut events, EpollTimeout::from(10_u8)).unwrap();
    }
}

#[test]
fn waiting_for_a_foreign_child_in_spawn_blocking() {
    let text = stuck(short().try_run(async |_| {
        let wait = || {
            std::process::Command::new("/bin/sleep")
                .arg("1000")
                .status()
        };
        tokio::task::spawn_blocking(wait).await.unwrap().unwrap();
    }));
    assert_contains(
        &text,
        "a child that is no agent runs, and time waits for it: sleep",
    );
}

/// What is no agent has no virtual time, and takes as long as it takes.
#[test]
fn code_that_starts_one_foreign_child_after_the_other_is_not_stuck() {
    let limit = Duration::from_millis(500);
    let sim = Sim::builder().watchdog(limit).build().unwrap();
    sim.run(async |_| {
        let begun = std::time::Instant::now();
        // real-time: three times the limit, in which each child takes a few milliseconds.
        while begun.elapsed() < limit * 3 {
            assert!(Command::new("true").status().await.unwrap().success());
        }
    });
}

#[test]
fn waiting_for_a_foreign_child_of_a_thread() {
    let text = stuck(short().try_run(async |_| {
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let status = std::process::Command::new("/bin/sleep")
                .arg("1000")
                .status();
            let _ = tell.send(status);
        });
        let _ = told.await;
    }));
    assert_contains(
        &text,
        "a child that is no agent runs, and time waits for it: sleep",
    );
}

#[test]
fn what_a_shell_waits_for_is_named_with_what_it_is_at() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().stay());
        let worker = worker.command();
        let mut shell = Command::new("sh");
        shell.args(["-c", "\"$@\" & sleep 1000; exit 0", "sh"]);
        shell.arg(worker.get_program()).args(worker.get_args());
        let variables = worker
            .get_envs()
            .filter_map(|(key, value)| Some((key, value?)));
        shell.envs(variables).status().await.unwrap();
    }));
    let line = "a child that is no agent runs, and time waits for it: sh, and below it sleep, which waits in nanosleep(2)";
    assert_contains(&text, line);
}

#[test]
fn waiting_for_a_foreign_process_that_lost_its_parent() {
    let text = stuck(short().try_run(async |_| {
        let mut shell = Command::new("sh");
        let mut shell = shell
            .args(["-c", "setsid sleep 1000 & exit 0"])
            .spawn()
            .unwrap();
        shell.wait().await.unwrap();
        tokio::time::sleep(seconds(1)).await;
    }));
    assert_contains(
        &text,
        "a child that is no agent runs, and time waits for it: sleep",
    );
}

#[test]
fn a_foreign_child_that_never_ends() {
    let mut pid = None;
    let text = stuck(short().try_run(async |_| {
        let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        pid = child.id();
        child.wait().await.unwrap();
    }));
    assert_contains(
        &text,
        "a child that is no agent runs, and time waits for it: sleep",
    );
    assert!(!is_there(pid.unwrap()));
}
