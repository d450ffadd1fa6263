//! Agents that the code under test leaves behind: the sim ends them and says whose they are.

use supervise_harness::stub::script::Placement;
use supervise_harness::{Script, Sim};
use tokio::process::Command;
use tokio::time::sleep;

use super::{assert_contains, fake, is_there, lines, seconds, spawn};

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
