//! Signals: trapped, ignored, counted, delayed, blocked; what handlers interrupt.

use agent_stub::Signal;
use rstest::rstest;

use crate::support::{Stub, Told, ended, told};

#[rstest]
fn ignores_a_signal_until_told_otherwise(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let script = "on SIGTERM ignore; on SIGUSR1 { on SIGTERM default; write \"default\\n\" }; write \"up\\n\"; stay";
    let mut stub = told(how, script);
    stub.read_until("up\n");
    stub.signal(Signal::TERM);
    stub.signal(Signal::USR1);
    stub.read_until("default\n");
    stub.signal(Signal::TERM);
    assert_eq!(ended(stub.end()), "die SIGTERM");
}

#[rstest]
fn takes_a_trap_back(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("count", "{ exit 9 }", "ignore")] response: &str,
) {
    let script = format!("on SIGHUP {response}; on SIGHUP default; write \"up\\n\"; stay");
    let mut stub = told(how, &script);
    stub.read_until("up\n");
    stub.signal(Signal::HUP);
    assert_eq!(ended(stub.end()), "die SIGHUP");
}

#[rstest]
fn runs_a_block_when_a_trapped_signal_comes(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(
        "SIGTERM",
        "SIGINT",
        "SIGRTMIN+3",
        "SIGRTMIN+30",
        "SIGWINCH",
        "SIGCONT"
    )]
    signal: &str,
) {
    let script = format!("on {signal} {{ write \"got\\n\"; exit 7 }}; write \"up\\n\"; stay");
    let mut stub = told(how, &script);
    stub.read_until("up\n");
    stub.signal(signal.parse().unwrap());
    assert_eq!(ended(stub.end()), "exit 7");
    assert_eq!(stub.rest(), "got\n");
}

#[rstest]
fn delays_the_end_that_a_signal_asks_for(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    // real-time: the delay by the real clock is what is tested.
    let mut stub = told(
        how,
        "on SIGTERM { run 60ms; exit 0 }; write \"up\\n\"; stay",
    );
    stub.read_until("up\n");
    let before = std::time::Instant::now();
    stub.signal(Signal::TERM);
    assert_eq!(ended(stub.end()), "exit 0");
    assert!(before.elapsed() >= std::time::Duration::from_millis(60));
}

#[test]
fn traps_every_catchable_signal() {
    let mut stub = Stub::idle(Told::Inherited);
    for signal in Signal::all().filter(|signal| signal.is_catchable()) {
        stub.order(&format!("do on {signal} count"));
        stub.expect(&["idle"]);
        stub.process.signal(signal);
        stub.expect(&[&format!("got {signal} 1")]);
        stub.order(&format!("do on {signal} ignore"));
        stub.expect(&["idle"]);
        stub.process.signal(signal);
        assert_eq!(stub.ping(), [""; 0], "{signal}");
    }
}

#[rstest]
fn counts_every_signal_it_saw(#[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told) {
    let mut stub = Stub::idle(how);
    stub.order("do on SIGUSR2 count");
    stub.expect(&["idle"]);
    for n in 1..=20 {
        stub.process.signal(Signal::USR2);
        stub.expect(&[&format!("got SIGUSR2 {n}")]);
    }
    assert_eq!(stub.ping(), [""; 0]);
}

#[rstest]
fn a_count_alone_changes_nothing(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let script = "on SIGTERM count; on SIGUSR1 { exit 4 }; write \"up\\n\"; stay";
    let mut stub = told(how, script);
    stub.read_until("up\n");
    stub.signal(Signal::TERM);
    stub.signal(Signal::USR1);
    assert_eq!(ended(stub.end()), "exit 4");
}

#[rstest]
fn holds_a_blocked_signal_back_until_it_is_unblocked(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("SIGTERM", "SIGRTMIN+1")] signal: &str,
) {
    let script = format!(
        "on {signal} {{ write \"late\\n\" }}; block {signal}; on SIGUSR1 {{ write \"free\\n\"; unblock {signal} }}; \
         write \"up\\n\"; stay"
    );
    let mut stub = told(how, &script);
    stub.read_until("up\n");
    stub.signal(signal.parse().unwrap());
    stub.signal(Signal::USR1);
    assert_eq!(stub.read_until("late\n"), "free\nlate\n");
}

#[test]
fn a_blocked_signal_is_not_reported_before_a_ping_is_answered() {
    let mut stub = Stub::idle(Told::Inherited);
    stub.order("do on SIGTERM count; block SIGTERM");
    stub.expect(&["idle"]);
    stub.process.signal(Signal::TERM);
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("do unblock SIGTERM");
    stub.expect(&["got SIGTERM 1", "idle"]);
}

#[rstest]
fn a_handler_interrupts_what_is_going_on_which_then_goes_on(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("stay", "run 1h", "gate never")] going_on: &str,
) {
    let mut stub = Stub::idle(how);
    stub.order(&format!("do on SIGUSR1 {{ beat }}; {going_on}; exit 9"));
    if going_on.starts_with("gate") {
        stub.expect(&["gate \"never\""]);
    }
    assert_eq!(stub.ping(), [""; 0]);
    for n in 1..=3 {
        stub.process.signal(Signal::USR1);
        stub.expect(&[&format!("got SIGUSR1 {n}"), "beat"]);
        // Nothing more: it neither exits nor becomes idle.
        assert_eq!(stub.ping(), [""; 0]);
    }
}

#[test]
fn a_handler_is_not_interrupted_by_its_own_signal_but_by_another() {
    let mut stub =
        Stub::script("on SIGUSR1 { ready; gate a; beat }; on SIGUSR2 { write \"two\" }; stay");
    assert_eq!(stub.ping(), [""; 0]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["got SIGUSR1 1", "ready", "gate \"a\""]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["got SIGUSR1 2"]);
    assert_eq!(stub.ping(), [""; 0]);
    stub.process.signal(Signal::USR2);
    stub.expect(&["got SIGUSR2 1", "wrote stdout 3"]);
    stub.order("open \"a\"");
    // Its second signal is handled once the first is.
    stub.expect(&["beat", "ready", "gate \"a\""]);
    stub.order("open \"a\"");
    stub.expect(&["beat"]);
    assert_eq!(stub.ping(), [""; 0]);
}

#[test]
fn a_signal_in_the_middle_of_a_handler_that_ended_the_traps_is_dropped() {
    let mut stub = Stub::script("on SIGUSR1 { gate a; on SIGUSR1 ignore }; stay");
    assert_eq!(stub.ping(), [""; 0]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["got SIGUSR1 1", "gate \"a\""]);
    stub.process.signal(Signal::USR1);
    stub.expect(&["got SIGUSR1 2"]);
    stub.order("open \"a\"");
    assert_eq!(stub.ping(), [""; 0]);
}
