//! Descendants: which one each is, and how it ended.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;

use agent_stub::Signal;
use agent_stub::protocol::{Lineage, Report};
use nix::libc;
use rstest::rstest;

use crate::support::{BOUND, Pidfd, Start, Stub, Told};

#[rstest]
fn a_descendant_says_who_started_it_and_for_which_time(
    #[values("same-group", "own-group", "own-session", "double-fork")] placement: &str,
    #[values("real", "harness")] clock: &str,
) {
    // Two of one name, and one that a descendant starts.
    let script = format!(
        "start a {placement} {{ start nested {placement} {{ stay }}; stay }}; start a {placement} {{ stay }}; stay"
    );
    let mut stub = Start::new(Told::Path)
        .args(["--clock", clock, "--script", &script])
        .spawn();
    let mut found = BTreeMap::new();
    // Their ends are the test's: they go with their connections.
    let mut controls = Vec::new();
    for _ in 0..3 {
        let (control, hello) = stub.next_connection();
        controls.push(control);
        match hello {
            Report::Hello {
                pid,
                descendant: Some(Lineage { name, starter, nth }),
                ..
            } => {
                found.insert((name.0, nth), (pid, starter));
            }
            other => panic!("{other}"),
        }
    }
    let stub_pid = stub.process.pid();
    let first = found[&(b"a".to_vec(), 1)];
    let second = found[&(b"a".to_vec(), 2)];
    let nested = found[&(b"nested".to_vec(), 1)];
    assert_eq!((first.1, second.1, nested.1), (stub_pid, stub_pid, first.0));
    // Who started them says the same, but for the process of a double fork.
    for (nth, (pid, _)) in [(1, first), (2, second)] {
        let pid = match placement {
            "double-fork" => "-".to_owned(),
            _ => pid.to_string(),
        };
        stub.expect(&[&format!("started {nth} {pid} \"a\"")]);
    }
}

#[rstest]
#[case("exit 0", 0)]
#[case("exit 3", 3 << 8)]
#[case("exit 255", 255 << 8)]
#[case("die SIGKILL", 9)]
#[case("die SIGTERM", 15)]
#[case("die SIGSEGV", 11)]
#[case("die SIGRTMIN+1", 35)]
fn the_end_of_a_descendant_is_told_as_wait_has_it(#[case] end: &str, #[case] status: i32) {
    let mut stub = Stub::script(&format!("start a {{ {end} }}; stay"));
    let pid = stub.started();
    stub.expect(&[&format!("reaped {pid} {status}")]);
}

#[test]
fn the_end_of_a_descendant_that_is_killed_is_told_as_wait_has_it() {
    let mut stub = Stub::script("start a quiet { stay }; start b quiet { stay }; stay");
    let pids = [stub.started(), stub.started()];
    crate::support::send(pids[1], Signal::KILL);
    stub.expect(&[&format!("reaped {} 9", pids[1])]);
    // Not SIGQUIT: a shell has its background jobs ignore that.
    crate::support::send(pids[0], Signal::TERM);
    stub.expect(&[&format!("reaped {} 15", pids[0])]);
}

#[rstest]
fn where_sigchld_is_ignored_an_end_has_no_status_and_shows_at_the_next_ping(
    #[values(
        "start a { stay }; on SIGCHLD ignore",
        "on SIGCHLD ignore; start a { stay }"
    )]
    script: &str,
    #[values("real", "harness")] clock: &str,
) {
    let mut start = Start::new(Told::Inherited);
    start.command.args(["--clock", clock, "--script", script]);
    let mut stub = start.spawn();
    let pid = stub.started();
    stub.until("idle");
    stub.ping();
    let descendant = Pidfd::open(pid).unwrap();
    crate::support::send(pid, Signal::KILL);
    assert!(descendant.ends_within(BOUND));
    let mut said = stub.ping();
    said.retain(|report| !report.starts_with("rest"));
    assert_eq!(said, [format!("reaped {pid} -")]);
    // Taken back, all is as before.
    stub.order("do on SIGCHLD default; start b { stay }");
    let pid = stub.started();
    stub.ping();
    crate::support::send(pid, Signal::KILL);
    stub.expect(&[&format!("reaped {pid} 9")]);
}

#[test]
fn one_that_ended_while_sigchld_was_ignored_shows_when_that_ends() {
    let script = "start a { stay }; start b { stay }; on SIGCHLD ignore";
    let mut stub = Stub::script(script);
    let pids = [stub.started(), stub.started()];
    stub.expect(&["idle"]);
    let first = Pidfd::open(pids[0]).unwrap();
    crate::support::send(pids[0], Signal::KILL);
    assert!(first.ends_within(BOUND));
    stub.order("do on SIGCHLD default");
    let mut said = stub.ping();
    said.retain(|report| report != "idle");
    assert_eq!(said, [format!("reaped {} -", pids[0])]);
    // The trap is back, too.
    crate::support::send(pids[1], Signal::KILL);
    stub.expect(&[&format!("reaped {} 9", pids[1])]);
}

#[test]
fn a_descendant_is_reaped_where_whoever_started_the_stub_ignored_sigchld() {
    let mut start = Start::new(Told::Inherited).args(["--script", "start a { exit 3 }; stay"]);
    // SAFETY: the closure makes one async-signal-safe call.
    unsafe {
        start.command.pre_exec(|| {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut stub = start.spawn();
    let pid = stub.started();
    stub.expect(&[&format!("reaped {pid} 768")]);
}

#[test]
fn the_end_of_a_descendant_takes_no_turn_unless_the_script_traps_sigchld() {
    let mut start = Start::new(Told::Path);
    let script = "start a { exit 0 }; on SIGCHLD count; start b { exit 1 }; stay";
    start
        .command
        .args(["--clock", "harness", "--script", script]);
    let mut stub = start.spawn();
    let first = stub.started();
    let second = stub.started();
    stub.expect(&["rest 0"]);
    let mut connections = BTreeMap::new();
    for _ in 0..2 {
        let (control, hello) = stub.next_connection();
        if let Report::Hello { pid, .. } = hello {
            connections.insert(pid, control);
        }
    }
    for (n, (pid, status)) in [(first, 0), (second, 256)].into_iter().enumerate() {
        let (id, orders) = (n + 1, n);
        let control = connections.get_mut(&pid).unwrap();
        control.expect(&["turn 1", "rest 0"]);
        control.order("go 1");
        // The reaping at once, the signal in its turn.
        let reaped = format!("reaped {pid} {status}");
        stub.expect(&[
            &reaped,
            &format!("turn {id} signal"),
            &format!("rest {orders}"),
        ]);
        stub.order(&format!("go {id}"));
        stub.expect(&[
            &format!("got SIGCHLD {id}"),
            &format!("rest {}", orders + 1),
        ]);
    }
}
