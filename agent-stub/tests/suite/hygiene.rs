//! The hygiene report: what was inherited shows, and what was not does not.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use agent_stub::protocol::Report;
use agent_stub::{Finding, Hygiene, Quoted, Signal};
use nix::libc;
use rstest::rstest;

use crate::support::{
    Start, Stub, Told, alone, ended, inherit, program, read_all, told, told_with,
};

/// Takes the report of a stub, and reads it where it was told to go.
#[track_caller]
fn report(how: Told, change: impl FnOnce(&mut Command)) -> Hygiene {
    let mut stub = told_with(how, "hygiene; exit 0", change);
    let mut hygiene = Hygiene::default();
    match &mut stub.control {
        Some(control) => {
            let mut whole = false;
            while !whole {
                match control.next() {
                    Report::Hygiene(finding) => {
                        whole = finding == Finding::End;
                        hygiene.add(finding);
                    }
                    other => panic!("expected a finding, got {other}"),
                }
            }
        }
        None => hygiene = read(&stub.rest()),
    }
    assert_eq!(ended(stub.end()), "exit 0");
    hygiene
}

/// Reads a report from lines.
#[track_caller]
fn read(lines: &str) -> Hygiene {
    let mut hygiene = Hygiene::default();
    assert!(lines.ends_with("\nend\n"), "{lines}");
    for line in lines.lines() {
        match format!("hygiene {line}").parse() {
            Ok(Report::Hygiene(finding)) => hygiene.add(finding),
            other => panic!("{line}: {other:?}"),
        }
    }
    hygiene
}

#[test]
fn a_working_directory_that_was_removed_shows_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().canonicalize().unwrap();
    let hygiene = report(Told::Inherited, |command| {
        command.current_dir(&path);
        let remove = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: the closure makes one async-signal-safe call, with a string that it owns.
        unsafe {
            command.pre_exec(move || match libc::rmdir(remove.as_ptr()) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            });
        }
    });
    assert_eq!(
        hygiene.cwd,
        Quoted::from(format!("{} (deleted)", path.display()).as_str())
    );
}
