//! Code under test that misbehaves, and code that does it in unusual ways.

use std::time::Duration;

use rstest::rstest;
use supervise_harness::stub::script::Placement;
use supervise_harness::{Agent, Script, Signal, Sim};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use super::{assert_contains, fake, is_there, lines, seconds, short};
use crate::child;

fn spawn(agent: &Agent) -> tokio::process::Child {
    Command::from(agent.command()).spawn().unwrap()
}

fn kill(pid: u32, signal: nix::sys::signal::Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid.cast_signed()), signal).unwrap();
}

#[test]
fn a_zombie_that_is_never_reaped_is_left_behind_and_time_goes_on() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(1)).exit(3));
            let child = worker.command().spawn().unwrap();
            sleep(seconds(60)).await;
            std::mem::forget(child);
        })
        .unwrap_err();
    assert_contains(&failure.to_string(), "worker#1: process ");
    assert_contains(&failure.to_string(), "zombie (exit code 3)");
    assert_eq!(failure.leaks().len(), 1);
    assert_eq!(
        lines(failure.timeline().unwrap()),
        ["+0.000 worker#1 start", "+1.000 worker#1 exit code=3"]
    );
}

#[test]
fn a_child_that_is_left_running_is_left_behind_and_ended() {
    let mut pid = 0;
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().stay());
            std::mem::forget(worker.command().spawn().unwrap());
            pid = worker.started().await.pid();
        })
        .unwrap_err();
    assert_contains(
        &failure.to_string(),
        "running, child of this process, which should have ended it; killed by the guard",
    );
    assert!(!is_there(pid));
}

#[test]
fn a_child_that_may_be_left_running_is_ended_and_fails_nothing() {
    let mut pid = 0;
    let mut body = async |sim: supervise_harness::SimHandle| {
        let worker = sim.agent("worker", Script::new().stay());
        std::mem::forget(worker.command().spawn().unwrap());
        pid = worker.started().await.pid();
    };
    let lenient = || Sim::builder().allow_leaks().build().unwrap();
    lenient().run(&mut body);
    assert!(!is_there(pid));
    let failure = lenient()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().stay());
            std::mem::forget(worker.command().spawn().unwrap());
            worker.started().await;
            Err::<(), _>("of the body")
        })
        .unwrap_err();
    assert_eq!(
        failure.to_string(),
        "the body of the sim failed: \"of the body\"\n\
         timeline v2  clock=virtual\n\
         +0.000  worker#1  start"
    );
    assert_eq!(failure.leaks(), [""; 0]);
}

/// The sim has only seen the shell, which is gone.
#[test]
fn an_agent_that_a_shell_left_in_the_background_before_it_said_hello_is_ended() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            let agent = fake::agent(&fake::address(&worker), &["freeze"]);
            let mut shell = Command::new("/bin/sh");
            shell
                // real-time: so long that the sim has seen it.
                .args(["-c", "\"$@\" & sleep 0.1", "sh"])
                .arg(agent.get_program());
            shell.args(agent.get_args());
            for (name, value) in agent.get_envs() {
                shell.env(name, value.unwrap());
            }
            assert!(shell.status().await.unwrap().success());
        })
        .unwrap_err();
    assert_eq!(failure.leaks().len(), 1, "{failure}");
    assert_contains(&failure.leaks()[0], "orphan");
}

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

#[test]
fn an_orphan_is_left_behind_and_ended() {
    let mut pids = Vec::new();
    let failure = Sim::new()
        .try_run(async |sim| {
            let helper = Script::new().stay();
            let script = Script::new()
                .start("helper", Placement::DoubleFork, helper)
                .run_for(seconds(1))
                .exit(0);
            let worker = sim.agent("worker", script);
            let mut child = spawn(&worker);
            pids.push(child.id().unwrap());
            child.wait().await.unwrap();
            sleep(seconds(1)).await;
        })
        .unwrap_err();
    assert_eq!(failure.leaks().len(), 1, "{failure}");
    assert_contains(&failure.leaks()[0], "worker#1/helper: process ");
    // Its session was that of a process that nobody knows.
    let expected = ", orphan: its parent has ended; killed by the guard";
    assert_contains(&failure.leaks()[0], expected);
    assert!(!is_there(pids[0]));
}

#[test]
fn an_orphan_of_an_agent_s_group_names_the_run() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let helper = Script::new().stay();
            let script = Script::new().start("helper", Placement::SameGroup, helper);
            let worker = sim.agent("worker", script.run_for(seconds(1)).exit(0));
            let mut command = Command::from(worker.command());
            command.process_group(0).status().await.unwrap();
        })
        .unwrap_err();
    assert_eq!(failure.leaks().len(), 1, "{failure}");
    let expected =
        "orphan: its parent has ended; its process group or session is that of worker#1;";
    assert_contains(&failure.leaks()[0], expected);
}

/// How far it gets before it is killed is the kernel's choice, and the timeline does not show it.
#[test]
fn an_agent_that_is_killed_in_the_turn_in_which_it_was_started_has_no_run() {
    for round in 0..60 {
        let timeline = Sim::new().run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            let mut child = worker.command().spawn().unwrap();
            for _ in 0..round * 1000 {
                std::hint::spin_loop();
            }
            child.kill().unwrap();
            // Time passes over the zombie.
            sleep(seconds(1)).await;
            child.wait().unwrap();
        });
        assert_eq!(lines(&timeline), [""; 0], "round {round}");
    }
}

/// Whoever misses the run is told why.
#[test]
fn the_text_of_a_failure_says_that_an_agent_was_killed_before_it_said_hello() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            for _ in 0..20 {
                let mut child = worker.command().spawn().unwrap();
                // It is through its exec.
                while !std::fs::read_to_string(format!("/proc/{}/comm", child.id()))
                    .unwrap()
                    .starts_with("agent-stub")
                {
                    std::hint::spin_loop();
                }
                child.kill().unwrap();
                sleep(seconds(1)).await;
                child.wait().unwrap();
            }
            assert_eq!(sim.timeline().starts("worker"), 20);
        })
        .unwrap_err();
    assert_contains(
        &failure.to_string(),
        "processes that ran the agents' program were ended before the sim knew whose runs those were, so that the \
         timeline lacks them. To have a run in the timeline, wait for `Agent::started` before you end it",
    );
}

#[test]
fn a_stub_that_is_no_agent_is_no_lost_one() {
    let timeline = Sim::new().run(async |_| {
        let program = supervise_harness::stub::path().unwrap();
        let mut child = Command::new(program)
            .args(["--script", "exit 3"])
            .spawn()
            .unwrap();
        child.wait().await.unwrap();
    });
    assert_eq!(timeline.findings(), [""; 0]);
}

#[test]
fn a_kill_of_the_wrong_agent_shows_in_the_timeline() {
    let timeline = Sim::new().run(async |sim| {
        let (a, b) = (sim.agent("a", Script::new()), sim.agent("b", Script::new()));
        let (mut one, mut two) = (spawn(&a), spawn(&b));
        a.started().await;
        b.started().await;
        sleep(seconds(5)).await;
        // Meant for a.
        kill(two.id().unwrap(), nix::sys::signal::SIGTERM);
        two.wait().await.unwrap();
        sleep(seconds(5)).await;
        one.kill().await.unwrap();
    });
    assert_eq!(
        lines(&timeline)[2..],
        [
            "+5.000 b#1 exit signal=SIGTERM",
            "+0.000 b#1 reap",
            "+5.000 a#1 exit signal=SIGKILL",
            "+0.000 a#1 reap",
        ]
    );
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

#[test]
fn an_agent_needs_neither_the_environment_nor_the_directory() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
        let mut command = Command::from(worker.command());
        let status = command.env_clear().current_dir("/").status().await.unwrap();
        assert_eq!(status.code(), Some(1));
        assert_eq!(sim.now().since_origin(), seconds(7));
    });
    assert_eq!(timeline.starts("worker"), 1);
}

#[test]
fn the_directory_may_change_in_the_middle_of_a_sim() {
    child::run(
        "faults::subjects::the_directory_may_change_in_the_middle_of_a_sim",
        || {
            let timeline = Sim::new().run(async |sim| {
                let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
                std::env::set_current_dir("/").unwrap();
                spawn(&worker).wait().await.unwrap();
            });
            assert_eq!(timeline.starts("worker"), 1);
        },
    );
}

/// The harness's own descriptors go too. What follows from that may be anything but a hang.
#[test]
fn code_that_closes_every_descriptor_ends_its_sim() {
    const PATH: &str = "faults::subjects::code_that_closes_every_descriptor_ends_its_sim";
    if child::is_child(PATH) {
        let result = short().try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(7)).exit(1));
            let mut child = spawn(&worker);
            worker.started().await;
            for descriptor in 3..256 {
                // SAFETY: this is what the test is about; it ends this process soon.
                unsafe { nix::libc::close(descriptor) };
            }
            child.wait().await.map(|_| ())
        });
        println!("ended: {}", result.is_ok());
        std::process::exit(7);
    }
    let output = child::command(PATH).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_panic_of_the_body_is_what_the_caller_sees_and_fifty_agents_end() {
    let mut pids = Vec::new();
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().stay());
            let children: Vec<_> = (0..50).map(|_| spawn(&worker)).collect();
            for _ in 0..50 {
                pids.push(worker.started().await.pid());
            }
            assert_eq!(children.len(), 51, "the test's own words");
        })
        .unwrap_err();
    assert!(failure.is_panic());
    let text = failure.to_string();
    assert!(
        text.starts_with(
            "the body of the sim panicked: assertion `left == right` failed: the test's own words"
        ),
        "{text}"
    );
    assert_eq!(failure.leaks().len(), 50);
    assert_eq!(pids.len(), 50);
    assert!(!pids.iter().any(|pid| is_there(*pid)));
}

#[test]
fn a_panic_goes_through_run_as_it_is() {
    let payload = std::panic::catch_unwind(|| {
        Sim::new().run(async |sim| -> () {
            let worker = sim.agent("worker", Script::new());
            let _child = spawn(&worker);
            worker.started().await;
            std::panic::panic_any(42_u64);
        })
    });
    assert_eq!(payload.unwrap_err().downcast_ref(), Some(&42_u64));
}

#[test]
fn a_panic_in_a_task_is_the_tasks_and_the_sim_goes_on() {
    let timeline = Sim::new().run(async |sim| {
        let task = tokio::task::spawn_local(async { panic!("of the task") });
        assert!(task.await.unwrap_err().is_panic());
        sim.note("still here");
    });
    assert_eq!(timeline.notes(), ["still here"]);
}

#[test]
fn an_error_of_the_body_fails_the_sim() {
    let failure = Sim::new()
        .try_run(async |_| Err::<(), _>(std::io::Error::other("no luck")))
        .unwrap_err();
    assert_contains(&failure.to_string(), "the body of the sim failed: ");
    assert_contains(&failure.to_string(), "no luck");
    assert!(!failure.is_panic() && !failure.is_stuck());
}

#[test]
fn time_waits_for_a_child_that_is_no_agent() {
    let timeline = Sim::new()
        .try_run(async |sim| {
            let mut child = Command::new("/bin/sleep").arg("0.05").spawn().unwrap();
            // Under tokio's paused clock alone this would be over at once.
            let ended = timeout(seconds(5), child.wait()).await;
            assert!(ended.is_ok_and(|status| status.is_ok_and(|status| status.success())));
            assert_eq!(sim.now().since_origin(), Duration::ZERO);
        })
        .unwrap();
    assert_eq!(timeline.events().len(), 0);
}

#[test]
fn an_agent_that_is_frozen_from_outside_can_be_killed() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().count(Signal::TERM).stay());
        let mut child = spawn(&worker);
        worker.started().await;
        let pid = child.id().unwrap();
        kill(pid, nix::sys::signal::SIGSTOP);
        sleep(seconds(5)).await;
        kill(pid, nix::sys::signal::SIGTERM);
        assert!(timeout(seconds(10), child.wait()).await.is_err());
        child.kill().await.unwrap();
    });
    assert_eq!(
        lines(&timeline),
        [
            "+0.000 worker#1 start",
            "+15.000 worker#1 exit signal=SIGKILL",
            "+0.000 worker#1 reap",
        ]
    );
}

#[test]
fn a_supervisor_that_polls_sees_the_end_at_its_next_look_every_time() {
    let run = || {
        let timeline = Sim::new().run(async |sim| {
            let script = Script::new().run_for(Duration::from_millis(12_345)).exit(1);
            let worker = sim.agent("worker", script);
            for _ in 0..2 {
                let mut child = worker.command().spawn().unwrap();
                while child.try_wait().unwrap().is_none() {
                    sleep(Duration::from_millis(100)).await;
                }
            }
        });
        lines(&timeline)
    };
    let first = run();
    assert_eq!(
        first,
        [
            "+0.000 worker#1 start",
            "+12.345 worker#1 exit code=1",
            "+0.055 worker#1 reap",
            "+0.000 worker#2 start",
            "+12.345 worker#2 exit code=1",
            "+0.055 worker#2 reap",
        ]
    );
    for _ in 0..3 {
        assert_eq!(run(), first);
    }
}

#[tokio::test]
async fn a_sim_inside_a_runtime_fails_and_says_why() {
    let failure = Sim::new().try_run(async |_| ()).unwrap_err();
    let text = failure.to_string();
    assert_contains(
        &text,
        "the sim cannot begin: it is run inside a tokio runtime",
    );
    assert_contains(&text, "write `#[test]`");
}
