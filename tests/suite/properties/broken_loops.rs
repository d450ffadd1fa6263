//! Restart loops with exactly one bug each.

use std::time::Duration;

use supervise_harness::backoff::BackoffStrategy;
use supervise_harness::clock::Clock;
use supervise_harness::properties::LoopCase;
use supervise_harness::supervisor::Starter;

/// A hand-written loop; `wait` is its delay, and says whether it was cancelled.
async fn looped(
    mut case: LoopCase,
    wait: impl AsyncFn(&LoopCase, u32, Duration, Duration) -> bool,
) {
    for attempt in 0.. {
        let began = case.clock.now();
        if case.starter.start().await.is_ok() {
            return;
        }
        let took = case.clock.now() - began;
        let delay = case.backoff.next_delay(attempt);
        if wait(&case, attempt, delay, took).await {
            return;
        }
    }
}

/// Sleeps, and says whether it was cancelled.
async fn sleep(case: &LoopCase, delay: Duration) -> bool {
    tokio::select! {
        () = case.cancel.cancelled() => true,
        () = case.clock.sleep(delay) => false,
    }
}

/// The first retry does not wait.
pub(super) async fn retries_once_at_once(case: LoopCase) {
    looped(case, async |case, attempt, delay, took| {
        // Only of what fails at once, lest its origin be wrong too.
        let delay = if attempt == 0 && took.is_zero() {
            Duration::ZERO
        } else {
            delay
        };
        sleep(case, delay).await
    })
    .await;
}

/// As s6 and launchd do, undeclared.
pub(super) async fn counts_from_the_start(case: LoopCase) {
    looped(case, async |case, _, delay, took| {
        sleep(case, delay.saturating_sub(took)).await
    })
    .await;
}

/// A cancel is looked at after the delay.
pub(super) async fn deaf_in_a_delay(case: LoopCase) {
    looped(case, async |case, _, delay, _| {
        case.clock.sleep(delay).await;
        case.cancel.is_cancelled()
    })
    .await;
}

/// A cancel ends the delay, and not the loop.
pub(super) async fn starts_once_more(case: LoopCase) {
    looped(case, async |case, _, delay, _| {
        sleep(case, delay).await;
        false
    })
    .await;
}
