//! Clocks: where the time and the sleeps come from.

mod block_on;
mod fake;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use crate::Timestamp;

pub use fake::FakeClock;
use fake::FakeSleep;

/// Where the time and the sleeps come from. `Arc<dyn Clock>` is one to hand around.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use supervise_harness::{Clock, FakeClock};
///
/// let fake = FakeClock::new();
/// let clock: Arc<dyn Clock> = Arc::new(fake.clone());
/// let start = clock.now();
/// fake.block_on(clock.sleep(Duration::from_secs(86_400)));
/// assert_eq!(clock.now() - start, Duration::from_secs(86_400));
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// The time now. It never goes back.
    fn now(&self) -> Timestamp;

    /// Completes when `duration` has passed since this call; at once if it is zero. A deadline
    /// beyond the clock's range is its last moment.
    ///
    /// Cancel-safe: dropping the future ends the sleep and nothing else.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// A sleep of a [`Clock`].
#[must_use = "a sleep does nothing unless awaited"]
pub struct Sleep(Kind);

enum Kind {
    /// Zero on tokio's clock, whose shortest sleep is a millisecond.
    Done,
    /// Unboxed, since a backoff loop on a fake clock does little else.
    Fake(FakeSleep),
    Boxed(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Sleep {
    /// The sleep of a clock of your own.
    pub fn new(sleep: impl Future<Output = ()> + Send + 'static) -> Sleep {
        Sleep(Kind::Boxed(Box::pin(sleep)))
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Kind::Done => Poll::Ready(()),
            Kind::Fake(sleep) => Pin::new(sleep).poll(context),
            Kind::Boxed(sleep) => sleep.as_mut().poll(context),
        }
    }
}

impl fmt::Debug for Sleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Done => f.write_str("Sleep(done)"),
            Kind::Fake(sleep) => write!(f, "Sleep(until {})", sleep.deadline()),
            Kind::Boxed(_) => f.write_str("Sleep(..)"),
        }
    }
}

/// Tokio's clock: the real one, or the virtual one of a runtime whose time is paused.
///
/// Its origin is where it was made; in a paused runtime, make it inside the runtime. Tokio's
/// timers count in milliseconds and round up.
#[derive(Clone, Copy, Debug)]
#[must_use]
pub struct TokioClock {
    origin: Instant,
}

impl TokioClock {
    /// A clock whose origin is now.
    pub fn new() -> TokioClock {
        TokioClock {
            origin: Instant::now(),
        }
    }
}

impl Default for TokioClock {
    fn default() -> TokioClock {
        TokioClock::new()
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + self.origin.elapsed()
    }

    /// # Panics
    ///
    /// Outside a tokio runtime with its time enabled, unless the duration is zero.
    fn sleep(&self, duration: Duration) -> Sleep {
        if duration.is_zero() {
            Sleep(Kind::Done)
        } else {
            Sleep::new(tokio::time::sleep(duration))
        }
    }
}
