//! Scripts that are long, too long, or that no agent can do.

use std::process::Stdio;

use rstest::rstest;
use supervise_harness::{Script, Sim};
use tokio::process::Command;

use super::assert_contains;

#[test]
fn a_long_script_runs() {
    let beats = "beat; ".repeat(12_000) + "exit 3";
    let writes = Script::new().write(&"x".repeat(1 << 20)).exit(4);
    for (script, code) in [
        (Script::new().then_do(&beats).unwrap(), 3),
        (Script::runs(1, writes), 4),
    ] {
        Sim::new().run(async |sim| {
            let worker = sim.agent("worker", script);
            let mut command = Command::from(worker.command());
            let status = command.stdout(Stdio::null()).status().await.unwrap();
            assert_eq!(status.code(), Some(code));
        });
    }
}

/// Not after the watchdog's time: where it is given.
#[rstest]
#[case::too_long(Script::new().write(&"x".repeat(8 << 20)), "a script of at most 8388604 bytes")]
#[case::too_long_in_its_first_runs(
    Script::runs(2, Script::new().write(&"x".repeat(8 << 20))),
    "a script of at most 8388604 bytes"
)]
#[case::too_long_for_a_descendant(
    Script::new().start("child", Default::default(), Script::new().write(&"x".repeat(1 << 17))),
    "a block of at most 131071 bytes"
)]
#[case::a_gate_without_a_name(Script::new().gate(""), "the name of a gate")]
#[case::a_signal_that_kills_nobody(
    Script::new().die_by(supervise_harness::Signal::CHLD),
    "a signal that kills by default"
)]
#[case::then_after_what_all_runs_do(
    Script::new().write("lost").then(Script::new().exit(1)),
    "`then` comes after `write \"lost\"`, which all runs do that are left"
)]
#[case::then_after_what_all_later_runs_do(
    Script::runs(3, Script::new().exit(1)).ready().then(Script::new().stay()),
    "`then` comes after `ready`, which all runs do that are left"
)]
#[case::runs_of_runs(
    Script::runs(3, Script::runs(1, Script::new().exit(1)).ready()),
    "`runs` takes what one run does, and was given a script with `Script::runs(...)` of its own, `exit 1`"
)]
#[case::runs_in_a_handler(
    Script::new().on(supervise_harness::Signal::TERM, Script::runs(1, Script::new().exit(1))),
    "`on` takes what one run does"
)]
#[case::a_mistake_inside(
    Script::runs(1, Script::new().ready().then(Script::new().exit(1))).then(Script::new()),
    "`then` comes after `ready`, which all runs do that are left"
)]
fn what_no_agent_can_do_is_refused_with_its_name(#[case] script: Script, #[case] expected: &str) {
    let failure = Sim::new().try_run(async |sim| {
        let _ = sim.agent("worker", script.clone());
    });
    let failure = failure.expect_err("a refusal");
    assert!(failure.is_panic(), "{failure}");
    let text = failure.to_string();
    assert_contains(&text, "agent \"worker\" cannot do what its script says: ");
    assert_contains(&text, expected);

    let failure = Sim::new().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        worker.set_script(script.clone());
    });
    assert_contains(&failure.unwrap_err().to_string(), expected);
}

#[test]
fn a_text_that_is_too_long_is_refused_by_the_run_that_is_to_write_it() {
    let failure = Sim::new().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        let _child = Command::from(worker.command())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let run = worker.started().await;
        run.write(&"x".repeat(8 << 20));
    });
    let text = failure.unwrap_err().to_string();
    assert_contains(&text, "a script of at most 8388604 bytes");
}
