//! By the harness's clock: trapped signals are taken in a turn, in an order that is not the kernel's.

use agent_stub::{Quoted, Signal};
use rstest::rstest;

use crate::support::{Stub, read_all};

fn signal(name: &str) -> Signal {
    name.parse().unwrap()
}

#[test]
fn a_signal_is_taken_in_the_turn_that_it_asks_for_and_its_handlers_first_act_too() {
    let mut stub = Stub::waiting("on SIGTERM { beat; ready }; stay");
    stub.expect(&["rest 0"]);
    stub.process.signal(Signal::TERM);
    stub.expect(&["turn 1 signal", "rest 0"]);
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 1");
    stub.expect(&["got SIGTERM 1", "beat", "turn 2", "rest 1"]);
    stub.order("go 2");
    stub.expect(&["ready", "rest 2"]);
}

#[rstest]
fn a_signal_asks_for_its_turn_over_whatever_is_waited_for(
    #[values(
        "stay",
        "run 1h",
        "beat",
        "gate g",
        "gate file /nonexistent",
        "write 1MiB"
    )]
    doing: &str,
) {
    let mut stub = Stub::waiting(&format!("on SIGUSR1 count; {doing}; stay"));
    // Its own turn, but for a beat, which waits for it.
    let mut id = 0;
    let mut orders = 0;
    if ["run 1h", "beat", "gate g", "write 1MiB"].contains(&doing) {
        id = 1;
    }
    if ["gate g", "write 1MiB"].contains(&doing) {
        stub.until("rest 0");
        stub.order("go 1");
        orders = 1;
    }
    stub.until(&format!("rest {orders}"));
    for n in 1..=3 {
        id += 1;
        stub.process.signal(Signal::USR1);
        let mut asked = vec![format!("turn {id} signal")];
        let mut got = vec![format!("got SIGUSR1 {n}")];
        if doing.starts_with("gate file") {
            asked.push("watching \"/nonexistent\"".into());
            got.push("watching \"/nonexistent\"".into());
        }
        assert_eq!(stub.until(&format!("rest {orders}")), asked);
        stub.order(&format!("go {id}"));
        orders += 1;
        assert_eq!(stub.until(&format!("rest {orders}")), got);
    }
    if doing == "beat" {
        stub.order("go 1");
        stub.expect(&["beat", "rest 4"]);
    }
}

#[test]
fn signals_that_come_before_the_turn_are_handled_in_the_order_of_their_numbers() {
    let trapped = ["SIGRTMIN+2", "SIGUSR2", "SIGHUP", "SIGTERM"];
    let mut script = String::new();
    for (n, name) in trapped.iter().enumerate() {
        script += &format!("on {name} {{ write stderr {}B }}; ", n + 1);
    }
    // In whatever order they come.
    for first in 0..trapped.len() {
        let mut stub = Stub::waiting(&format!("{script} stay"));
        stub.expect(&["rest 0"]);
        for n in 0..trapped.len() {
            stub.process
                .signal(signal(trapped[(first + n) % trapped.len()]));
        }
        stub.expect(&["turn 1 signal", "rest 0"]);
        assert_eq!(stub.ping(), [""; 0]);
        stub.order("go 1");
        stub.expect(&[
            "got SIGHUP 1",
            "got SIGUSR2 1",
            "got SIGTERM 1",
            "got SIGRTMIN+2 1",
            "writing stderr 3",
            "wrote stderr 3",
            "turn 2",
            "rest 1",
        ]);
        for (id, bytes) in [(2, 2), (3, 4), (4, 1)] {
            stub.order(&format!("go {id}"));
            for done in ["writing", "wrote"] {
                stub.expect(&[&format!("{done} stderr {bytes}")]);
            }
            stub.until(&format!("rest {id}"));
        }
    }
}

#[test]
fn a_standard_signal_counts_once_a_turn_and_a_realtime_one_each_time() {
    let mut stub = Stub::waiting("on SIGUSR1 count; on SIGRTMIN+1 { beat }; stay");
    stub.expect(&["rest 0"]);
    for _ in 0..5 {
        // Each has reached it before the next is sent: it is awake, or has been.
        stub.process.signal(Signal::USR1);
        stub.process.signal(signal("SIGRTMIN+1"));
        stub.ping();
    }
    stub.order("go 1");
    let got: Vec<String> = (1..=5).map(|n| format!("got SIGRTMIN+1 {n}")).collect();
    stub.expect(&["got SIGUSR1 1"]);
    stub.expect(&got.iter().map(String::as_str).collect::<Vec<_>>());
    // One handler after the other, each with a turn of its own.
    for turn in 2..=5 {
        stub.expect(&[
            "beat",
            &format!("turn {turn}"),
            &format!("rest {}", turn - 1),
        ]);
        stub.order(&format!("go {turn}"));
    }
    stub.expect(&["beat", "rest 5"]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 6 signal", "rest 5"]);
    stub.order("go 6");
    stub.expect(&["got SIGUSR1 2", "rest 6"]);
}

#[test]
fn any_turn_takes_the_signals_that_have_come() {
    let mut stub = Stub::waiting("on SIGUSR1 count; beat; stay");
    stub.expect(&["turn 1", "rest 0"]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 2 signal", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["got SIGUSR1 1", "beat", "rest 1"]);
    // The turn that it asked for finds nothing, and asks for nothing.
    stub.order("go 2");
    assert_eq!(stub.ping(), ["rest 2"]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 3 signal", "rest 2"]);
    stub.order("go 3");
    stub.expect(&["got SIGUSR1 2", "rest 3"]);
}

#[test]
fn the_turn_of_what_a_handler_interrupts_is_not_the_handlers() {
    let mut stub = Stub::waiting("on SIGUSR1 { ready; beat }; write \"x\"; stay");
    stub.expect(&["turn 1", "rest 0"]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 2 signal", "rest 0"]);
    stub.order("go 2");
    stub.expect(&["got SIGUSR1 1", "ready", "turn 3", "rest 1"]);
    // Granted while the handler waits for its own: that is kept for nobody.
    stub.order("go 1");
    assert_eq!(stub.ping(), ["rest 2"]);
    stub.order("go 3");
    stub.expect(&["beat", "turn 4", "rest 3"]);
    stub.order("go 4");
    stub.expect(&["writing stdout 1", "wrote stdout 1", "rest 4"]);
}

#[test]
fn a_signal_is_heard_in_an_endless_loop_which_rests_for_its_turn() {
    let mut stub =
        Stub::waiting("on SIGTERM { exit 7 }; on SIGUSR1 count; ready; forever { repeat 3 { } }");
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["ready"]);
    // It goes round, and is not at rest.
    assert_eq!(stub.ping(), [""; 0]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 2 signal", "rest 1"]);
    stub.process.signal(Signal::TERM);
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 2");
    stub.expect(&["got SIGUSR1 1", "got SIGTERM 1", "exiting 7"]);
}

#[rstest]
fn a_signal_that_was_not_taken_before_its_trap_ended_is_dropped(
    #[values("ignore", "default")] response: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let watching = format!("watching {}", Quoted::from(file.to_str().unwrap()));
    // What it finds at a ping takes it on without a turn.
    let mut stub = Stub::waiting(&format!(
        "on SIGUSR1 count; gate file {file:?}; on SIGUSR1 {response}; on SIGUSR1 count; stay"
    ));
    stub.expect(&[&watching, "rest 0"]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 1 signal", &watching, "rest 0"]);
    std::fs::write(&file, "").unwrap();
    assert_eq!(stub.ping(), ["rest 0"]);
    stub.order("go 1");
    assert_eq!(stub.ping(), ["rest 1"]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 2 signal", "rest 1"]);
    stub.order("go 2");
    stub.expect(&["got SIGUSR1 1", "rest 2"]);
}

#[test]
fn a_blocked_writers_handler_has_turns_of_its_own() {
    let mut stub = Stub::waiting("on SIGTERM { beat; exit 5 }; write 1MiB; stay");
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["blocked stdout", "rest 1"]);
    stub.process.signal(Signal::TERM);
    stub.expect(&["turn 2 signal", "rest 1"]);
    stub.order("go 2");
    stub.expect(&["got SIGTERM 1", "beat", "turn 3", "rest 2"]);
    stub.order("go 3");
    stub.expect(&["exiting 5"]);
    drop(read_all(stub.process.0.stdout.take().unwrap()));
}
