//! A complaint: a line on standard error.

use crate::sys;

/// Writes a line to standard error, unless the write would block or SIGPIPE would kill the process.
/// A failure is ignored, since there is nobody left to tell.
pub(crate) fn complain(error: &str) {
    let mut gone = [sys::Poll::gone(2)];
    sys::wait_for(&mut gone, 0);
    if !gone[0].is_gone() {
        let _ = sys::write_now(2, format!("agent-stub: {error}\n").as_bytes());
    }
}
