//! Sims in which nothing moves: the watchdog ends them and says what holds them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rstest::rstest;
use supervise_harness::{Script, Sim, SimHandle};
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::{assert_contains, is_there, seconds, short, short_real, stuck};

const HELD: &str = "the code under test holds the runtime's thread";

#[test]
fn waiting_for_an_agent_on_the_runtimes_thread() {
    let mut pid = 0;
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        let mut child = worker.command().spawn().unwrap();
        worker.started().await;
        // Time was allowed to pass before.
        sleep(seconds(1)).await;
        pid = child.id();
        child.wait().unwrap();
    }));
    assert_contains(&text, HELD);
    assert_contains(&text, "worker#1 is waiting");
    assert!(!is_there(pid));
}

/// Nobody has seen the agent yet when the thread is blocked.
#[test]
fn waiting_for_an_agent_on_the_runtimes_thread_from_the_start() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        worker.command().status().unwrap();
    }));
    assert_contains(&text, HELD);
    assert_contains(&text, "worker#1 is ");
}

#[test]
fn waiting_for_a_foreign_child_on_the_runtimes_thread() {
    let text = stuck(short().try_run(async |_| {
        let mut sleep = std::process::Command::new("/bin/sleep");
        sleep.arg("1000").status().unwrap();
    }));
    assert_contains(&text, HELD);
    assert_contains(
        &text,
        "a child that is no agent runs, and time waits for it: sleep",
    );
}

#[test]
fn what_the_body_makes_of_its_killed_agents_is_not_the_cause() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        let status = worker.command().status().unwrap();
        assert!(status.success(), "the worker failed");
    }));
    assert_contains(&text, HELD);
    assert_contains(
        &text,
        "when its agents were killed, it panicked: the worker failed",
    );
}

#[test]
fn waiting_for_an_agent_in_spawn_blocking() {
    let mut pid = 0;
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        let mut child = worker.command().spawn().unwrap();
        pid = child.id();
        tokio::task::spawn_blocking(move || child.wait())
            .await
            .unwrap()
            .unwrap();
    }));
    assert_contains(
        &text,
        "the next agent is due at 60.000s: a task in `spawn_blocking`",
    );
    assert_contains(&text, "worker#1 is waiting");
    assert!(!is_there(pid));
}

/// It holds tokio's clock, so that a timer may be pending that the sim does not see.
#[rstest]
#[case::alone(false)]
#[case::beside_a_timer(true)]
fn sleeping_in_spawn_blocking(#[case] has_timer: bool) {
    let text = stuck(short().try_run(async |_| {
        let (end, is_over) = std::sync::mpsc::channel::<()>();
        // real-time: until it is cut off, which lets go of the other end.
        let task = tokio::task::spawn_blocking(move || is_over.recv());
        if has_timer {
            let _ = tokio::time::timeout(seconds(1), task).await;
        } else {
            let _ = task.await;
        }
        drop(end);
    }));
    assert_contains(
        &text,
        "virtual time stands at 0.000s although everything waits: a task in `spawn_blocking` holds it",
    );
    assert!(!text.contains("no timer"), "{text}");
}

/// A task that is over holds nothing: its thread waits for the next.
#[test]
fn waiting_for_nothing_after_a_task_in_spawn_blocking() {
    let text = stuck(short().try_run(async |_| {
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        std::future::pending::<()>().await;
    }));
    assert_contains(&text, "no timer is pending");
}

/// Waits for an agent that does nothing until it is told to.
async fn wait_for_ever(sim: &SimHandle) {
    let worker = sim.agent("worker", Script::new());
    let mut command = Command::from(worker.command());
    let mut child = command.kill_on_drop(true).spawn().unwrap();
    child.wait().await.unwrap();
}

#[test]
fn waiting_for_what_never_comes() {
    let text = stuck(short().try_run(async |sim| {
        wait_for_ever(&sim).await;
    }));
    assert_contains(&text, "everything waits at 0.000s, and no timer is pending");
    assert_contains(
        &text,
        "worker#1 is waiting; it last said: it has done all that it was told",
    );
}

#[test]
fn waiting_for_what_never_comes_in_real_time() {
    let text = stuck(short_real().try_run(async |sim| {
        wait_for_ever(&sim).await;
    }));
    assert_contains(&text, "the code under test waits for what has not come");
    assert_contains(&text, "worker#1 is ");
}

#[test]
fn blocking_the_runtimes_thread_in_real_time() {
    let text = stuck(short_real().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        worker.command().status().unwrap();
    }));
    assert_contains(&text, HELD);
}

#[test]
fn a_loop_that_only_waits_for_time() {
    let text = stuck(short().try_run(async |_| {
        loop {
            sleep(seconds(1)).await;
        }
    }));
    assert_contains(&text, "virtual time passes, and is at ");
    assert_contains(&text, "waits for time alone, again and again");
}

#[test]
fn a_loop_that_never_rests() {
    let text = stuck(short().try_run(async |_| {
        loop {
            tokio::task::yield_now().await;
        }
    }));
    assert_contains(&text, "is at work all the time at 0.000s");
}

/// Its runtime comes to rest for every message.
#[test]
fn a_loop_that_only_talks_to_itself() {
    let text = stuck(short().try_run(async |_| {
        let (one, two) = tokio::net::UnixDatagram::pair().unwrap();
        let ask = async {
            loop {
                one.send(b"there").await.unwrap();
                one.recv(&mut [0; 8]).await.unwrap();
            }
        };
        let answer = async {
            loop {
                two.recv(&mut [0; 8]).await.unwrap();
                two.send(b"here").await.unwrap();
            }
        };
        tokio::select! {
            () = ask => (),
            () = answer => (),
        }
    }));
    assert_contains(
        &text,
        "the code under test is at work all the time at 0.000s",
    );
}

/// Once tokio listens for SIGCHLD, each wakes every runtime of the process.
#[test]
fn waiting_for_what_never_comes_where_signals_wake_it_for_nothing() {
    let path = "faults::stuck::waiting_for_what_never_comes_where_signals_wake_it_for_nothing";
    crate::child::run(path, || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let _listens = runtime.block_on(async { signal(SignalKind::child()).unwrap() });
        // The second is there before the runtime has come to rest again.
        for pause in [Some(Duration::from_millis(1)), None] {
            let is_over = AtomicBool::new(false);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    while !is_over.load(Ordering::Relaxed) {
                        nix::sys::signal::raise(nix::sys::signal::Signal::SIGCHLD).unwrap();
                        // real-time: so that each wakes it anew.
                        if let Some(pause) = pause {
                            std::thread::sleep(pause);
                        }
                    }
                });
                let ended = short().try_run(async |_| std::future::pending::<()>().await);
                is_over.store(true, Ordering::Relaxed);
                let text = stuck(ended);
                assert_contains(&text, "everything waits at 0.000s, and no timer is pending");
            });
        }
    });
}

/// What an agent waited for goes with it.
#[test]
fn waiting_for_what_never_comes_after_an_agent_was_killed_in_a_wait() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        let mut child = Command::from(worker.command()).spawn().unwrap();
        worker.started().await;
        sleep(seconds(5)).await;
        child.kill().await.unwrap();
        std::future::pending::<()>().await;
    }));
    assert_contains(&text, "everything waits at 5.000s, and no timer is pending");
}

#[test]
fn a_zombie_is_named() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().exit(3));
        std::mem::forget(worker.command().spawn().unwrap());
        worker.started().await;
        std::future::pending::<()>().await;
    }));
    assert_contains(&text, "worker#1 is a zombie that nobody has reaped");
}

/// They were there before the sim, which is held.
#[test]
fn children_of_the_thread_from_before_are_neither_named_nor_ended() {
    let mut older = std::process::Command::new("/bin/sleep")
        .arg("1000")
        .spawn()
        .unwrap();
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(60)).exit(0));
        worker.command().status().unwrap();
    }));
    let still_runs = older.try_wait().unwrap().is_none();
    older.kill().unwrap();
    older.wait().unwrap();
    assert!(still_runs);
    assert_contains(&text, HELD);
    assert!(!text.contains("no agent"), "{text}");
}

/// real-time: what the limit is of, and the sim takes longer.
#[test]
fn a_sim_in_which_something_moves_may_take_longer_than_the_limit() {
    let limit = Duration::from_secs(1);
    let sim = Sim::builder().watchdog(limit).build().unwrap();
    sim.run(async |sim| {
        let start = std::time::Instant::now();
        while start.elapsed() < limit + limit / 2 {
            std::thread::sleep(limit / 10);
            sim.note("here");
            sleep(seconds(1)).await;
        }
    });
}

#[test]
fn a_full_pipe_that_is_read_late_is_no_trouble() {
    let timeline = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().flood(1 << 20).exit(0));
            let child = Command::from(worker.command())
                .stdout(std::process::Stdio::piped())
                .spawn()
                .unwrap();
            sleep(seconds(5)).await;
            let output = child.wait_with_output().await.unwrap();
            assert_eq!(output.stdout.len(), 1 << 20);
        })
        .unwrap();
    assert_eq!(timeline.exits("worker").len(), 1);
}

#[test]
fn the_limit_is_in_the_text() {
    let limit = Duration::from_millis(300);
    let sim = Sim::builder().watchdog(limit).build().unwrap();
    let text = stuck(sim.try_run(async |_| std::future::pending::<()>().await));
    assert!(
        text.starts_with("the sim is stuck: nothing has moved for 300ms of real time\n"),
        "{text}"
    );
}

/// The watchdog kills the agents, and the body takes that for what it waits for. real-time: how long nothing moves.
#[test]
fn a_body_that_its_agents_end_lets_go_on_is_stuck_all_the_same() {
    let play = || {
        for _ in 0..10 {
            let limit = Duration::from_millis(200);
            let sim = Sim::builder().watchdog(limit).build().unwrap();
            stuck(sim.try_run(async |sim| {
                let worker = sim.agent("worker", Script::new().stay());
                Command::from(worker.command()).status().await.unwrap();
            }));
        }
    };
    std::thread::scope(|scope| {
        let plays: Vec<_> = (0..16).map(|_| scope.spawn(play)).collect();
        for play in plays {
            play.join().unwrap();
        }
    });
}
