//! Arguments and variables, good and bad.

use std::ffi::OsStr;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{UnixListener, UnixStream};

use rstest::rstest;

use crate::support::{Start, Stub, Told, alone, ended, inherit, program};

/// What the program says to these arguments before it exits with 64.
#[track_caller]
fn complaint(change: impl FnOnce(&mut std::process::Command)) -> String {
    let mut command = program();
    change(&mut command);
    let output = command.output().unwrap();
    assert_eq!(ended(output.status), "exit 64");
    let text = String::from_utf8(output.stderr).unwrap();
    let text = text.strip_prefix("agent-stub: ").expect("its name");
    text.trim_end().to_owned()
}

#[test]
fn an_argument_that_is_not_utf8_is_refused_or_taken_as_it_is() {
    let refused = complaint(|command| {
        command.arg(OsStr::from_bytes(b"\xff\xff="));
    });
    assert_eq!(
        refused,
        "unknown argument `\u{fffd}\u{fffd}=`: expected an option; --help lists them"
    );
    let mut command = program();
    command
        .arg(OsStr::from_bytes(b"--id=\xff="))
        .args(["--script", "exit 2"]);
    assert_eq!(ended(command.status().unwrap()), "exit 2");
}

#[test]
fn an_unknown_variable_is_reported_and_nothing_else_changes() {
    let mut start = Start::new(Told::Inherited);
    start
        .command
        .env("SUPERVISE_AGENT_CLOK", "harness")
        .env(OsStr::from_bytes(b"SUPERVISE_\xff"), "")
        .env("SUPERVISE_SEED", "7");
    start.spawn().expect(&[
        "error \"unknown variable SUPERVISE_AGENT_CLOK in the environment\"",
        "error \"unknown variable SUPERVISE_\u{fffd} in the environment\"",
        "idle",
    ]);
    let output = program()
        .env("SUPERVISE_TYPO", "")
        .args(["--script", "exit 3"])
        .output()
        .unwrap();
    assert_eq!(ended(output.status), "exit 3");
    assert_eq!(
        String::from_utf8(output.stderr).unwrap(),
        "agent-stub: unknown variable SUPERVISE_TYPO in the environment\n"
    );
}

#[test]
fn a_standard_stream_is_no_control_connection() {
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let refused = complaint(|command| {
        command.args(["--fd", "0"]).stdin(OwnedFd::from(theirs));
    });
    assert_eq!(
        refused,
        "--fd: expected the number of an open descriptor above 2, found `0`"
    );
}

#[rstest]
#[case(&["--nonsense"], "unknown argument `--nonsense`: expected an option; --help lists them")]
#[case(&["exit 3"], "unknown argument `exit 3`: expected an option; --help lists them")]
#[case(&["--script"], "--script: expected a value after it")]
#[case(&["--script", "stay", "--script", "exit 1"], "--script: given twice")]
#[case(&["--fd", "3", "--fd=3"], "--fd: given twice")]
#[case(&["--fd", "3", "--control", "@x"], "--fd and --control: expected one of them")]
#[case(&["--fd", "three"], "--fd: expected the number of an open descriptor above 2, found `three`")]
#[case(&["--fd", "-1"], "--fd: expected the number of an open descriptor above 2, found `-1`")]
#[case(&["--fd", "999"], "descriptor 999: the descriptor is not open")]
#[case(&["--control", ""], "--control: expected a path, or @ and an abstract name, found ``")]
#[case(&["--control", "/nonexistent/socket"],
    "connect to `/nonexistent/socket`: No such file or directory (os error 2)")]
#[case(&["--control", "@stub-test-nobody-listens"],
    "connect to `@stub-test-nobody-listens`: Connection refused (os error 111)")]
#[case(&["--clock", "none"], "--clock: expected real or harness, found `none`")]
#[case(&["--clock", "harness", "--script", "stay"],
    "--clock harness: expected a control connection to ask")]
#[case(&["--lifetime", "60"], "--lifetime: expected a time such as 60s, more than none, found `60`")]
#[case(&["--lifetime", "0s"], "--lifetime: expected a time such as 60s, more than none, found `0s`")]
#[case(&["--lifetime", "1s; exit 3"],
    "--lifetime: expected a time such as 60s, more than none, found `1s; exit 3`")]
#[case(&["--script", "run 1s;\nexit"],
    "--script: line 2, column 5: expected an exit code from 0 to 255, found the end of the script")]
#[case(&["--id", "a"], "expected a script or a control connection; --help says how")]
#[case(&[], "expected a script or a control connection; --help says how")]
fn a_bad_option_is_named_with_what_was_expected(#[case] args: &[&str], #[case] error: &str) {
    assert_eq!(
        complaint(|command| {
            command.args(args);
        }),
        error
    );
}

#[rstest]
#[case(
    "SUPERVISE_AGENT_CLOCK",
    "none",
    "expected real or harness, found `none`"
)]
#[case(
    "SUPERVISE_AGENT_LIFETIME",
    "long",
    "expected a time such as 60s, more than none, found `long`"
)]
#[case(
    "SUPERVISE_AGENT_FD",
    "x",
    "expected the number of an open descriptor above 2, found `x`"
)]
#[case(
    "SUPERVISE_AGENT_CONTROL",
    "",
    "expected a path, or @ and an abstract name, found ``"
)]
fn a_bad_variable_is_named_with_what_was_expected(
    #[case] variable: &str,
    #[case] value: &str,
    #[case] error: &str,
) {
    let found = complaint(|command| {
        command.env(variable, value);
    });
    assert_eq!(found, format!("{variable}: {error}"));
}

#[test]
fn a_descriptor_that_is_no_connected_socket_is_refused() {
    let file = tempfile::tempfile().unwrap();
    let error = complaint(|command| {
        let number = inherit(command, file).to_string();
        command.args(["--fd", &number]);
    });
    // The C libraries word it differently.
    let cause = std::io::Error::from_raw_os_error(nix::libc::ENOTSOCK);
    assert!(
        error.ends_with(&format!(": no connected socket: {cause}")),
        "{error}"
    );
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let error = complaint(|command| {
        let number = inherit(command, listener).to_string();
        command.args(["--fd", &number]);
    });
    assert!(error.contains(": no connected socket: "), "{error}");
}

#[test]
fn an_argument_beats_its_variable_and_its_rival() {
    let mut start = Start::new(Told::Inherited).args(["--id", "argument", "--lifetime=39s"]);
    start
        .command
        .env("SUPERVISE_AGENT_ID", "variable")
        .env("SUPERVISE_AGENT_LIFETIME", "1ns")
        .env("SUPERVISE_AGENT_CONTROL", "@stub-test-nobody-listens");
    start.spawn().expect(&["idle"]);
}

#[test]
fn variables_alone_are_enough() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut command = program();
    let number = inherit(&mut command, theirs).to_string();
    command
        .env("SUPERVISE_AGENT_FD", number)
        .env("SUPERVISE_AGENT_ID", "a \"name\"");
    let child = crate::support::Owned(command.spawn().unwrap());
    drop(command);
    let mut control = crate::support::Control::over(ours);
    let ppid = std::process::id();
    control.expect(&[
        &format!("hello 2 {} {ppid} \"a \\\"name\\\"\"", child.pid()),
        "idle",
    ]);
}

#[rstest]
fn ends_with_123_when_control_ends(
    #[values(Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(
        "stay",
        "run 1h",
        "gate g",
        "gate file /nonexistent",
        "write 1MiB",
        "forever { }",
        "repeat 4000000000 { }"
    )]
    doing: &str,
) {
    let mut stub = Stub::idle(how);
    stub.order(&format!("do {doing}"));
    drop(stub.control);
    assert_eq!(ended(stub.process.end()), "exit 123");
}

#[test]
fn ends_with_123_when_control_ends_in_the_middle_of_a_line() {
    let mut stub = Stub::idle(Told::Inherited);
    std::io::Write::write_all(&mut stub.control.socket, b"do exit 3").unwrap();
    drop(stub.control);
    assert_eq!(ended(stub.process.end()), "exit 123");
}

#[rstest]
fn ends_with_124_at_the_end_of_its_lifetime(
    #[values(
        "stay",
        "run 1h",
        "gate file /nonexistent",
        "write 1MiB",
        "forever { }",
        "repeat 4000000000 { }"
    )]
    doing: &str,
) {
    // real-time: the lifetime is one of real time.
    let mut command = program();
    command.args(["--lifetime", "60ms", "--script", doing]);
    let mut stub = crate::support::Owned(command.spawn().unwrap());
    assert_eq!(ended(stub.end()), "exit 124");
    assert_eq!(stub.errors(), "agent-stub: the lifetime is over\n");
}

#[test]
fn the_end_of_the_lifetime_is_told_to_the_harness() {
    let mut start = Start::new(Told::Path);
    start.command.env("SUPERVISE_AGENT_LIFETIME", "60ms");
    let mut stub = start.spawn();
    stub.expect(&["idle", "error \"the lifetime is over\""]);
    assert_eq!(ended(stub.process.end()), "exit 124");
}

#[test]
fn a_script_without_control_cannot_pass_a_gate_that_only_control_opens() {
    let mut stub = alone("gate \"a b\"; exit 0");
    assert_eq!(ended(stub.end()), "exit 71");
    assert_eq!(
        stub.errors(),
        "agent-stub: gate \"a b\": nobody can open it without a control connection\n"
    );
}
