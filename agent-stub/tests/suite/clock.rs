//! Waits that the harness's clock serves.

use agent_stub::Signal;
use rstest::rstest;

use crate::support::{Start, Stub, Told, ended};

#[rstest]
fn a_wait_lasts_until_the_harness_says_go(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = Start::new(how)
        .args([
            "--clock",
            "harness",
            "--script",
            "run 24h; run 1ns; run 0s; exit 3",
        ])
        .spawn();
    stub.expect(&["wait 1 86400000000000", "rest 0"]);
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 2");
    assert_eq!(stub.ping(), ["rest 1"]);
    stub.order("go 1");
    // The second was over before it began.
    stub.expect(&["wait 2 1", "wait 3 0", "rest 2"]);
    stub.order("go 3");
    stub.expect(&["exiting 3"]);
    assert_eq!(ended(stub.process.end()), "exit 3");
}

#[test]
fn the_variable_chooses_the_clock_too_and_orders_wait_by_it() {
    let mut start = Start::new(Told::Path);
    start.command.env("SUPERVISE_AGENT_CLOCK", "harness");
    let mut stub = start.spawn();
    stub.expect(&["idle", "rest 0"]);
    stub.order("do run 5ms; beat");
    stub.expect(&["wait 1 5000000", "rest 1"]);
    stub.order("go 1");
    stub.expect(&["beat", "idle", "rest 2"]);
}

#[test]
fn an_order_is_obeyed_over_a_wait_which_then_goes_on() {
    let mut stub = Stub::waiting("run 1s; exit 2");
    stub.expect(&["wait 1 1000000000", "rest 0"]);
    stub.order("do beat; run 3ns; ready");
    stub.expect(&["beat", "wait 2 3", "rest 1"]);
    stub.order("do beat");
    stub.expect(&["beat", "rest 2"]);
    stub.order("go 2");
    // What was interrupted is waited for again.
    stub.expect(&["ready", "rest 3"]);
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 1");
    stub.expect(&["exiting 2"]);
}

#[test]
fn a_handler_and_what_it_interrupted_wait_both() {
    // The go of the lower wait first, then the handler's; and the other way round.
    for first in [1, 3] {
        let mut stub = Stub::waiting("on SIGTERM { run 2s; beat }; run 10s; exit 4");
        stub.expect(&["wait 1 10000000000", "rest 0"]);
        stub.process.signal(Signal::TERM);
        stub.expect(&["turn 2 signal", "rest 0"]);
        stub.order("go 2");
        stub.expect(&["got SIGTERM 1", "wait 3 2000000000", "rest 1"]);
        stub.order(&format!("go {first}"));
        if first == 3 {
            stub.expect(&["beat"]);
        }
        assert_eq!(stub.ping(), ["rest 2"]);
        stub.order(&format!("go {}", 4 - first));
        if first == 1 {
            // The turn is the beat's; the exit takes one of its own.
            stub.expect(&["beat", "turn 4", "rest 3"]);
            stub.order("go 4");
        }
        stub.expect(&["exiting 4"]);
    }
}

#[test]
fn a_signal_before_the_go_is_handled_before_what_follows_the_wait() {
    for _ in 0..100 {
        let mut stub = Stub::waiting("on SIGTERM { beat }; run 1s; ready");
        stub.expect(&["wait 1 1000000000", "rest 0"]);
        stub.process.signal(Signal::TERM);
        stub.order("go 1");
        // Whether it asks for a turn between the two depends on which of them wakes it.
        let reports = stub.grant_until("idle");
        assert_eq!(reports, ["got SIGTERM 1", "beat", "ready"]);
    }
}

#[test]
fn a_signal_after_the_go_finds_what_follows_the_wait() {
    let mut stub = Stub::waiting("on SIGTERM { exit 0 }; run 1s; beat; run 1s; exit 1");
    stub.expect(&["wait 1 1000000000", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["beat", "wait 2 1000000000", "rest 1"]);
    stub.process.signal(Signal::TERM);
    stub.expect(&["turn 3 signal", "rest 1"]);
    stub.order("go 3");
    stub.expect(&["got SIGTERM 1", "exiting 0"]);
}

#[test]
fn by_the_real_clock_it_asks_for_nothing() {
    let mut stub = Stub::script("on SIGTERM { ready }; beat; gate file /nonexistent");
    stub.expect(&["beat"]);
    assert_eq!(stub.ping(), [""; 0]);
    stub.process.signal(Signal::TERM);
    stub.expect(&["got SIGTERM 1", "ready"]);
    assert_eq!(stub.ping(), [""; 0]);
}
