//! What concerns the whole process: each test in one of its own.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use supervise_harness::leaks::{Guard, GuardBuilder};

use super::busy_loop::{beside_a_busy_loop, let_starve};
use super::{only, stub};
use crate::child;

#[test]
fn a_descriptor_left_open_is_named() {
    child::run(
        "leaks::process_wide::a_descriptor_left_open_is_named",
        || {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("open");
            let before = fs::File::create(directory.path().join("before")).unwrap();
            let guard = Guard::builder().descriptors(true).build();
            fs::remove_file(directory.path().join("before")).unwrap();
            drop(fs::File::create(&path).unwrap());
            let file = fs::File::open(&path).unwrap();
            let leaks = guard.check().unwrap_err();
            let [found] = leaks.descriptors() else {
                panic!("expected one descriptor: {leaks}")
            };
            assert_eq!(found.number, file.as_raw_fd().unsigned_abs());
            assert_eq!(found.target, path);
            let line = format!(
                "descriptor {}, still open: {}",
                found.number,
                path.display()
            );
            assert!(leaks.to_string().contains(&line), "{leaks}");
            // Still the test's to use.
            file.metadata().unwrap();
            drop(before);
        },
    );
}

#[test]
fn a_descriptor_that_became_another_file_s_is_named() {
    child::run(
        "leaks::process_wide::a_descriptor_that_became_another_file_s_is_named",
        || {
            let first = fs::File::open("/dev/null").unwrap();
            let number = first.as_raw_fd();
            let guard = Guard::builder().descriptors(true).build();
            drop(first);
            let second = fs::File::open("/dev/zero").unwrap();
            assert_eq!(second.as_raw_fd(), number);
            let leaks = guard.check().unwrap_err();
            let [found] = leaks.descriptors() else {
                panic!("expected one descriptor: {leaks}")
            };
            assert_eq!(found.target.to_str(), Some("/dev/zero"));
        },
    );
}

#[test]
fn a_thread_left_running_is_named_and_a_joined_one_is_none() {
    child::run(
        "leaks::process_wide::a_thread_left_running_is_named_and_a_joined_one_is_none",
        || {
            let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
            beside_a_busy_loop(|| {
                for _ in 0..5 {
                    let guard = Guard::builder().threads(true).build();
                    thread::spawn(slow_to_end).join().unwrap();
                    guard.check().unwrap();
                }
            });
            let guard = Guard::builder().threads(true).build();
            let (end, is_end) = mpsc::channel::<()>();
            let (up, is_up) = mpsc::channel();
            let worker = thread::Builder::new().name("worker".to_owned());
            let worker = worker.spawn(move || {
                up.send(()).unwrap();
                is_end.recv()
            });
            is_up.recv().unwrap();
            let leaks = guard.check().unwrap_err();
            let [found] = leaks.threads() else {
                panic!("expected one thread: {leaks}")
            };
            assert_eq!(found.name, "worker");
            end.send(()).unwrap();
            worker.unwrap().join().unwrap().unwrap();
        },
    );
}

/// Gives its thread a descriptor table of its own, which the kernel closes after the join.
fn slow_to_end() {
    // SAFETY: a number; the thread has no descriptors that others expect to change.
    let unshared = unsafe { libc::unshare(libc::CLONE_FILES) };
    assert_eq!(unshared, 0, "{}", io::Error::last_os_error());
    for _ in 0..10_000 {
        // SAFETY: a number. The copies are closed with the thread's table.
        if unsafe { libc::dup(0) } == -1 {
            break;
        }
    }
    let_starve(0);
}

#[test]
fn a_guard_of_all_threads_blames_the_children_of_all() {
    child::run(
        "leaks::process_wide::a_guard_of_all_threads_blames_the_children_of_all",
        || {
            let guard = GuardBuilder::default().all_threads(true).build();
            let child = thread::spawn(|| stub("stay").spawn().unwrap())
                .join()
                .unwrap();
            let leaks = guard.check().unwrap_err();
            assert_eq!(only(&leaks).pid, child.id());
        },
    );
}

#[test]
fn a_proc_that_cannot_be_read_is_an_error_and_no_pass() {
    child::run(
        "leaks::process_wide::a_proc_that_cannot_be_read_is_an_error_and_no_pass",
        || {
            let guard = Guard::new();
            let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
            setrlimit(Resource::RLIMIT_NOFILE, 0, hard).unwrap();
            let made_blind = Guard::new();
            let result = guard.check();
            setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
            let leaks = result.unwrap_err();
            let error = leaks.unreadable().expect("an error");
            assert_eq!(error.path().to_str(), Some("/proc/self/stat"));
            assert!(
                leaks
                    .to_string()
                    .starts_with("nobody knows what was left behind\n"),
                "{leaks}"
            );
            assert!(
                error
                    .to_string()
                    .starts_with("cannot look for leaks: read /proc/self/stat: "),
                "{error}"
            );
            assert!(made_blind.check().unwrap_err().unreadable().is_some());
        },
    );
}
