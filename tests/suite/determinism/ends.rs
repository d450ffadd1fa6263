//! What the code under test ends in one turn, and what it finds of that.

use std::os::fd::AsRawFd;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use supervise_harness::{Script, Sim, SimHandle};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Duration, Instant, sleep, timeout};

use super::{Busy, Log, assert_same, outcomes, spawn};

/// Two agents that stay, and the process ids of both.
async fn two(sim: &SimHandle) -> ([Child; 2], [Pid; 2]) {
    let children = ["a", "b"].map(|name| {
        let agent = sim.agent(name, Script::new().stay());
        let mut command = Command::from(agent.command());
        command.kill_on_drop(true).spawn().unwrap()
    });
    sleep(Duration::from_secs(1)).await;
    let pids = [&children[0], &children[1]].map(pid_of);
    (children, pids)
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap())
}

/// Has a task wait for each: whoever is woken first says so first.
fn wait_for(children: [Child; 2], log: &Log) -> [JoinHandle<()>; 2] {
    let mut children = ["a", "b"].into_iter().zip(children);
    [(); 2].map(|()| {
        let (name, mut child) = children.next().unwrap();
        let log = log.clone();
        spawn_local(async move {
            child.wait().await.unwrap();
            log.say(name);
        })
    })
}

/// The other one first.
fn kill_both([a, b]: [Pid; 2]) {
    kill(b, Signal::SIGKILL).unwrap();
    kill(a, Signal::SIGKILL).unwrap();
}

/// By the agents, and not by who was killed first.
async fn assert_in_order(waits: [JoinHandle<()>; 2], log: &Log) {
    for wait in waits {
        wait.await.unwrap();
    }
    assert_eq!(*log.0.borrow(), ["a", "b"]);
}

#[test]
fn ends_are_found_in_the_order_of_the_agents() {
    let _busy = Busy::new();
    assert_same(20, async |sim, log| {
        let (children, pids) = two(&sim).await;
        let waits = wait_for(children, &log);
        sleep(Duration::from_secs(1)).await;
        kill_both(pids);
        assert_in_order(waits, &log).await;
    });
}

/// The body is woken while tasks run, so that tokio looks for events without coming to rest.
#[test]
fn a_body_that_a_task_wakes_finds_ends_in_the_order_of_the_agents() {
    let _busy = Busy::new();
    assert_same(30, async |sim, log| {
        let (children, pids) = two(&sim).await;
        let waits = wait_for(children, &log);
        let (tell, told) = oneshot::channel();
        tokio::spawn(async move {
            sleep(Duration::from_secs(1)).await;
            kill_both(pids);
            tell.send(()).unwrap();
        });
        told.await.unwrap();
        assert_in_order(waits, &log).await;
    });
}

#[test]
fn a_body_that_yields_finds_ends_in_the_order_of_the_agents() {
    let _busy = Busy::new();
    assert_same(30, async |sim, log| {
        let (children, pids) = two(&sim).await;
        let waits = wait_for(children, &log);
        sleep(Duration::from_secs(1)).await;
        kill_both(pids);
        assert_in_order(waits, &log).await;
    });
}

/// What is no agent, and was not there when the body had its turn.
#[test]
fn ends_of_what_the_body_started_in_the_same_turn_are_there_when_its_tasks_have_theirs() {
    let _busy = Busy::new();
    assert_same(30, async |_, log| {
        sleep(Duration::from_secs(1)).await;
        let sleeps = [(); 2].map(|()| Command::new("/bin/sleep").arg("1000").spawn().unwrap());
        kill_both([&sleeps[0], &sleeps[1]].map(pid_of));
        let found = tokio::spawn(async move { sleeps.map(|mut sleep| sleep.try_wait().unwrap()) });
        log.say(format!("{:?}", found.await.unwrap()));
    });
}

/// Before that turn nobody has looked for events.
#[test]
fn ends_in_the_bodys_first_turn_are_found_in_the_order_of_their_starts() {
    let _busy = Busy::new();
    assert_same(30, async |_, log| {
        let sleeps = [(); 2].map(|()| Command::new("/bin/sleep").arg("1000").spawn().unwrap());
        let pids = [&sleeps[0], &sleeps[1]].map(pid_of);
        let waits = wait_for(sleeps, &log);
        // Each wait has begun when this task has its turn.
        let ends = spawn_local(async move { kill_both(pids) });
        ends.await.unwrap();
        assert_in_order(waits, &log).await;
    });
}

/// One by the body, and one by a task that runs after it, before tokio looks for events.
#[test]
fn ends_that_two_tasks_cause_are_found_in_the_order_of_the_agents() {
    let _busy = Busy::new();
    assert_same(30, async |sim, log| {
        let (children, [a, b]) = two(&sim).await;
        let waits = wait_for(children, &log);
        sleep(Duration::from_secs(1)).await;
        tokio::spawn(async move { kill(a, Signal::SIGKILL).unwrap() });
        kill(b, Signal::SIGKILL).unwrap();
        assert_in_order(waits, &log).await;
    });
}

/// Tokio tries to reap a child that is dropped, once; it may be dead by then, or not.
#[test]
fn a_child_that_is_killed_as_it_is_dropped_is_reaped_in_the_next_turn_each_time() {
    let _busy = Busy::new();
    assert_same(30, async |sim, _| {
        let ([a, b], pids) = two(&sim).await;
        kill_both(pids);
        drop(a);
        sim.note("a is dropped");
        drop(b);
        sim.note("b is dropped");
        sleep(Duration::from_secs(1)).await;
    });
}

/// A frozen stub has a guard, a process of its own that ends with it. It is no leak, also while it ends.
#[test]
fn a_frozen_agent_that_is_left_behind_is_named_without_its_guard() {
    let _busy = Busy::new();
    let outcomes = outcomes(40, async |sim, _| {
        let mut child = spawn(&sim, "freeze", |_| {});
        let _ = tokio::time::timeout(Duration::from_secs(1), child.wait()).await;
    });
    assert!(outcomes.is_one(), "{outcomes}");
}

/// The runtimes of a process find a signal by one pipe, and whichever looks first tells the tasks of all.
#[test]
fn a_listener_to_sigchld_hears_of_an_end_at_once_beside_other_sims() {
    let play = || {
        for _ in 0..60 {
            Sim::new().run(async |sim| {
                let mut ends = signal(SignalKind::child()).unwrap();
                let script = Script::new().run_for(Duration::from_secs(1)).exit(0);
                let mut child = sim.agent("job", script).command().spawn().unwrap();
                while child.try_wait().unwrap().is_none() {
                    let _ = timeout(Duration::from_secs(3600), ends.recv()).await;
                }
                assert_eq!(sim.now().since_origin(), Duration::from_secs(1));
            });
        }
    };
    std::thread::scope(|scope| {
        let plays: Vec<_> = (0..3).map(|_| scope.spawn(play)).collect();
        for play in plays {
            play.join().unwrap();
        }
    });
}

/// Its kill comes from the drop of the task, when the body has returned.
#[rstest]
#[case::on_the_local_set(true)]
#[case::on_the_runtime(false)]
fn what_a_task_still_holds_at_the_end_is_killed_and_is_no_leak(#[case] is_local: bool) {
    for is_busy in [false, true] {
        let _busy = is_busy.then(Busy::new);
        assert_same(30, async |sim: SimHandle, _| {
            let agent = sim.agent("a", Script::new().stay());
            let mut command = Command::from(agent.command());
            let mut child = command.kill_on_drop(true).spawn().unwrap();
            let wait = async move { drop(child.wait().await) };
            if is_local {
                drop(spawn_local(wait));
            } else {
                drop(tokio::spawn(wait));
            }
            sleep(Duration::from_secs(1)).await;
        });
    }
}

/// Its kill comes from the unwinding: whether it has ended by then changes nothing.
#[test]
fn what_a_panicked_body_held_is_killed_and_is_no_leak() {
    for is_busy in [false, true] {
        let _busy = is_busy.then(Busy::new);
        let outcomes = outcomes(30, async |sim: SimHandle, _| {
            let _both = two(&sim).await;
            let mut other = Command::new("sleep");
            let _other = other.arg("600").kill_on_drop(true).spawn().unwrap();
            panic!("no matter why");
        });
        assert!(outcomes.is_one(), "{outcomes}");
        assert_eq!(outcomes.failed(), 30, "{outcomes}");
        assert!(!outcomes.to_string().contains("left behind"), "{outcomes}");
    }
}

/// And what had ended before, and nobody reaped, is one as it was.
#[test]
fn what_a_task_let_die_unreaped_is_a_leak_all_the_same() {
    let outcomes = outcomes(10, async |sim: SimHandle, _| {
        let agent = sim.agent("a", Script::new().exit(1));
        let mut command = agent.command();
        let child = command.spawn().unwrap();
        spawn_local(async move {
            let _child = child;
            std::future::pending::<()>().await;
        });
        sleep(Duration::from_secs(1)).await;
    });
    assert!(outcomes.is_one(), "{outcomes}");
    assert_eq!(outcomes.failed(), 10, "{outcomes}");
}

/// Who writes there is woken by the close, and acts before anybody else does.
#[test]
fn a_writer_ends_at_the_instant_at_which_another_agent_closes_its_pipe() {
    for is_busy in [false, true] {
        let _busy = is_busy.then(Busy::new);
        assert_same(30, async |sim: SimHandle, _| {
            let writer = sim.agent("a", Script::new().then_do("write 1MiB; exit 0").unwrap());
            let mut writer = Command::from(writer.command());
            let mut writer = writer.stdout(Stdio::piped()).spawn().unwrap();
            let output: Stdio = writer.stdout.take().unwrap().try_into().unwrap();
            let closing = "run 3s; close stdin; run 1s; exit 2";
            let reader = sim.agent("b", Script::new().then_do(closing).unwrap());
            let mut command = Command::from(reader.command());
            let mut reader = command.stdin(output).spawn().unwrap();
            // It holds the end to read from, too.
            drop(command);
            let begun = Instant::now();
            writer.wait().await.unwrap();
            assert_eq!(begun.elapsed(), Duration::from_secs(3));
            reader.wait().await.unwrap();
            assert_eq!(begun.elapsed(), Duration::from_secs(4));
        });
    }
}

/// Tokio's drop reaps at once what has ended by then, which nobody but its output tells then. By the descriptors, which
/// are mostly in the order of the starts: more is not known of who had no time to say hello.
#[test]
fn what_is_dropped_in_the_turn_in_which_it_was_started_is_found_in_one_order() {
    let run = std::cell::Cell::new(0);
    assert_same(60, async |sim: SimHandle, log| {
        run.set(run.get() + 1);
        let how_many_have_ended = run.get() % 3;
        let mut children = ["a", "b"].map(|name| {
            let agent = sim.agent(name, Script::new().stay());
            let mut command = Command::from(agent.command());
            command.stdout(Stdio::piped()).kill_on_drop(true);
            command.spawn().unwrap()
        });
        // Another thread may have held a lower descriptor when the first was started.
        children.sort_by_key(|child| child.stdout.as_ref().map(AsRawFd::as_raw_fd));
        let readers = [0, 1].map(|index: usize| {
            let mut output = children[index].stdout.take().unwrap();
            let log = log.clone();
            spawn_local(async move {
                output.read_to_end(&mut Vec::new()).await.unwrap();
                log.say(["first", "second"][index]);
            })
        });
        for (before, child) in children.into_iter().rev().enumerate() {
            kill(pid_of(&child), Signal::SIGKILL).unwrap();
            while before < how_many_have_ended && !has_ended(pid_of(&child)) {}
            drop(child);
        }
        for reader in readers {
            reader.await.unwrap();
        }
        assert_eq!(*log.0.borrow(), ["first", "second"]);
    });
}

/// Whether a child is one that nobody has reaped yet.
fn has_ended(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.starts_with('Z')
}
