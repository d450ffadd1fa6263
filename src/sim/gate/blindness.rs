//! What the gate says of something that it cannot see.

use std::io;

pub(super) const UNKNOWN_CHILD: &str = "what a child is and does cannot be told";

/// The text for something that cannot be seen.
pub(super) fn blind(what: &str) -> impl Fn(io::Error) -> String {
    move |error| format!("{what}: {error}")
}
