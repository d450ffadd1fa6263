//! The server, as the parts of the harness share it.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use tokio::sync::Notify;

use super::locked::Locked;
use super::server::Server;
use super::waits::Waits;
use crate::timeline::{EventKind, EventSource};
use crate::timestamp::Timestamp;

/// The server, shared by the idle gate, the watchdog and the handles.
#[derive(Debug)]
pub(crate) struct Shared {
    server: Mutex<Server>,
    /// Notified when the server has taken something in.
    pub(crate) changed: Notify,
    /// Notified when the timer of the agents' waits has to look again, or when the runtime must not sleep.
    pub(crate) timer: Notify,
    /// Notified when the body is over and the effects of its last act have shown.
    pub(crate) settled: Notify,
    /// Whether agents wait by the harness's clock, and not by the machine's.
    pub(crate) is_virtual: bool,
    /// Whether the watchdog has ended the sim.
    pub(crate) is_given_up: AtomicBool,
    /// Whether the code under test has let go of the sim's thread for the last time.
    pub(crate) is_let_go: AtomicBool,
    /// What the body of the sim waits for.
    pub(crate) waits: Waits,
}

impl Shared {
    pub(crate) fn new(server: Server, is_virtual: bool) -> Arc<Shared> {
        Arc::new(Shared {
            server: Mutex::new(server),
            changed: Notify::new(),
            timer: Notify::new(),
            settled: Notify::new(),
            is_virtual,
            is_given_up: AtomicBool::new(false),
            is_let_go: AtomicBool::new(false),
            waits: Waits::of_this_thread(),
        })
    }

    pub(crate) fn lock(&self) -> Locked<'_> {
        // If the harness has panicked in the middle of a change, the user is shown that panic.
        Locked::new(self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Locks the server. `None` if somebody still holds it after `patience`, in real time. The holder may be
    /// the thread of the code under test, and may never let go.
    pub(crate) fn lock_within(&self, patience: Duration) -> Option<Locked<'_>> {
        let start = std::time::Instant::now();
        let mut pause = Duration::from_micros(50);
        loop {
            match self.server.try_lock() {
                Ok(server) => return Some(Locked::new(server)),
                Err(TryLockError::Poisoned(poisoned)) => {
                    return Some(Locked::new(poisoned.into_inner()));
                }
                Err(TryLockError::WouldBlock) if start.elapsed() >= patience => return None,
                // real-time: the thread that holds the server is at work.
                Err(TryLockError::WouldBlock) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(Duration::from_millis(1));
        }
    }

    /// Records a note. It first takes in the ends and reaps that the kernel knows of by now: they stand
    /// before the note.
    pub(crate) fn note(&self, now: Timestamp, who: impl Fn(&Server) -> EventSource, text: String) {
        let mut server = self.lock();
        server.now = now;
        let before = server.progress;
        server.see_deaths();
        if server.progress != before {
            self.changed.notify_waiters();
        }
        let who = who(&server);
        server.record(&who, EventKind::Note { text });
    }

    /// Waits until `look` finds something, and returns that. Cancel-safe as far as `look` is. While it waits,
    /// the text about a stuck sim says what `wait` returns: the name of the function that waits, and what has
    /// not come.
    pub(super) async fn until<T>(
        &self,
        wait: impl Fn() -> (&'static str, String),
        mut look: impl FnMut(&mut Server) -> Option<T>,
    ) -> T {
        let mut begun = None;
        loop {
            let mut changed = pin!(self.changed.notified());
            // Registered before the look, so that nothing that comes after the look is missed.
            changed.as_mut().enable();
            if let Some(found) = look(&mut self.lock()) {
                return found;
            }
            let begun = begun.get_or_insert_with(|| self.waits.begin(wait()));
            std::future::poll_fn(|context| {
                begun.is_polled();
                changed.as_mut().poll(context)
            })
            .await;
        }
    }
}
