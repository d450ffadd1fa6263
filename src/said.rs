//! What the harness says beside a test's outcome, on standard error.

use std::panic::catch_unwind;

/// Prints it, as the test's own output where a test of libtest is on this thread. Printing panics where
/// standard error is closed; nobody reads it then.
pub(crate) fn say(text: &str) {
    let _ = catch_unwind(|| eprintln!("{text}"));
}
