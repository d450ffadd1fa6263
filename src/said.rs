//! What the harness prints on standard error, besides a test's outcome.

use std::panic::catch_unwind;

/// Prints the text on standard error. On the thread of a libtest test, it becomes part of the
/// test's own output. Printing panics if standard error is closed. The panic is caught, because
/// nobody reads the text then.
pub(crate) fn say(text: &str) {
    let _ = catch_unwind(|| eprintln!("{text}"));
}
