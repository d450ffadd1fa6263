//! A guard that is dropped without a check: it fails its test, unless the test fails by itself.

use std::thread;

use supervise_harness::leaks::Guard;

use super::{end, stub};
use crate::child;

#[test]
fn a_drop_panics_with_the_report() {
    let failure = thread::spawn(|| {
        let _guard = Guard::new();
        stub("stay").spawn().unwrap().id()
    })
    .join()
    .unwrap_err();
    let message = failure.downcast_ref::<String>().expect("a text");
    assert!(message.starts_with("1 process left behind\n"), "{message}");
    assert!(message.contains("killed by the guard"), "{message}");
}

#[test]
fn a_drop_with_nothing_left_behind_is_silent() {
    let _guard = Guard::new();
    end(&mut stub("stay").spawn().unwrap());
}

#[test]
fn the_test_s_own_failure_comes_first_and_the_report_after_it() {
    let path = "leaks::drops::the_test_s_own_failure_comes_first_and_the_report_after_it";
    if child::is_child(path) {
        let _guard = Guard::new();
        let _child = stub("stay").spawn().unwrap();
        panic!("the test's own failure");
    }
    let output = child::command(path).output().unwrap();
    assert_eq!(output.status.code(), Some(101), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    let failure = text.find("the test's own failure").expect(&text);
    let report = text.find("1 process left behind").expect(&text);
    assert!(failure < report, "{text}");
    assert_eq!(text.matches("panicked at").count(), 1, "{text}");
    assert!(text.contains("killed by the guard"), "{text}");
}
