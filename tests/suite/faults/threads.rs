//! Code under test that starts agents, waits for them or reaps them on other threads.

use std::time::Duration;

use rstest::rstest;
use supervise_harness::{Script, Sim};
use tokio::time::{sleep, timeout};

use super::{lines, seconds, short};

/// It is reaped by a thread that may be busy elsewhere for a moment.
#[test]
fn an_agent_that_another_thread_reaps_is_reaped_when_it_ends_every_time() {
    for _ in 0..10 {
        let timeline = Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
            let mut child = worker.command().spawn().unwrap();
            let reaper = std::thread::spawn(move || child.wait().unwrap());
            worker.started().await.ended().await;
            while !reaper.is_finished() {
                sleep(Duration::from_millis(1)).await;
            }
        });
        assert_eq!(
            lines(&timeline),
            [
                "+0.000 worker#1 start",
                "+7.000 worker#1 exit code=1",
                "+0.000 worker#1 reap",
            ]
        );
    }
}

#[test]
fn time_waits_for_an_agent_that_another_thread_has_forked_and_not_yet_started() {
    use std::io::{Read, Write};
    use std::os::unix::process::CommandExt;
    let (mut forked, told) = std::io::pipe().unwrap();
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().exit(0));
        let mut command = worker.command();
        let start = move || {
            let mut told = told;
            let wait = move || {
                told.write_all(b".")?;
                // real-time: an exec that takes long, and less than time waits for it.
                std::thread::sleep(Duration::from_millis(30));
                Ok(())
            };
            // SAFETY: it only writes to a pipe and sleeps.
            unsafe { command.pre_exec(wait) };
            command.status().unwrap();
        };
        let thread = std::thread::spawn(start);
        forked.read_exact(&mut [0]).unwrap();
        assert!(timeout(seconds(1), worker.started()).await.is_ok());
        thread.join().unwrap();
    });
    assert_eq!(lines(&timeline)[0], "+0.000 worker#1 start");
}

#[test]
fn a_zombie_of_another_thread_does_not_hold_time() {
    let (release, hold) = std::sync::mpsc::channel();
    let (tell, told) = std::sync::mpsc::channel();
    let other = std::thread::spawn(move || {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let mut child = std::process::Command::new("/bin/true").spawn().unwrap();
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        tell.send(()).unwrap();
        hold.recv().unwrap();
        child.wait().unwrap();
    });
    told.recv().unwrap();
    let result = short().try_run(async |_| sleep(seconds(60)).await);
    release.send(()).unwrap();
    other.join().unwrap();
    result.unwrap();
}

#[derive(Clone, Copy)]
enum Way {
    Thread,
    Blocking,
}

#[rstest]
#[case::a_thread(Way::Thread)]
#[case::spawn_blocking(Way::Blocking)]
fn agents_that_another_thread_starts_give_the_same_timeline_every_time(#[case] way: Way) {
    let run = || {
        let timeline = Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
            for _ in 0..3 {
                let start = {
                    let worker = worker.clone();
                    move || worker.command().spawn().unwrap()
                };
                let mut child = match way {
                    Way::Blocking => tokio::task::spawn_blocking(start).await.unwrap(),
                    Way::Thread => std::thread::spawn(start).join().unwrap(),
                };
                while child.try_wait().unwrap().is_none() {
                    sleep(seconds(2)).await;
                }
            }
        });
        timeline.to_string()
    };
    let first = run();
    assert_eq!(first.matches("exit").count(), 3, "{first}");
    for _ in 0..5 {
        assert_eq!(run(), first);
    }
}

/// The runtime rests already when the agent comes, and nothing else wakes it.
#[rstest]
#[case::a_thread(Way::Thread)]
#[case::spawn_blocking(Way::Blocking)]
fn an_agent_that_another_thread_waits_for_is_welcomed(#[case] way: Way) {
    for _ in 0..20 {
        let timeline = Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new().exit(1));
            let task = move || worker.command().status().unwrap().code();
            let code = match way {
                Way::Blocking => tokio::task::spawn_blocking(task).await.unwrap(),
                Way::Thread => {
                    let (tell, told) = tokio::sync::oneshot::channel();
                    let thread = std::thread::spawn(move || tell.send(task()).unwrap());
                    let code = told.await.unwrap();
                    thread.join().unwrap();
                    code
                }
            };
            assert_eq!(code, Some(1));
        });
        assert_eq!(timeline.starts("worker"), 1);
    }
}
