//! Tells the harness's own work from that of the code under test, which shares its thread.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};

use super::server::Server;

thread_local! {
    /// Whether the harness works on this thread.
    static AT_WORK: Arc<AtomicBool> = Arc::default();
}

/// Whether the harness works on this thread, as a flag that another thread can read. While it is true,
/// every call of this thread is the harness's. What the harness opens while a sim runs, it opens under
/// the server's lock, and no code of the user runs under that lock.
#[cfg(feature = "conformance")]
pub(crate) fn at_work() -> Arc<AtomicBool> {
    AT_WORK.with(Arc::clone)
}

/// The server, locked. While this exists, the harness is at work on this thread.
#[derive(Debug)]
pub(crate) struct Locked<'a> {
    server: MutexGuard<'a, Server>,
    /// Dropped last, after the lock was released.
    _work: Work,
}

impl<'a> Locked<'a> {
    pub(super) fn new(server: MutexGuard<'a, Server>) -> Locked<'a> {
        Locked {
            server,
            _work: Work::begin(),
        }
    }
}

impl Deref for Locked<'_> {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.server
    }
}

/// Marks this thread as at work until it is dropped.
#[derive(Debug)]
struct Work {
    /// Whether this thread was marked already, since it has locked another sim's server.
    was_at_work: bool,
}

impl Work {
    fn begin() -> Work {
        Work {
            was_at_work: mark(true),
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        mark(self.was_at_work);
    }
}

/// Sets the mark of this thread, and returns what it was. A thread that is ending has no mark left, and
/// nobody looks at it.
fn mark(is_at_work: bool) -> bool {
    let swap = |mark: &Arc<AtomicBool>| mark.swap(is_at_work, Ordering::Relaxed);
    AT_WORK.try_with(swap).unwrap_or(false)
}
