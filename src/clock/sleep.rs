//! What a clock is: the time now, and sleeps.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::sleepers::FakeSleep;
use crate::timestamp::Timestamp;

/// A source of the time and of sleeps. `Arc<dyn Clock>` is a clock that can be shared.
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use supervise_harness::clock::{Clock, FakeClock};
///
/// let fake = FakeClock::new();
/// let clock: Arc<dyn Clock> = Arc::new(fake.clone());
/// let start = clock.now();
/// fake.block_on(clock.sleep(Duration::from_secs(86_400)));
/// assert_eq!(clock.now() - start, Duration::from_secs(86_400));
/// ```
pub trait Clock: fmt::Debug + Send + Sync {
    /// Returns the time now. It never goes back.
    fn now(&self) -> Timestamp;

    /// Returns a future that completes when `duration` has passed since this call; at once if it is
    /// zero. A deadline beyond the clock's range counts as the clock's last moment.
    ///
    /// Cancel-safe: dropping the future ends the sleep and nothing else.
    fn sleep(&self, duration: Duration) -> Sleep;
}

/// A sleep of a [`Clock`], as a future.
#[must_use = "a sleep does nothing unless awaited"]
pub struct Sleep(pub(super) Kind);

pub(super) enum Kind {
    /// A sleep of zero on tokio's clock, whose shortest sleep is a millisecond.
    Done,
    /// Not boxed, because a backoff loop on a fake clock does little else than sleep.
    Fake(FakeSleep),
    Boxed(Pin<Box<dyn Future<Output = ()> + Send>>),
}

impl Sleep {
    /// Makes a sleep from a future, for a clock of your own.
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
