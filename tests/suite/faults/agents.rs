//! Agents that misbehave: a finding says how, and the sim ends.

use rstest::rstest;
use supervise_harness::{Script, Sim};
use tokio::process::Command;

use super::{assert_contains, fake, is_there, lines, seconds, short, stuck};

/// A sim in which a fake agent takes the steps and ends. Its findings.
fn findings_of(steps: &[&str]) -> Vec<String> {
    let timeline = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            let mut child = Command::from(fake::agent(&fake::address(&worker), steps))
                .kill_on_drop(true)
                .spawn()?;
            child.wait().await.map(|_| ())
        })
        .unwrap();
    let findings = timeline.findings();
    findings.into_iter().map(str::to_owned).collect()
}

const HELLO: &str = r#"say hello 2 PID 1 "worker"|rest 0|"#;

#[rstest]
#[case::crashes_in_the_middle_of_a_message(
    &["connect", HELLO, "say wait 7 100"],
    "its connection ended in the middle of a message"
)]
#[case::crashes_in_the_middle_of_hello(
    &["connect", "say hello 2"],
    "a control connection ended before it said hello, in the middle of a message"
)]
#[case::ends_without_hello(
    &["connect"],
    "a control connection ended before it said hello"
)]
#[case::says_something_before_hello(
    &["connect", "say ready|", "wait"],
    "a control connection began without hello: `ready`"
)]
#[case::speaks_another_version(
    &["connect", "say hello 9 PID 1 \"worker\"|", "wait"],
    "agent \"worker\" speaks version 9 of the protocol: expected 2"
)]
#[case::has_an_unknown_name(
    &["connect", "say hello 2 PID 1 \"nobody\"|", "wait"],
    "an unknown agent said hello: \"nobody\""
)]
#[case::connects_twice(
    &["connect", HELLO, "connect", HELLO, "wait"],
    "it connected twice; the second connection was closed"
)]
#[case::says_hello_twice(
    &["connect", HELLO, HELLO],
    "it said hello twice"
)]
fn an_agent_that_misbehaves_is_found(#[case] steps: &[&str], #[case] expected: &str) {
    assert_eq!(findings_of(steps), [expected]);
}

#[rstest]
#[case::too_long(&["connect", HELLO, "long 70000"], "it said what is no message: ")]
#[case::not_utf8(&["connect", HELLO, "bytes"], "it said what is no message: ")]
#[case::unknown(&["connect", HELLO, "say frobnicate|"], "it said what is no message: ")]
#[case::too_long_for_hello(&["connect", "long 70000", "wait"], "a control connection began without hello: ")]
#[case::not_utf8_for_hello(&["connect", "bytes", "wait"], "a control connection began without hello: ")]
fn a_line_that_is_no_message_is_found_once(#[case] steps: &[&str], #[case] expected: &str) {
    let findings = findings_of(steps);
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert!(findings[0].starts_with(expected), "{findings:?}");
    // The line itself would bury the report.
    assert!(findings[0].len() < 400, "{findings:?}");
}

#[test]
fn an_agent_goes_on_after_a_line_that_is_no_message() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let steps = ["connect", HELLO, "long 70000", "say ready|rest 0|"];
        let mut child = Command::from(fake::agent(&fake::address(&worker), &steps))
            .spawn()
            .unwrap();
        child.wait().await.unwrap();
    });
    let lines = lines(&timeline);
    assert_eq!(lines[0], "+0.000 worker#1 start");
    assert!(
        lines.contains(&"+0.000 worker#1 ready".to_owned()),
        "{lines:?}"
    );
}

#[test]
fn a_connection_that_never_says_hello_is_named_by_the_watchdog() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let steps = ["connect", "wait"];
        let mut child = Command::from(fake::agent(&fake::address(&worker), &steps))
            .spawn()
            .unwrap();
        child.wait().await.unwrap();
    }));
    assert_contains(&text, "a control connection has not said hello");
}

#[test]
fn an_agent_that_never_connects_is_named_by_the_watchdog() {
    let mut pid = None;
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let mut child = Command::from(fake::agent(&fake::address(&worker), &["freeze"]))
            .spawn()
            .unwrap();
        pid = child.id();
        child.wait().await.unwrap();
    }));
    assert_contains(
        &text,
        "a child that is no agent runs, and time waits for it: suite-",
    );
    assert!(!is_there(pid.unwrap()));
}

#[test]
fn an_agent_that_closed_its_connection_and_runs_is_named_by_the_watchdog() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let steps = ["connect", HELLO, "close", "freeze"];
        let _child = Command::from(fake::agent(&fake::address(&worker), &steps))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        worker.started().await;
        // real-time: none; by the sim's clock: when it ends, all that the agent did was taken in.
        tokio::time::sleep(seconds(1)).await;
        std::future::pending::<()>().await;
    }));
    assert_contains(&text, "worker#1 is stopped");
    assert_contains(&text, "its control connection has ended");
}

/// A test that pretends to be an agent must not have the harness end the test's own process.
#[test]
fn the_process_of_the_sim_is_no_agent_of_it() {
    let timeline = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            let address = fake::address(&worker);
            let reader = std::thread::spawn(move || {
                use std::io::{Read, Write};
                let mut socket = fake::connect(&address);
                let hello = format!("hello 2 {} 1 \"worker\"\n", std::process::id());
                socket.write_all(hello.as_bytes()).unwrap();
                let _ = socket.read_to_end(&mut Vec::new());
            });
            tokio::task::spawn_blocking(move || reader.join().unwrap())
                .await
                .unwrap();
        })
        .unwrap();
    assert_eq!(
        timeline.findings(),
        ["the process of the sim itself said hello, as agent \"worker\""]
    );
}

/// Nobody reads what it said until an order to it has failed.
#[test]
fn what_an_agent_said_before_its_end_is_heard_although_an_order_came_too_late() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let steps = ["connect", HELLO, "wait", "say ready|"];
        let mut child = fake::agent(&fake::address(&worker), &steps)
            .spawn()
            .unwrap();
        let run = worker.started().await;
        run.write("go on");
        let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
        ended.await.unwrap();
        run.write("too late");
        run.ended().await;
    });
    assert_eq!(
        lines(&timeline)[..2],
        ["+0.000 worker#1 start", "+0.000 worker#1 ready"]
    );
}

/// The kernel knows who is at the other end; what it says about itself may be another's number.
#[test]
fn an_agent_is_the_process_at_the_other_end_and_not_the_one_it_names() {
    let timeline = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new());
            let steps = ["connect", "say hello 2 1 1 \"worker\"|rest 0|", "wait"];
            let mut child = Command::from(fake::agent(&fake::address(&worker), &steps))
                .kill_on_drop(true)
                .spawn()
                .unwrap();
            let run = worker.started().await;
            assert_eq!(Some(run.pid()), child.id());
            // real-time: none; by the sim's clock, and the timeline has it.
            tokio::time::sleep(seconds(5)).await;
            child.kill().await.unwrap();
        })
        .unwrap();
    assert_eq!(
        lines(&timeline),
        [
            "+0.000 worker#1 start",
            "+5.000 worker#1 exit signal=SIGKILL",
            "+0.000 worker#1 reap",
        ]
    );
}
