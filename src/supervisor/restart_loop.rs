//! The restart loop: try to start something until a start succeeds.

use std::fmt;
use std::future::{Future, poll_fn};
use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use crate::backoff::{BackoffStrategy, ExponentialBackoff};
use crate::clock::{Clock, TokioClock};
use crate::supervisor::policy::{
    Decision, EndCause, RestartLimit, RestartPolicy, RestartTracker, RunEnd,
};

/// Something that can be started. Each call of `start` is one attempt. Any
/// `FnMut() -> impl Future<Output = Result<(), E>> + Send` is a starter.
///
/// Source: `Starter` of the Go package `supervise`.
pub trait Starter {
    /// Why an attempt failed.
    type Error;

    /// Makes one attempt. If the loop is cancelled, it drops the attempt's future. Dropping the
    /// future must undo what the attempt has begun.
    ///
    /// The future is `Send`, so that a loop can run in a spawned task.
    fn start(&mut self) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

impl<F, Attempt, E> Starter for F
where
    F: FnMut() -> Attempt,
    Attempt: Future<Output = Result<(), E>> + Send,
{
    type Error = E;

    fn start(&mut self) -> impl Future<Output = Result<(), E>> + Send {
        self()
    }
}

/// Tries to start something, and waits for the backoff's delay between attempts. It ends when a
/// start succeeds, when the policy forbids another attempt, when the limit is reached, or when it
/// is cancelled.
///
/// It handles only attempts to start. [`RestartPolicy::Never`] makes one attempt. The other
/// policies differ only in what follows a clean exit, so they are the same here.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::clock::{Clock, FakeClock};
/// use supervise_harness::supervisor::RestartLoop;
///
/// let clock = FakeClock::new();
/// let mut failures = 3;
/// let mut starter = || {
///     let result = if failures == 0 { Ok(()) } else { Err("not yet") };
///     failures -= 1;
///     async move { result }
/// };
/// let mut restarts = RestartLoop::builder().clock(clock.clone()).build();
/// let started = clock.block_on(restarts.run(&mut starter)).unwrap();
/// assert_eq!(started.attempts, 4);
/// assert_eq!(clock.now().since_origin(), Duration::from_secs(1 + 2 + 4));
/// ```
///
/// Source: `RestartLoop` of the Go package `supervise`.
#[must_use]
pub struct RestartLoop {
    rules: RestartTracker,
    backoff: Box<dyn BackoffStrategy + Send>,
    clock: Arc<dyn Clock>,
}

/// Builds a [`RestartLoop`].
#[must_use]
pub struct RestartLoopBuilder {
    policy: RestartPolicy,
    max_restarts: u32,
    backoff: Option<Box<dyn BackoffStrategy + Send>>,
    clock: Option<Arc<dyn Clock>>,
}

/// The result of a loop whose start succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Started {
    /// The number of attempts made, the successful one included: 1 or more.
    pub attempts: u32,
}

/// Why nothing was started. The error of the last attempt is the source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RestartError<E> {
    /// The policy allows one attempt, and it failed.
    #[error("the start failed: {source}")]
    Failed {
        /// Why the attempt failed.
        source: E,
    },
    /// All attempts that the limit allows failed.
    #[error("no start in {attempts} attempts succeeded, the last failed: {source}")]
    MaxRestartsExhausted {
        /// The number of attempts made: one more than the restarts allowed.
        attempts: u32,
        /// Why the last attempt failed.
        source: E,
    },
    /// The loop was cancelled.
    #[error("the start was cancelled {}", after(*.attempts, .last.as_ref()))]
    Cancelled {
        /// The number of attempts begun.
        attempts: u32,
        /// Why the last attempt that ended failed. `None` if no attempt ended.
        #[source]
        last: Option<E>,
    },
}

fn after<E: fmt::Display>(attempts: u32, last: Option<&E>) -> String {
    match (attempts, last) {
        (0, _) => "before the first attempt".to_owned(),
        (n, None) => format!("at attempt {n}"),
        (n, Some(last)) => format!("at attempt {n}, the last to end failed: {last}"),
    }
}

impl RestartLoop {
    /// Starts from the defaults: restart on failure, no limit, exponential backoff from 1 s to
    /// 60 s, tokio's clock.
    pub fn builder() -> RestartLoopBuilder {
        RestartLoopBuilder {
            policy: RestartPolicy::OnFailure,
            max_restarts: 0,
            backoff: None,
            clock: None,
        }
    }

    /// Runs the loop from its beginning: attempts count from 1 and the backoff is reset.
    ///
    /// Cancel-safe if the starter is: dropping the future drops the attempt or the delay that is
    /// under way.
    ///
    /// # Errors
    ///
    /// [`RestartError`]: the attempt failed and the policy allows no other, or all attempts that the
    /// limit allows failed.
    ///
    /// # Panics
    ///
    /// If the clock panics, as tokio's clock does outside its runtime.
    pub async fn run<S: Starter + ?Sized>(
        &mut self,
        starter: &mut S,
    ) -> Result<Started, RestartError<S::Error>> {
        self.run_unless(starter, std::future::pending()).await
    }

    /// Runs the loop as [`run`](RestartLoop::run) does, until the future `cancelled` completes. This may be
    /// any future, such as the `cancelled()` of a cancellation token or the receiver of a channel.
    ///
    /// The loop notices a cancel at once: before an attempt, during an attempt (whose future it
    /// then drops), and during a delay. If an attempt has just returned success, the loop succeeds
    /// in spite of the cancel.
    ///
    /// Cancel-safe if the starter is: dropping the future drops the attempt or the delay that is
    /// under way.
    ///
    /// # Errors
    ///
    /// [`RestartError`]: the attempt failed and the policy allows no other, all attempts that the
    /// limit allows failed, or `cancelled` completed.
    ///
    /// # Panics
    ///
    /// If the clock panics, as tokio's clock does outside its runtime.
    pub async fn run_unless<S: Starter + ?Sized>(
        &mut self,
        starter: &mut S,
        cancelled: impl Future<Output = ()>,
    ) -> Result<Started, RestartError<S::Error>> {
        let mut cancelled = pin!(cancelled);
        let mut tracker = self.rules.clone();
        let mut attempts: u32 = 0;
        let mut last = None;
        loop {
            let is_cancelled =
                poll_fn(|context| Poll::Ready(cancelled.as_mut().poll(context).is_ready()));
            if is_cancelled.await {
                return Err(stopped(attempts, last));
            }
            attempts = attempts.saturating_add(1);
            let error = tokio::select! {
                biased;
                () = cancelled.as_mut() => return Err(stopped(attempts, last)),
                result = starter.start() => match result {
                    Ok(()) => {
                        tracing::debug!(target: "supervise_harness", attempts, "started");
                        return Ok(Started { attempts });
                    }
                    Err(error) => error,
                },
            };
            match tracker.decide(&RunEnd::new(EndCause::StartFailed), self.clock.now()) {
                Decision::Restart { attempt } => {
                    if attempt == 0 {
                        self.backoff.reset();
                    }
                    let delay = self.backoff.next_delay(attempt);
                    tracing::debug!(
                        target: "supervise_harness", attempts, ?delay, "start failed, backing off"
                    );
                    last = Some(error);
                    tokio::select! {
                        biased;
                        () = cancelled.as_mut() => return Err(stopped(attempts, last)),
                        () = self.clock.sleep(delay) => {}
                    }
                }
                Decision::Finished { .. } => {
                    tracing::debug!(target: "supervise_harness", "start failed, policy is never");
                    return Err(RestartError::Failed { source: error });
                }
                Decision::GiveUp(_) => {
                    tracing::debug!(target: "supervise_harness", attempts, "gave up starting");
                    return Err(RestartError::MaxRestartsExhausted {
                        attempts,
                        source: error,
                    });
                }
            }
        }
    }
}

fn stopped<E>(attempts: u32, last: Option<E>) -> RestartError<E> {
    tracing::debug!(target: "supervise_harness", attempts, "start cancelled");
    RestartError::Cancelled { attempts, last }
}

impl RestartLoopBuilder {
    /// Sets the policy. Default: on failure.
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets how many restarts are allowed. N means N + 1 attempts. 0, as in the Go package
    /// `supervise`, means any number. Default: 0.
    pub fn max_restarts(mut self, restarts: u32) -> Self {
        self.max_restarts = restarts;
        self
    }

    /// Sets the delays between attempts. Default: exponential, from 1 s to 60 s, without jitter.
    pub fn backoff(mut self, backoff: impl BackoffStrategy + Send + 'static) -> Self {
        self.backoff = Some(Box::new(backoff));
        self
    }

    /// Sets the clock. Default: tokio's clock.
    pub fn clock(mut self, clock: impl Clock + 'static) -> Self {
        self.clock = Some(Arc::new(clock));
        self
    }

    /// Builds the loop.
    pub fn build(self) -> RestartLoop {
        let limit = match NonZeroU32::new(self.max_restarts) {
            Some(restarts) => RestartLimit::Consecutive(restarts),
            None => RestartLimit::Unlimited,
        };
        let rules = RestartTracker::builder().policy(self.policy).limit(limit);
        RestartLoop {
            rules: rules.build().expect("no window, reset period or code"),
            backoff: self.backoff.unwrap_or_else(|| {
                let defaults = ExponentialBackoff::builder().build();
                Box::new(defaults.expect("the defaults are valid"))
            }),
            clock: self.clock.unwrap_or_else(|| Arc::new(TokioClock::new())),
        }
    }
}

impl fmt::Debug for RestartLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestartLoop")
            .field("rules", &self.rules)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for RestartLoopBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RestartLoopBuilder")
            .field("policy", &self.policy)
            .field("max_restarts", &self.max_restarts)
            .finish_non_exhaustive()
    }
}
