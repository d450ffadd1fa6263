//! Descendants: where they are placed, what they hold, how they end.

use agent_stub::protocol::Report;

use crate::support::{BOUND, Pidfd, Start, Stub, Told, ended};

#[test]
fn a_descendant_of_an_inherited_socket_lives_by_the_real_clock() {
    let mut stub = Stub::waiting("start a { run 1ms; write \"up\"; stay }");
    let pid = stub.started();
    stub.expect(&["idle"]);
    stub.process.read_until("up");
    assert!(
        !Pidfd::open(pid)
            .unwrap()
            .ends_within(std::time::Duration::ZERO)
    );
}

#[test]
fn a_descendant_of_a_listening_socket_asks_the_harness_too() {
    let script = "start a { run 7ns; exit 3 }; stay";
    let start = Start::new(Told::Path).args(["--clock", "harness", "--script", script]);
    let mut stub = start.spawn();
    let pid = stub.started();
    let (mut descendant, hello) = stub.next_connection();
    assert!(
        matches!(&hello, Report::Hello { pid: p, descendant: Some(name), .. } if *p == pid && name.0 == b"a"),
        "{hello}"
    );
    descendant.expect(&["wait 1 7"]);
    descendant.order("go 1");
    descendant.expect(&["exiting 3"]);
    stub.expect(&[&format!("reaped {pid}")]);
}

#[test]
fn freezes_and_forks_twice_where_sigchld_is_ignored() {
    let mut stub = Stub::script(
        "start b { stay }; on SIGCHLD ignore; freeze; start a double-fork { stay }; exit 0",
    );
    stub.started();
    stub.expect(&["freezing"]);
    crate::freezing::wait_until_stopped(stub.process.pid());
    stub.process.signal(agent_stub::Signal::CONT);
    stub.expect(&["thawed", "started - \"a\"", "exiting 0"]);
    assert_eq!(ended(stub.process.end()), "exit 0");
}
