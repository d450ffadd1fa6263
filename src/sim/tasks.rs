//! The tasks that a sim has of its own: one ends the agents' waits, the other takes in what agents say.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::unix::AsyncFd;
use tokio::time::Instant as TokioInstant;

use super::race::first;
use crate::sim::agent::Shared;
use crate::timestamp::Timestamp;

/// Ends the agents' waits: sleeps until the next deadline and wakes there. The gate does the rest; without a gate this
/// task also grants the turns.
pub(super) async fn timer(shared: Arc<Shared>, origin: TokioInstant, gated: bool) {
    loop {
        let next = {
            let mut server = shared.lock();
            server.now = Timestamp::ORIGIN + (TokioInstant::now() - origin);
            server.has_new_deadline = false;
            if !gated {
                while server.grant_next_turn().is_some() {}
            }
            server.next_deadline()
        };
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(origin + at.since_origin()).await,
                None => std::future::pending().await,
            }
        };
        first(shared.timer.notified(), sleep).await;
    }
}

/// Registers with tokio the descriptor that is readable when agents say something. Returns `None` if that fails; a sim
/// that gets stuck then says so.
pub(super) fn register(shared: &Shared, descriptor: OwnedFd) -> Option<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd is open, and stays the same descriptor until the AsyncFd drops it.
    let registered =
        unsafe { AsyncFd::register_with_interest(descriptor, tokio::io::Interest::READABLE) };
    let what = "the control connections cannot be listened to";
    let trouble = |error| shared.lock().trouble(what, &io::Error::from(error));
    registered.map_err(trouble).ok()
}

/// Takes in what agents say while the runtime waits for something else. With a gate it only wakes the runtime, and the
/// gate takes in what they say.
pub(super) async fn listen(
    shared: Arc<Shared>,
    readable: AsyncFd<OwnedFd>,
    origin: TokioInstant,
    gated: bool,
) {
    while let Ok(mut ready) = readable.readable().await {
        ready.clear_ready();
        // The runtime asks the gate again before it rests.
        if gated {
            continue;
        }
        let mut server = shared.lock();
        server.now = Timestamp::ORIGIN + (TokioInstant::now() - origin);
        if server.pump(Duration::ZERO) {
            shared.changed.notify_waiters();
            shared.timer.notify_one();
        }
    }
}
