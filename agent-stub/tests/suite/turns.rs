//! By the harness's clock: what others can see waits for its turn, and one turn is one act.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use agent_stub::Signal;
use rstest::rstest;

use crate::freezing::wait_until_stopped;
use crate::support::{Pidfd, Start, Stub, Told, ended, inherit, read_all, readable_within};

/// real-time: a stub that looks again by itself would say so within 2 ms; nothing tells that it never will.
const QUIET: Duration = Duration::from_millis(30);

fn start(script: &str) -> Start {
    Start::new(Told::Inherited).args(["--clock", "harness", "--script", script])
}

#[rstest]
#[case("ready", &["ready"])]
#[case("beat", &["beat"])]
#[case("write \"x\"", &["writing stdout 1", "wrote stdout 1"])]
#[case("write stderr 3B", &["writing stderr 3", "wrote stderr 3"])]
#[case("close stdin", &[])]
#[case("lock DIR/f", &["locked \"DIR/f\""])]
#[case("ready file DIR/f", &[])]
#[case("beat file DIR/f", &[])]
#[case("hygiene file DIR/f", &[])]
#[case("first 1 DIR/f { }", &[])]
#[case("first 9 DIR/f { run 1s }", &["wait ID 1000000000"])]
fn each_act_asks_for_a_turn_of_its_own(#[case] act: &str, #[case] reports: &[&str]) {
    let directory = tempfile::tempdir().unwrap();
    let here = |text: &str| text.replace("DIR", &directory.path().display().to_string());
    // Each of another file, since a lock is held.
    let another = |text: &str| here(&text.replace("/f", "/g"));
    let second = another(&act.replace("stdin", "stderr"));
    let mut stub = start(&format!("{}; {second}; stay", here(act))).spawn();
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    let wait = reports.iter().any(|report| report.starts_with("wait"));
    for report in reports {
        stub.expect(&[&here(&report.replace("ID", "2"))]);
    }
    if wait {
        // Its go is for the act that follows the wait.
        stub.expect(&["rest 1"]);
        stub.order("go 2");
        stub.expect(&["wait 3 1000000000", "rest 2"]);
        return;
    }
    stub.expect(&["turn 2", "rest 1"]);
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 2");
    for report in reports {
        stub.expect(&[&another(report)]);
    }
    stub.expect(&["rest 2"]);
}

#[rstest]
fn a_file_is_touched_in_the_turn_and_not_before(
    #[values("lock", "ready file", "beat file", "hygiene file", "first 1")] act: &str,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let block = if act == "first 1" { "{ }" } else { "" };
    let mut stub = start(&format!("{act} {file:?} {block}; stay")).spawn();
    stub.expect(&["turn 1", "rest 0"]);
    assert_eq!(stub.ping(), [""; 0]);
    assert!(!file.exists());
    stub.order("go 1");
    stub.until("rest 1");
    assert!(file.exists());
}

#[rstest]
fn a_stream_is_touched_in_the_turn_and_not_before(
    #[values(
        "write \"x\"",
        "hygiene stdout",
        "close stdout",
        "exit 3",
        "die SIGKILL"
    )]
    act: &str,
) {
    let mut stub = start(&format!("{act}; stay")).spawn();
    stub.expect(&["turn 1", "rest 0"]);
    assert_eq!(stub.ping(), [""; 0]);
    let stdout = stub.process.0.stdout.take().unwrap();
    assert!(!readable_within(stdout.as_fd(), Duration::ZERO));
    stub.order("go 1");
    assert!(readable_within(stdout.as_fd(), crate::support::BOUND));
}

#[rstest]
#[case("exit 3", "exiting 3", "exit 3")]
#[case("die SIGTERM", "dying SIGTERM", "die SIGTERM")]
#[case("on SIGTERM { exit 1 }; die SIGTERM", "dying SIGTERM", "die SIGTERM")]
#[case("block SIGTERM; die SIGTERM", "dying SIGTERM", "die SIGTERM")]
fn it_ends_in_its_turn_and_not_before(#[case] act: &str, #[case] word: &str, #[case] end: &str) {
    let mut stub = start(act).spawn();
    stub.expect(&["turn 1", "rest 0"]);
    assert_eq!(stub.ping(), [""; 0]);
    let process = Pidfd::open(stub.process.pid()).unwrap();
    assert!(!process.ends_within(Duration::ZERO));
    stub.order("go 1");
    stub.expect(&[word]);
    assert_eq!(ended(stub.process.end()), end);
}

#[test]
fn it_freezes_in_its_turn_and_thaws_when_it_is_continued() {
    let mut stub = Stub::waiting("on SIGTERM count; freeze; beat; stay");
    stub.expect(&["turn 1", "rest 0"]);
    let pid = stub.process.pid();
    // It still answers.
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 1");
    stub.expect(&["freezing"]);
    wait_until_stopped(pid);
    stub.process.signal(Signal::TERM);
    stub.process.signal(Signal::CONT);
    // What it does next takes turns again.
    stub.expect(&["thawed", "turn 2 signal", "turn 3", "rest 1"]);
    stub.order("go 2");
    stub.expect(&["got SIGTERM 1", "rest 2"]);
    stub.order("go 3");
    stub.expect(&["beat", "rest 3"]);
}

#[test]
fn a_turn_that_comes_while_it_is_frozen_is_taken_after_the_thaw() {
    let mut stub = Stub::waiting("freeze; beat; stay");
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["freezing"]);
    wait_until_stopped(stub.process.pid());
    stub.order("do ready");
    stub.process.signal(Signal::CONT);
    stub.expect(&["thawed", "turn 2", "rest 1", "ready", "rest 2"]);
    stub.order("go 2");
    stub.expect(&["beat", "rest 3"]);
}

#[test]
fn a_gate_is_told_in_a_turn_and_its_opening_is_a_turn() {
    let mut stub = Stub::waiting("gate a; beat; ready; stay");
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["gate \"a\"", "rest 1"]);
    stub.order("open \"a\"");
    stub.expect(&["beat", "turn 2", "rest 2"]);
    stub.order("go 2");
    stub.expect(&["ready", "rest 3"]);
}

#[test]
fn an_order_is_a_turn_for_its_first_act() {
    let mut stub = Stub::waiting("stay");
    stub.expect(&["rest 0"]);
    stub.order("do on SIGTERM count; repeat 2 { beat }");
    stub.expect(&["beat", "turn 1", "rest 1"]);
    stub.order("go 1");
    stub.expect(&["beat", "rest 2"]);
}

#[test]
fn the_end_of_a_wait_is_a_turn_for_the_first_act_after_it_wherever_that_stands() {
    let mut stub = Stub::waiting("repeat 2 { run 1s; on SIGTERM count; repeat 1 { beat } }; stay");
    stub.expect(&["wait 1 1000000000", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["beat", "wait 2 1000000000", "rest 1"]);
    stub.order("go 2");
    stub.expect(&["beat", "rest 2"]);
}

#[test]
fn a_turn_that_is_not_used_is_gone_at_the_next_rest() {
    let mut stub = Stub::waiting("run 1s; run 2s; beat; stay");
    stub.expect(&["wait 1 1000000000", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["wait 2 2000000000", "rest 1"]);
    // Another's number: it has come to nothing by the time that the wait is over.
    stub.order("go 3");
    assert_eq!(stub.ping(), ["rest 2"]);
    stub.order("do on SIGTERM count");
    assert_eq!(stub.ping(), ["rest 3"]);
    stub.order("go 2");
    stub.expect(&["beat", "rest 4"]);
}

#[test]
fn what_nobody_sees_takes_no_turn() {
    let script = "on SIGTERM count; on SIGUSR1 { beat }; on SIGUSR1 default; block SIGHUP; unblock SIGHUP; \
                  repeat 3 { }; start a quiet { stay }; run 1s; stay";
    let mut stub = Stub::waiting(script);
    stub.started();
    stub.expect(&["wait 1 1000000000", "rest 0"]);
}

/// Of two that write to one pipe the kernel would choose who goes on.
#[test]
fn a_writer_that_is_blocked_rests_and_goes_on_in_its_turn() {
    let mut stub = Stub::waiting("write 192KiB; beat; stay");
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["blocked stdout", "rest 1"]);
    let read = |stub: &mut Stub, length| {
        let stdout = stub.process.0.stdout.as_mut().unwrap();
        stdout.read_exact(&mut vec![0; length]).unwrap();
    };
    read(&mut stub, 64 << 10);
    stub.expect(&["turn 2", "rest 1"]);
    assert_eq!(stub.ping(), [""; 0]);
    stub.order("go 2");
    stub.expect(&["rest 2"]);
    // Room for one chunk is enough to ask.
    read(&mut stub, 4096);
    stub.expect(&["turn 3", "rest 2"]);
    read(&mut stub, (64 << 10) - 4096);
    stub.order("go 3");
    stub.expect(&["wrote stdout 196608", "turn 4", "rest 3"]);
    stub.order("go 4");
    stub.expect(&["beat", "rest 4"]);
}

/// A word that finds no room: it rests until there is some, and then asks for another turn.
fn a_word_without_room(stub: &mut Stub, make_room: impl FnOnce()) {
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["rest 1"]);
    assert!(
        !readable_within(stub.control.socket.as_fd(), QUIET),
        "it does not wait for room"
    );
    assert_eq!(stub.ping(), [""; 0]);
    make_room();
    stub.expect(&["turn 2", "rest 1"]);
    stub.order("go 2");
    stub.expect(&["rest 2"]);
}

#[rstest]
fn a_word_that_finds_a_full_pipe_waits_for_room(#[values("ready", "beat")] word: &str) {
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    writer.write_all(&[b'x'; 65536]).unwrap();
    let mut start = start(&format!("{word} fd {}; stay", writer.as_raw_fd()));
    inherit(&mut start.command, writer);
    let mut stub = start.spawn();
    a_word_without_room(&mut stub, || {
        reader.read_exact(&mut [0; 65536]).unwrap();
    });
    let mut word = [0];
    reader.read_exact(&mut word).unwrap();
    assert_eq!(word, *b"\n");
}

#[rstest]
#[case("ready", "READY=1")]
#[case("beat", "WATCHDOG=1")]
fn a_word_that_finds_a_full_socket_waits_for_room(#[case] word: &str, #[case] datagram: &str) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"x", &path).is_ok() {}
    receiver.set_nonblocking(true).unwrap();
    let received = || {
        let mut bytes = [0; 64];
        let length = receiver.recv(&mut bytes).ok()?;
        Some(String::from_utf8(bytes[..length].to_vec()).unwrap())
    };
    let mut start = start(&format!("{word} notify; stay"));
    start.command.env("NOTIFY_SOCKET", &path);
    let mut stub = start.spawn();
    a_word_without_room(&mut stub, || while received().is_some() {});
    assert_eq!(received().as_deref(), Some(datagram));
}

#[test]
fn a_word_that_finds_a_full_fifo_waits_for_room() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let mut options = std::fs::OpenOptions::new();
    let mut both = options.read(true).write(true).open(&fifo).unwrap();
    both.write_all(&[b'x'; 65536]).unwrap();
    let mut stub = Stub::waiting(&format!("ready file {fifo:?}; stay"));
    a_word_without_room(&mut stub, || {
        both.read_exact(&mut [0; 65536]).unwrap();
    });
    let mut word = [0; 6];
    both.read_exact(&mut word).unwrap();
    assert_eq!(word, *b"ready\n");
}

#[test]
fn a_full_socket_whose_reader_goes_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let receiver = UnixDatagram::bind(&path).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"x", &path).is_ok() {}
    let mut start = start("ready notify; stay");
    start.command.env("NOTIFY_SOCKET", &path);
    let mut stub = start.spawn();
    stub.expect(&["turn 1", "rest 0"]);
    stub.order("go 1");
    stub.expect(&["rest 1"]);
    drop(receiver);
    stub.expect(&["turn 2", "rest 1"]);
    stub.order("go 2");
    let error = "error \"ready notify: Connection refused (os error 111)\"";
    stub.expect(&[error, "rest 2"]);
}

#[test]
fn a_closed_harness_ends_it_while_it_waits_for_its_turn() {
    let mut stub = Stub::waiting("beat");
    stub.expect(&["turn 1", "rest 0"]);
    let stdout = stub.process.0.stdout.take().unwrap();
    drop(stub.control);
    assert_eq!(ended(stub.process.end()), "exit 123");
    assert_eq!(read_all(stdout), b"");
}
