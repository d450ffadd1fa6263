//! The hygiene report: what was inherited shows, and what was not does not.

use std::os::unix::process::CommandExt;
use std::process::Command;

use agent_stub::protocol::Report;
use agent_stub::{Finding, Hygiene, Quoted, Signal};
use nix::libc;
use rstest::rstest;

use crate::support::{Told, ended, inherit, told, told_with};

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
    without_the_c_librarys(hygiene)
}

/// Without the C library's own signals, which its posix_spawn leaves ignored.
fn without_the_c_librarys(mut hygiene: Hygiene) -> Hygiene {
    hygiene
        .ignored
        .retain(|signal| !matches!(signal.number(), 32 | 33));
    hygiene
}

/// What this process ignores and a child inherits: under nohup, or behind a shell's `&`, something. Of
/// SIGPIPE, std makes a child's own.
fn ignored_here() -> Vec<Signal> {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .unwrap();
    let mask = u64::from_str_radix(mask.trim(), 16).unwrap();
    Signal::all()
        .filter(|signal| mask >> (signal.number() - 1) & 1 == 1)
        .filter(|signal| *signal != Signal::PIPE && !matches!(signal.number(), 32 | 33))
        .collect()
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

/// Runs the closure in the process before it becomes a stub.
fn before_exec(command: &mut Command, call: impl FnMut() + Send + Sync + 'static) {
    let mut call = call;
    // SAFETY: the callers' closures make async-signal-safe calls only.
    unsafe {
        command.pre_exec(move || {
            call();
            Ok(())
        });
    }
}

#[rstest]
fn an_ignored_sigpipe_shows_and_only_then(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let clean = report(how, |_| {});
    assert_eq!(clean.ignored, ignored_here());
    let hygiene = report(how, |command| {
        before_exec(command, || {
            // SAFETY: scalar arguments only.
            unsafe {
                libc::signal(libc::SIGPIPE, libc::SIG_IGN);
                libc::signal(libc::SIGRTMAX(), libc::SIG_IGN);
            }
        });
    });
    let mut expected = ignored_here();
    expected.extend([Signal::PIPE, Signal::from_number(64).unwrap()]);
    expected.sort_by_key(|signal| signal.number());
    assert_eq!(hygiene.ignored, expected);
}

#[rstest]
fn a_blocked_sigterm_shows_and_only_then(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    assert_eq!(report(how, |_| {}).blocked, []);
    let hygiene = report(how, |command| {
        before_exec(command, || {
            use nix::sys::signal::{SigSet, Signal};
            let _ = SigSet::from_iter([Signal::SIGTERM]).thread_block();
        });
    });
    assert_eq!(hygiene.blocked, [Signal::TERM]);
}

#[rstest]
fn a_signal_at_the_parents_death_shows_and_only_then(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    assert_eq!(report(how, |_| {}).parent_death, None);
    let hygiene = report(how, |command| {
        before_exec(command, || {
            // SAFETY: scalar arguments only. The thread that starts it waits for its report.
            unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) };
        });
    });
    assert_eq!(hygiene.parent_death, Some(Signal::TERM));
}

#[rstest]
fn a_closed_stream_shows_and_only_then(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(0, 2)] stream: i32,
) {
    let open: Vec<u32> = report(how, |_| {}).descriptors.into_keys().collect();
    assert_eq!(open[..3], [0, 1, 2]);
    let hygiene = report(how, |command| {
        before_exec(command, move || {
            // SAFETY: a scalar argument; the descriptor is the new process's own.
            unsafe { libc::close(stream) };
        });
    });
    let closed: Vec<u32> = hygiene.descriptors.into_keys().collect();
    let expected: Vec<i32> = [0, 1, 2].into_iter().filter(|n| *n != stream).collect();
    assert_eq!(
        closed[..2],
        expected
            .iter()
            .map(|n| n.unsigned_abs())
            .collect::<Vec<_>>()
    );
}

#[rstest]
fn an_extra_descriptor_shows_and_only_then(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    // Whoever runs the tests may have left some open; an inherited control connection is another.
    let files = |hygiene: Hygiene| {
        let mut descriptors = hygiene.descriptors;
        descriptors.retain(|_, target| !target.0.starts_with(b"socket:"));
        descriptors
    };
    let clean = files(report(how, |_| {}));
    assert_eq!(clean[&0], Quoted::from("/dev/null"));
    assert!(clean[&1].0.starts_with(b"pipe:["));

    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().canonicalize().unwrap();
    let mut number = 0;
    let hygiene = report(how, |command| {
        number = inherit(command, file.reopen().unwrap());
    });
    let mut extra = files(hygiene);
    let target = extra.remove(&number.unsigned_abs());
    assert_eq!(target, Some(Quoted::from(path.to_str().unwrap())));
    assert_eq!(extra.len(), clean.len(), "{extra:?}");
    assert!(extra.keys().eq(clean.keys()), "{extra:?}");
}

#[rstest]
fn the_file_mode_mask_shows(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
    #[values(0o000, 0o022, 0o157)] mask: u32,
) {
    let hygiene = report(how, |command| {
        before_exec(command, move || {
            // SAFETY: a scalar argument.
            unsafe { libc::umask(mask) };
        });
    });
    assert_eq!(hygiene.umask, mask);
}

#[rstest]
fn ids_directory_environment_and_limits_show(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let directory = tempfile::tempdir().unwrap();
    let cwd = directory.path().canonicalize().unwrap();
    let long = "x".repeat(80_000);
    let hygiene = report(how, |command| {
        command
            .current_dir(&cwd)
            .env("ODD", "a \"b\"\n\u{e9}")
            .env("LONG", &long)
            .process_group(0);
        before_exec(command, || {
            use nix::sys::resource::{Resource, setrlimit};
            let _ = setrlimit(Resource::RLIMIT_NOFILE, 99, 100);
        });
    });
    assert_eq!(hygiene.ppid, std::process::id());
    assert_eq!(hygiene.pgid, hygiene.pid);
    assert_ne!(hygiene.sid, hygiene.pid);
    assert_eq!(hygiene.cwd, Quoted::from(cwd.to_str().unwrap()));
    let has = |entry: &str| hygiene.environment.contains(&Quoted::from(entry));
    assert!(has("ODD=a \"b\"\n\u{e9}"));
    assert!(has("SUPERVISE_AGENT_LIFETIME=40s"));
    // By its key alone: it is longer than a line.
    assert!(has("LONG"));
    assert_eq!(hygiene.environment.len(), 3);
    assert_eq!(hygiene.limits["Max open files"], (Some(99), Some(100)));
    assert!(hygiene.limits.contains_key("Max cpu time"));
}

#[rstest]
fn the_report_is_of_what_was_inherited_not_of_what_came_later(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let directory = tempfile::tempdir().unwrap();
    let (before, after) = (
        directory.path().join("before"),
        directory.path().join("after"),
    );
    let lock = directory.path().join("lock");
    let script = format!(
        "hygiene file {before:?}; on SIGPIPE ignore; on SIGHUP count; block SIGTERM; close stdin; lock {lock:?}; \
         hygiene file {after:?}; exit 0"
    );
    assert_eq!(ended(told(how, &script).end()), "exit 0");
    let [before, after] = [before, after].map(|file| std::fs::read_to_string(file).unwrap());
    assert_eq!(before, after);
    assert_eq!(without_the_c_librarys(read(&after)).ignored, ignored_here());
}

#[rstest]
fn the_report_goes_where_it_is_told(
    #[values(Told::Alone, Told::Inherited, Told::Path, Told::Abstract)] how: Told,
) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("report");
    std::fs::write(&file, "what was there before\n".repeat(1000)).unwrap();
    let mut stub = told(
        how,
        &format!("hygiene file {file:?}; hygiene stdout; exit 0"),
    );
    assert_eq!(ended(stub.end()), "exit 0");
    let text = stub.rest();
    assert_eq!(std::fs::read_to_string(file).unwrap(), text);
    assert_eq!(read(&text).pid, stub.pid());
}
