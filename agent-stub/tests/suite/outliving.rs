//! Nothing keeps a stub from noticing the end of its harness or of its lifetime.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;

use crate::support::{
    BOUND, Owned, Start, Stub, Told, ended, inherit, program, readable_within,
    wait_until_nobody_reads,
};
use nix::fcntl::{Flock, FlockArg};

/// A pipe that stays open at both ends and that nobody reads.
fn unread_pipe() -> (std::io::PipeReader, std::io::PipeWriter) {
    std::io::pipe().unwrap()
}

#[test]
fn several_writers_of_one_full_pipe_never_block_in_the_write() {
    let (mut reader, writer) = unread_pipe();
    let mut stubs = [(); 3].map(|()| {
        let mut start = Start::new(Told::Inherited).args(["--script", "forever { write 4KiB }"]);
        start.command.stdout(writer.try_clone().unwrap());
        start.spawn()
    });
    // Each read makes room for one of them, and wakes them all.
    let mut chunk = [0; 4096];
    for _ in 0..400 {
        assert!(readable_within(reader.as_fd(), BOUND), "nobody writes");
        let _ = reader.read(&mut chunk).unwrap();
        for stub in &mut stubs {
            stub.order("ping 0");
        }
        for stub in &mut stubs {
            stub.until("pong 0");
        }
    }
}

/// Drops the control connection and says how the stub ended.
#[track_caller]
fn end_without_control(stub: Stub) -> String {
    let Stub {
        mut process,
        control,
        ..
    } = stub;
    drop(control);
    ended(process.end())
}

#[test]
fn an_endless_write_notices_orders_and_the_end_of_control() {
    let write = "write 1000000GiB";
    let stub = || {
        let mut start = Start::new(Told::Inherited).args(["--script", write]);
        start.command.stdout(std::process::Stdio::null());
        start.spawn()
    };
    assert_eq!(end_without_control(stub()), "exit 123");
    let mut stub = stub();
    stub.order("do exit 7");
    assert_eq!(ended(stub.process.end()), "exit 7");
}

#[test]
fn an_endless_write_notices_the_end_of_its_lifetime() {
    // real-time: the lifetime is one of real time.
    let mut command = program();
    command
        .args(["--lifetime", "50ms", "--script", "write 1000000GiB"])
        .stdout(std::process::Stdio::null());
    let mut stub = Owned(command.spawn().unwrap());
    assert_eq!(ended(stub.end()), "exit 124");
}

#[test]
fn a_harness_that_reads_nothing_does_not_hold_it_past_its_lifetime() {
    // real-time: the lifetime is one of real time.
    let mut stub = Start::new(Told::Inherited)
        .args(["--lifetime", "200ms", "--script", "forever { beat }"])
        .spawn();
    assert_eq!(ended(stub.process.end()), "exit 124");
}

#[test]
fn a_stub_that_is_always_reporting_notices_the_end_of_control() {
    for told in [Told::Inherited, Told::Path] {
        let start = Start::new(told).args(["--script", "forever { beat }"]);
        assert_eq!(end_without_control(start.spawn()), "exit 123");
    }
}

#[test]
fn a_full_standard_error_does_not_hold_it_past_its_lifetime() {
    let (_reader, writer) = unread_pipe();
    // real-time: the lifetime is one of real time.
    let script = "write stderr 1MiB";
    let mut command = program();
    command
        .args(["--lifetime", "200ms", "--script", script])
        .stderr(writer);
    let mut stub = Owned(command.spawn().unwrap());
    assert_eq!(ended(stub.end()), "exit 124");
}

#[test]
fn an_error_that_nobody_can_read_changes_no_exit_code() {
    let (reader, writer) = unread_pipe();
    drop(reader);
    wait_until_nobody_reads(&writer);
    let status = program().arg("--nonsense").stderr(writer).status().unwrap();
    assert_eq!(ended(status), "exit 64");
}

#[test]
fn a_heartbeat_that_nobody_reads_does_not_block_it() {
    let (_reader, mut writer) = unread_pipe();
    // As much as a pipe holds.
    writer.write_all(&[b'x'; 65536]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("notify");
    let _receiver = UnixDatagram::bind(&socket).unwrap();
    let sender = UnixDatagram::unbound().unwrap();
    sender.set_nonblocking(true).unwrap();
    while sender.send_to(b"x", &socket).is_ok() {}
    for beat in ["fd", "notify"] {
        let mut start = Start::new(Told::Inherited);
        start.command.env("NOTIFY_SOCKET", &socket);
        let number = inherit(&mut start.command, writer.try_clone().unwrap());
        let mut stub = start.spawn();
        stub.expect(&["idle"]);
        stub.order(&format!("do beat {beat}").replace("fd", &format!("fd {number}")));
        stub.order("do ready");
        stub.expect(&["ready"]);
        assert_eq!(end_without_control(stub), "exit 123");
    }
}

#[test]
fn a_fifo_that_nobody_reads_is_an_error_and_does_not_block_it() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let mut stub = Stub::idle(Told::Inherited);
    for what in ["ready file", "beat file", "hygiene file"] {
        stub.order(&format!("do {what} \"{}\"", fifo.display()));
        let error = stub.next().to_string();
        assert!(error.contains("No such device or address"), "{error}");
        stub.expect(&["idle"]);
    }
}

#[test]
fn a_counter_that_is_locked_is_waited_for_and_does_not_block_it() {
    let directory = tempfile::tempdir().unwrap();
    let counter = directory.path().join("runs");
    let locked = std::fs::File::create(&counter).unwrap();
    let locked = Flock::lock(locked, FlockArg::LockExclusive).unwrap();
    let script = format!("first 1 \"{}\" {{ exit 8 }}", counter.display());
    let stub = || {
        let mut stub = Stub::script(&script);
        assert_eq!(stub.ping(), [""; 0]);
        stub
    };
    let mut patient = stub();
    assert_eq!(end_without_control(stub()), "exit 123");
    drop(locked);
    assert_eq!(ended(patient.process.end()), "exit 8");
}
