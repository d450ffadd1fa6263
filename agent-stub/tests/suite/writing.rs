//! What is written, down to the byte; full pipes; streams closed and held.

use std::os::fd::AsFd;

use agent_stub::Signal;
use rstest::rstest;

use crate::support::{
    Start, Told, ended, read_all, readable_within, told, wait_until_nobody_reads,
};

/// The content of a `write` of that many bytes.
fn numbered(bytes: usize) -> String {
    let mut all = String::new();
    while all.len() < bytes {
        let start = all.len();
        all += &format!("{start:016} abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRST\n");
    }
    all.truncate(bytes);
    all
}

#[rstest]
fn writes_that_many_bytes_of_numbered_lines(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(0, 1, 64, 100, 4096, 4097, 1_000_001)] bytes: usize,
    #[values("", "stderr ")] stream: &str,
) {
    let mut stub = told(how, &format!("write {stream}{bytes}B; exit 0"));
    let written = match stream {
        "" => read_all(stub.process.0.stdout.take().unwrap()),
        _ => read_all(stub.process.0.stderr.take().unwrap()),
    };
    assert!(
        written == numbered(bytes).as_bytes(),
        "{} bytes",
        written.len()
    );
    assert_eq!(ended(stub.end()), "exit 0");
    if let Some(control) = &mut stub.control {
        let name = if stream.is_empty() {
            "stdout"
        } else {
            "stderr"
        };
        control.until(&format!("wrote {name} {bytes}"));
        control.expect(&["exiting 0"]);
    }
}

#[rstest]
fn writes_bytes_as_they_are_and_no_line_end_of_its_own(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let script = r#"write "part"; write "ial\n\t\r\\\"\x00\xff é"; write stderr "\xfe"; exit 0"#;
    let mut stub = told(how, script);
    let written = read_all(stub.process.0.stdout.take().unwrap());
    assert_eq!(written, b"partial\n\t\r\\\"\x00\xff \xc3\xa9");
    assert_eq!(read_all(stub.process.0.stderr.take().unwrap()), b"\xfe");
}

#[rstest]
fn writes_on_a_signal_just_before_the_exit(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let mut stub = told(
        how,
        "on SIGTERM { write 200KiB; exit 3 }; write \"up\\n\"; stay",
    );
    stub.read_until("up\n");
    stub.signal(Signal::TERM);
    assert!(stub.rest() == numbered(200 << 10));
    assert_eq!(ended(stub.end()), "exit 3");
}

#[rstest]
fn a_full_pipe_is_reported_and_orders_are_obeyed_until_it_is_read(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("stdout", "stderr")] stream: &str,
) {
    let mut stub = told(
        how,
        &format!("write {stream} 1MiB; exit 3").replace(" stdout", ""),
    );
    let control = stub.control.as_mut().unwrap();
    let blocked = format!("blocked {stream}");
    control.expect(&[&blocked]);
    for _ in 0..3 {
        assert_eq!(control.ping(), [""; 0]);
        control.order("do beat");
        control.expect(&["beat"]);
    }
    let written = match stream {
        "stdout" => read_all(stub.process.0.stdout.take().unwrap()),
        _ => read_all(stub.process.0.stderr.take().unwrap()),
    };
    assert!(written == numbered(1 << 20).as_bytes());
    let control = stub.control.as_mut().unwrap();
    control.expect(&[&format!("wrote {stream} 1048576"), "exiting 3"]);
}

#[test]
fn a_full_socket_is_treated_as_a_full_pipe() {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut start = Start::new(Told::Inherited).args(["--script", "write 4MiB; exit 3"]);
    start.command.stdout(std::os::fd::OwnedFd::from(theirs));
    let mut stub = start.spawn();
    stub.expect(&["blocked stdout"]);
    assert_eq!(stub.ping(), [""; 0]);
    assert!(read_all(ours) == numbered(4 << 20).as_bytes());
    stub.expect(&["wrote stdout 4194304", "exiting 3"]);
}

#[rstest]
fn a_handler_runs_while_a_pipe_is_full(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let script = "on SIGTERM { exit 5 }; write stderr \"up\\n\"; write 1MiB; exit 9";
    let mut stub = told(how, script);
    let stderr = stub.process.0.stderr.take().unwrap();
    assert!(readable_within(stderr.as_fd(), crate::support::BOUND));
    stub.signal(Signal::TERM);
    assert_eq!(ended(stub.end()), "exit 5");
}

#[rstest]
fn writing_where_nobody_reads_dies_of_sigpipe_or_fails_where_that_is_ignored(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    for (ignored, end) in [("", "die SIGPIPE"), ("on SIGPIPE ignore; ", "exit 71")] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        wait_until_nobody_reads(&writer);
        let script = format!("{ignored}write \"x\"; exit 3");
        let mut stub = crate::support::told_with(how, &script, |command| {
            command.stdout(writer);
        });
        match (&mut stub.control, ignored) {
            (Some(control), "on SIGPIPE ignore; ") => {
                // With somebody to tell, it goes on.
                let error = "error \"write stdout: Broken pipe (os error 32)\"";
                control.expect(&[error, "exiting 3"]);
            }
            _ => assert_eq!(ended(stub.end()), end),
        }
    }
}

#[rstest]
fn has_said_hello_before_its_first_statement_ends_it(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    wait_until_nobody_reads(&writer);
    let mut start = Start::new(how).args(["--script", "write \"x\""]);
    start.command.stdout(writer);
    let mut stub = start.spawn();
    assert_eq!(ended(stub.process.end()), "die SIGPIPE");
    assert_eq!(stub.rest_of_reports(), [""; 0]);
}

#[rstest]
fn closes_a_stream(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values("stdout", "stderr")] stream: &str,
) {
    let mut stub = told(how, &format!("close {stream}; stay"));
    // The end comes while it lives.
    let rest = match stream {
        "stdout" => read_all(stub.process.0.stdout.take().unwrap()),
        _ => read_all(stub.process.0.stderr.take().unwrap()),
    };
    assert_eq!(rest, b"");
    stub.signal(Signal::TERM);
    assert_eq!(ended(stub.end()), "die SIGTERM");
}

#[rstest]
fn closes_its_standard_input(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let (reader, writer) = std::io::pipe().unwrap();
    let mut stub =
        crate::support::told_with(how, "close stdin; write \"closed\\n\"; stay", |command| {
            command.stdin(reader);
        });
    stub.read_until("closed\n");
    wait_until_nobody_reads(&writer);
}

#[test]
fn a_closed_stream_cannot_be_written_to() {
    let mut stub = crate::support::Stub::script("close stdout; write \"x\"; close stdout");
    stub.expect(&[
        "error \"write stdout: Bad file descriptor (os error 9)\"",
        "error \"close stdout: Bad file descriptor (os error 9)\"",
        "idle",
    ]);
}

#[test]
fn nothing_is_lost_where_writes_are_cut_in_the_middle_of_a_line() {
    use nix::sys::socket::{setsockopt, sockopt};
    // A TCP connection with small buffers takes whatever fits, unlike a pipe.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    setsockopt(&listener, sockopt::RcvBuf, &2500).unwrap();
    let theirs = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    setsockopt(&theirs, sockopt::SndBuf, &2500).unwrap();
    let (ours, _) = listener.accept().unwrap();
    let mut start = Start::new(Told::Inherited).args(["--script", "write 256KiB; exit 3"]);
    start.command.stdout(std::os::fd::OwnedFd::from(theirs));
    let mut stub = start.spawn();
    stub.expect(&["blocked stdout"]);
    assert!(read_all(ours) == numbered(256 << 10).as_bytes());
    stub.until("wrote stdout 262144");
}
