//! Guards on several threads: each finds its own children, and leaves those of the others alone.

use std::sync::mpsc;
use std::thread;

use supervise_harness::leaks::Guard;

use super::{end, has_ended, only, pidfd, stub};

#[test]
fn children_of_other_threads_are_neither_blamed_nor_ended() {
    let guard = Guard::new();
    let (started, is_started) = mpsc::channel();
    let (checked, is_checked) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let mut child = stub("stay").spawn().unwrap();
        started.send(()).unwrap();
        is_checked.recv().unwrap();
        let alive = child.try_wait().unwrap().is_none();
        end(&mut child);
        alive
    });
    is_started.recv().unwrap();
    let result = guard.check();
    checked.send(()).unwrap();
    assert!(other.join().unwrap(), "the guard ended another's child");
    result.unwrap();
}

#[test]
fn a_marked_child_of_another_thread_is_blamed() {
    let guard = Guard::new();
    let mut command = stub("stay");
    guard.mark_command(&mut command);
    let child = thread::spawn(move || command.spawn().unwrap())
        .join()
        .unwrap();
    let watch = pidfd(child.id());
    let leaks = guard.check().unwrap_err();
    assert_eq!(only(&leaks).pid, child.id());
    assert!(has_ended(&watch));
}

#[test]
fn guards_on_many_threads_find_each_its_own() {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(|| {
                for round in 0..5 {
                    let guard = Guard::new();
                    let child = stub("stay").spawn().unwrap();
                    let mut reaped = stub("exit 0").spawn().unwrap();
                    reaped.wait().unwrap();
                    let leaks = guard.check().unwrap_err();
                    assert_eq!(only(&leaks).pid, child.id(), "round {round}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
