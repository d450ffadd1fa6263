//! Arguments and variables, good and bad.

use std::ffi::OsStr;
use std::os::fd::{AsRawFd, OwnedFd};
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
