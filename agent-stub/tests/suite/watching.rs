//! By the harness's clock, what nothing tells of but looking is looked at when it pings.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::time::Duration;

use agent_stub::{Quoted, Signal};
use nix::fcntl::{Flock, FlockArg};

use crate::support::{Stub, ended, readable_within};

/// real-time: a stub that looks by itself would say so within 2 ms; nothing tells that it never will.
const QUIET: Duration = Duration::from_millis(30);

#[test]
fn a_file_is_looked_for_at_each_ping_and_only_then() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let watching = format!("watching {}", Quoted::from(file.to_str().unwrap()));
    let mut stub = Stub::waiting(&format!("on SIGUSR1 count; gate file {file:?}; exit 3"));
    stub.expect(&[&watching, "rest 0"]);
    assert_eq!(stub.ping(), [""; 0]);
    fs::write(&file, "").unwrap();
    assert!(!readable_within(stub.control.socket.as_fd(), QUIET));
    // Nor do a signal and an order make it look; it says again what it waits for.
    stub.process.signal(Signal::USR1);
    stub.expect(&["turn 1 signal", &watching, "rest 0"]);
    stub.order("go 1");
    stub.expect(&["got SIGUSR1 1", &watching, "rest 1"]);
    stub.order("do on SIGUSR2 count");
    stub.expect(&[&watching, "rest 2"]);
    // What it finds comes before the answer.
    assert_eq!(stub.ping(), ["turn 2", "rest 2"]);
    stub.order("go 2");
    stub.expect(&["exiting 3"]);
    assert_eq!(ended(stub.process.end()), "exit 3");
}

#[test]
fn a_file_that_is_gone_again_at_the_ping_was_never_there() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let mut stub = Stub::waiting(&format!("gate file {file:?}; exit 3"));
    stub.until("rest 0");
    fs::write(&file, "").unwrap();
    fs::remove_file(&file).unwrap();
    assert_eq!(stub.ping(), [""; 0]);
}

#[test]
fn one_ping_is_answered_after_all_that_it_finds() {
    let directory = tempfile::tempdir().unwrap();
    let files = ["a", "b", "c"].map(|name| directory.path().join(name));
    let [a, b, c] = &files;
    let mut stub = Stub::waiting(&format!(
        "gate file {a:?}; gate file {b:?}; gate file {c:?}; run 1s; stay"
    ));
    let watching =
        |file: &std::path::Path| format!("watching {}", Quoted::from(file.to_str().unwrap()));
    stub.expect(&[&watching(a), "rest 0"]);
    fs::write(a, "").unwrap();
    fs::write(b, "").unwrap();
    assert_eq!(stub.ping(), [watching(c), "rest 0".to_owned()]);
    fs::write(c, "").unwrap();
    assert_eq!(stub.ping(), ["wait 1 1000000000", "rest 0"]);
}

#[test]
fn a_file_that_is_there_already_is_not_waited_for() {
    let mut stub = Stub::waiting("gate file /; run 1s");
    stub.expect(&["wait 1 1000000000", "rest 0"]);
}

#[test]
fn what_a_handler_interrupts_watches_again_once_it_is_done() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let watching = format!("watching {}", Quoted::from(file.to_str().unwrap()));
    let mut stub = Stub::waiting(&format!(
        "on SIGTERM {{ run 1s }}; gate file {file:?}; run 2s"
    ));
    stub.expect(&[&watching, "rest 0"]);
    stub.process.signal(Signal::TERM);
    stub.expect(&["turn 1 signal", &watching, "rest 0"]);
    stub.order("go 1");
    stub.expect(&["got SIGTERM 1", "wait 2 1000000000", "rest 1"]);
    fs::write(&file, "").unwrap();
    // The handler stands above it, and watches nothing.
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 2");
    stub.expect(&[&watching, "rest 2"]);
    assert_eq!(stub.ping(), ["wait 3 2000000000", "rest 2"]);
}

#[test]
fn a_counter_that_another_holds_is_looked_at_when_pinged() {
    let directory = tempfile::tempdir().unwrap();
    let counter = directory.path().join("runs");
    let watching = format!("watching {}", Quoted::from(counter.to_str().unwrap()));
    let locked = File::create(&counter).unwrap();
    let locked = Flock::lock(locked, FlockArg::LockExclusive).unwrap();
    let mut stub = Stub::waiting(&format!("first 1 {counter:?} {{ exit 8 }}"));
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&[&watching, "rest 1"]);
    assert_eq!(stub.ping(), [""; 0]);
    drop(locked);
    assert!(!readable_within(stub.control.socket.as_fd(), QUIET));
    assert_eq!(stub.ping(), ["turn 2", "rest 1"]);
    stub.order("go 2");
    // It has counted; its block acts in a turn of its own.
    stub.expect(&["turn 3", "rest 2"]);
    assert_eq!(fs::read_to_string(&counter).unwrap(), "1");
    stub.order("go 3");
    stub.expect(&["exiting 8"]);
}
