//! Every error of a start, and that it leaves nothing behind.

use std::error::Error;
use std::fs::{self, File, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supervise_harness::supervisor::{SpawnError, SpawnerOptions};
use tempfile::TempDir;

use super::super::child;
use super::tools::{has_child, open_count, refuse, sleeper};

/// The error of a start with these options, which must leave no descriptor and no child.
#[track_caller]
fn error_of(options: SpawnerOptions) -> SpawnError {
    let spawner = options.build().expect("valid options");
    let before = open_count();
    let error = spawner.spawn("tested").expect_err("no start");
    assert_eq!(open_count(), before, "descriptors after: {error}");
    assert!(!has_child(), "a child after: {error}");
    error
}

/// A file with this text and mode.
fn file(text: &str, mode: u32) -> (TempDir, PathBuf) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("program");
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    (dir, path)
}

fn program(path: impl Into<PathBuf>) -> SpawnerOptions {
    SpawnerOptions::new().agent_path(path)
}

#[test]
fn options_without_a_path() {
    let error = SpawnerOptions::new().build().unwrap_err();
    assert!(matches!(error, SpawnError::NoAgentPath));
    let error = program("").build().unwrap_err();
    assert!(matches!(error, SpawnError::NoAgentPath));
}

#[test]
fn a_working_directory_that_cannot_be_entered_is_named_and_nothing_runs() {
    child::run(
        "spawner::errors::a_working_directory_that_cannot_be_entered_is_named_and_nothing_runs",
        || {
            let (dir, script) = file("#!/bin/sh\ntouch ran\n", 0o755);
            for working in [dir.path().join("missing"), script.clone()] {
                let error = error_of(program(&script).current_dir(&working));
                assert!(matches!(&error, SpawnError::CurrentDir { dir, .. } if *dir == working));
                let text = error.to_string();
                assert!(
                    text.contains("cannot enter its working directory"),
                    "{text}"
                );
                assert!(!dir.path().join("ran").exists());
            }
        },
    );
    let error = program("/bin/true").current_dir("a\0b").build();
    let error = error.unwrap_err().to_string();
    assert!(error.contains("working directory"), "{error}");
}

#[test]
fn environment_entries_that_cannot_be_passed_on_are_named() {
    for (key, value, reason) in [
        ("", "x", "name is empty"),
        ("A=B", "x", "name has a `=`"),
        ("A\0B", "x", "name has a NUL"),
        ("NAME", "x\0", "value has a NUL"),
    ] {
        let error = sleeper()
            .env("GOOD", "")
            .env(key, value)
            .build()
            .unwrap_err();
        assert!(matches!(&error, SpawnError::InvalidEnv { key: k, .. } if k == key));
        assert!(error.to_string().contains(reason), "{error}");
        assert!(!error.to_string().contains('\0'), "{error:?}");
    }
}

#[test]
fn a_nul_byte_anywhere_is_named() {
    for (options, what) in [
        (program("/bin/\0"), "agent path"),
        (sleeper().arg("a\0b"), "argument 2"),
        (sleeper().runtime_dir("/run/\0"), "runtime directory"),
    ] {
        let error = options.build().unwrap_err();
        assert!(matches!(error, SpawnError::InvalidValue { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
        assert!(!error.to_string().contains('\0'), "{error:?}");
    }
}

#[test]
fn an_agent_id_that_cannot_be_passed_on() {
    let spawner = sleeper().build().unwrap();
    for id in ["", "a\0b"] {
        let error = spawner.spawn(id).unwrap_err();
        assert!(matches!(&error, SpawnError::InvalidValue { value, .. } if value == id));
    }
}

#[test]
fn a_missing_program() {
    child::run("spawner::errors::a_missing_program", || {
        for path in ["/nowhere/program", "/dev/null/program"] {
            let error = error_of(program(path));
            assert!(
                matches!(&error, SpawnError::NotFound { path: p, current_dir: None } if p.as_path() == std::path::Path::new(path)),
                "{error:?}"
            );
            assert!(error.to_string().contains(path), "{error}");
        }
    });
}

#[test]
fn a_missing_program_with_a_relative_path_tells_the_directory() {
    child::run(
        "spawner::errors::a_missing_program_with_a_relative_path_tells_the_directory",
        || {
            std::env::set_current_dir("/usr").unwrap();
            let error = error_of(program("./nowhere"));
            assert_eq!(
                error.to_string(),
                "cannot start `./nowhere`: no such file in `/usr`"
            );
        },
    );
}

#[test]
fn a_bare_name_that_nobody_knows() {
    child::run("spawner::errors::a_bare_name_that_nobody_knows", || {
        let error = error_of(program("no-such-program"));
        assert!(matches!(error, SpawnError::NotInPath { .. }));
    });
}

#[test]
fn a_file_without_permission() {
    child::run("spawner::errors::a_file_without_permission", || {
        for mode in [0o000, 0o644] {
            let (_dir, path) = file("#!/bin/sh\n", mode);
            let error = error_of(program(path));
            assert!(
                matches!(error, SpawnError::NotExecutable { mode: Some(m), .. } if m == mode),
                "{error:?}"
            );
            assert!(error.to_string().contains(&format!("(mode {mode:03o})")));
        }
    });
}

#[test]
fn a_directory() {
    child::run("spawner::errors::a_directory", || {
        let error = error_of(program("/usr"));
        assert!(matches!(error, SpawnError::IsDirectory { .. }), "{error:?}");
    });
}

#[test]
fn a_text_without_an_interpreter_line() {
    child::run(
        "spawner::errors::a_text_without_an_interpreter_line",
        || {
            for text in ["exit 0\n", ""] {
                let (_dir, path) = file(text, 0o755);
                let error = error_of(program(path));
                assert!(matches!(error, SpawnError::NotAProgram { .. }), "{error:?}");
            }
        },
    );
}

#[test]
fn a_script_whose_interpreter_is_missing_or_no_program() {
    child::run(
        "spawner::errors::a_script_whose_interpreter_is_missing_or_no_program",
        || {
            for name in ["/nowhere/interpreter", "/etc/passwd"] {
                let (_dir, path) = file(&format!("#! {name} -x\n"), 0o755);
                let error = error_of(program(path));
                let SpawnError::Interpreter { interpreter, .. } = &error else {
                    panic!("{error:?}");
                };
                assert_eq!(interpreter.as_deref(), Some(name.as_ref()));
                assert!(error.to_string().contains(name), "{error}");
                assert!(error.source().is_some());
            }
        },
    );
}

#[test]
fn a_program_that_is_being_written_keeps_the_kernels_reason() {
    child::run(
        "spawner::errors::a_program_that_is_being_written_keeps_the_kernels_reason",
        || {
            let (_dir, path) = file("#!/bin/sh\n", 0o755);
            let _writer = File::options().write(true).open(&path).unwrap();
            let error = error_of(program(path));
            let SpawnError::Os { source, .. } = &error else {
                panic!("{error:?}");
            };
            assert_eq!(source.raw_os_error(), Some(libc::ETXTBSY));
        },
    );
}

#[test]
fn no_descriptor_left() {
    child::run("spawner::errors::no_descriptor_left", || {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        setrlimit(Resource::RLIMIT_NOFILE, 64, hard).unwrap();
        let spawner = sleeper().build().unwrap();
        let fill = || -> Vec<OwnedFd> {
            std::iter::from_fn(|| File::open("/dev/null").ok().map(Into::into)).collect()
        };
        for free in 0..4 {
            let mut fillers = fill();
            fillers.truncate(fillers.len() - free);
            let started = spawner.spawn("tested");
            drop(fillers);
            if free >= 2 {
                // The pidfd gets the place of the agent's half.
                assert!(started.is_ok(), "{free} free: {started:?}");
                continue;
            }
            let error = started.unwrap_err();
            let SpawnError::Descriptors { limit, .. } = &error else {
                panic!("{free} free: {error:?}");
            };
            assert_eq!(*limit, Some(64));
            assert!(
                error.to_string().contains("a socket pair (limit 64)"),
                "{error}"
            );
            assert!(!has_child());
        }
        let before = open_count();
        let mut fillers = fill();
        fillers.truncate(fillers.len() - 1);
        assert!(spawner.spawn("tested").is_err());
        drop(fillers);
        assert_eq!(open_count(), before);
    });
}

#[test]
fn a_child_that_gets_no_pidfd_is_ended() {
    child::run(
        "spawner::errors::a_child_that_gets_no_pidfd_is_ended",
        || {
            refuse(libc::SYS_pidfd_open, false, libc::EMFILE);
            let error = error_of(sleeper());
            assert!(
                matches!(
                    error,
                    SpawnError::Descriptors {
                        wanted: "a pidfd",
                        ..
                    }
                ),
                "{error:?}"
            );
        },
    );
}

#[test]
fn no_further_process_allowed() {
    child::run("spawner::errors::no_further_process_allowed", || {
        // SAFETY: none of these touches memory of ours. Root has no limit, another user does.
        unsafe {
            if libc::geteuid() == 0 {
                assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
                assert_eq!(libc::setresgid(65_534, 65_534, 65_534), 0);
                assert_eq!(libc::setresuid(65_534, 65_534, 65_534), 0);
            }
        }
        setrlimit(Resource::RLIMIT_NPROC, 0, 0).unwrap();
        let error = error_of(sleeper());
        assert!(
            matches!(error, SpawnError::ProcessLimit { limit: Some(0), .. }),
            "{error:?}"
        );
    });
}
