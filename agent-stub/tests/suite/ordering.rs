//! In which order orders are obeyed, signals reported and pings answered.

use agent_stub::Signal;
use rstest::rstest;

use crate::support::{Start, Stub, Told, ended};

#[test]
fn a_ping_is_answered_only_after_the_last_pass_of_a_repeat() {
    for _ in 0..50 {
        let mut stub = Stub::idle(Told::Inherited);
        stub.order("do repeat 5 { beat }\nping 1");
        stub.expect(&["beat"; 5]);
        stub.expect(&["idle", "pong 1"]);
    }
}

#[test]
fn a_ping_is_answered_only_after_a_long_write() {
    let mut start = Start::new(Told::Inherited);
    start.command.stdout(std::process::Stdio::null());
    let mut stub = start.spawn();
    stub.expect(&["idle"]);
    stub.order("do write 4MiB\nping 1");
    stub.expect(&["wrote stdout 4194304", "idle", "pong 1"]);
}

#[rstest]
fn a_signal_sent_before_a_ping_is_reported_before_its_answer(
    #[values(Told::Inherited, Told::Path)] how: Told,
    #[values("stay", "run 1h", "gate g", "forever { }", "forever { run 1us }")] doing: &str,
) {
    let mut stub = Stub::idle(how);
    stub.order(&format!(
        "do on SIGUSR1 count; on SIGRTMIN+2 {{ beat }}; {doing}"
    ));
    stub.ping();
    for n in 1..=300 {
        stub.process.signal(Signal::USR1);
        stub.process
            .signal(agent_stub::Signal::from_number(36).unwrap());
        let seen = stub.ping();
        for report in [
            format!("got SIGUSR1 {n}"),
            format!("got SIGRTMIN+2 {n}"),
            "beat".into(),
        ] {
            assert!(seen.contains(&report), "{n}: {seen:?}");
        }
        assert_eq!(seen.len(), 3);
    }
}

#[test]
fn a_ping_is_answered_after_everything_that_was_ordered_before() {
    for _ in 0..200 {
        let mut stub = Stub::idle(Told::Inherited);
        stub.order(
            "do beat; ready; start a { exit 0 }; write \"x\"\nopen \"g\"\ndo gate g; beat\nping 9",
        );
        let before = stub.until("pong 9");
        let before: Vec<&str> = before
            .iter()
            .map(String::as_str)
            .filter(|report| !report.starts_with("started") && !report.starts_with("reaped"))
            .collect();
        assert_eq!(
            before,
            [
                "beat",
                "ready",
                "wrote stdout 1",
                "idle",
                "gate \"g\"",
                "beat",
                "idle"
            ]
        );
    }
}

#[test]
fn idle_is_said_once_per_idleness() {
    let mut stub = Stub::idle(Told::Inherited);
    stub.order("do on SIGUSR1 count; on SIGUSR2 { beat }");
    stub.expect(&["idle"]);
    // Neither pings nor openings nor counted signals end an idleness.
    for n in 1..=3 {
        stub.order("open \"g\"\ngo 77");
        stub.process.signal(Signal::USR1);
        assert_eq!(stub.ping(), [format!("got SIGUSR1 {n}")]);
    }
    stub.process.signal(Signal::USR2);
    stub.expect(&["got SIGUSR2 1", "beat", "idle"]);
    assert_eq!(stub.ping(), [""; 0]);
}

#[rstest]
fn an_order_is_obeyed_at_once_over_a_wait_which_then_goes_on(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(
        "stay",
        "run 1h",
        "gate g",
        "gate file /nonexistent",
        "forever { }",
        "repeat 4000000000 { }"
    )]
    doing: &str,
) {
    let mut stub = Stub::idle(how);
    stub.order(&format!("do {doing}; exit 1"));
    if doing == "gate g" {
        stub.expect(&["gate \"g\""]);
    }
    for _ in 0..3 {
        stub.order("do beat");
        stub.expect(&["beat"]);
    }
    stub.order("do exit 8");
    stub.expect(&["exiting 8"]);
    assert_eq!(ended(stub.process.end()), "exit 8");
}
