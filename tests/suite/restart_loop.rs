//! The integration tests of `restart_loop`: the seed's cases, and cancelling in every state.

use std::error::Error;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use rstest::rstest;
use supervise_harness::Timestamp;
use supervise_harness::backoff::{BackoffStrategy, ConstantBackoff, ExponentialBackoff};
use supervise_harness::clock::{Clock, FakeClock};
use supervise_harness::supervisor::{
    RestartError, RestartLoop, RestartLoopBuilder, RestartPolicy, Started, Starter,
};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

/// Why attempt number n failed.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Refused(u32);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "attempt {} refused", self.0)
    }
}

impl Error for Refused {}

/// Refuses the first attempts, and counts them all.
struct Refuses {
    first: u32,
    attempts: u32,
}

impl Refuses {
    fn first(first: u32) -> Refuses {
        Refuses { first, attempts: 0 }
    }

    fn all() -> Refuses {
        Refuses::first(u32::MAX)
    }
}

impl Starter for Refuses {
    type Error = Refused;

    async fn start(&mut self) -> Result<(), Refused> {
        self.attempts += 1;
        if self.attempts > self.first {
            Ok(())
        } else {
            Err(Refused(self.attempts))
        }
    }
}

/// Runs the loop on a fake clock; the result and how long it took.
fn run<S: Starter>(
    starter: &mut S,
    builder: RestartLoopBuilder,
) -> (Result<Started, RestartError<S::Error>>, Duration) {
    let clock = FakeClock::new();
    let mut restarts = builder.clock(clock.clone()).build();
    let result = clock.block_on(restarts.run(starter));
    (result, clock.now().since_origin())
}

#[test]
fn three_failures_and_a_success_are_four_attempts() {
    let mut starter = Refuses::first(3);
    let (result, took) = run(&mut starter, RestartLoop::builder());
    assert_eq!(result.unwrap().attempts, 4);
    assert_eq!((starter.attempts, took), (4, 7 * SECOND));
}

#[test]
fn never_is_one_attempt_and_its_error() {
    let mut starter = Refuses::first(1);
    let (result, took) = run(
        &mut starter,
        RestartLoop::builder().policy(RestartPolicy::Never),
    );
    assert_eq!(result, Err(RestartError::Failed { source: Refused(1) }));
    assert_eq!((starter.attempts, took), (1, Duration::ZERO));
}

#[rstest]
#[case::on_failure(RestartPolicy::OnFailure)]
#[case::always(RestartPolicy::Always)]
fn two_restarts_are_three_attempts_and_the_last_error(#[case] policy: RestartPolicy) {
    let mut starter = Refuses::all();
    let (result, took) = run(
        &mut starter,
        RestartLoop::builder().policy(policy).max_restarts(2),
    );
    let error = result.unwrap_err();
    assert_eq!(
        error,
        RestartError::MaxRestartsExhausted {
            attempts: 3,
            source: Refused(3)
        }
    );
    // No delay after the last attempt.
    assert_eq!((starter.attempts, took), (3, 3 * SECOND));
    assert_eq!(
        error.to_string(),
        "no start in 3 attempts succeeded, the last failed: attempt 3 refused"
    );
    assert_eq!(error.source().unwrap().to_string(), "attempt 3 refused");
}

#[test]
fn no_limit_is_no_limit_and_the_delays_are_the_backoffs() {
    let mut starter = Refuses::first(100);
    let backoff = ExponentialBackoff::builder()
        .initial(SECOND / 10)
        .max(2 * SECOND)
        .build()
        .unwrap();
    let (result, took) = run(&mut starter, RestartLoop::builder().backoff(backoff));
    assert_eq!(result.unwrap().attempts, 101);
    assert_eq!(
        took,
        Duration::from_millis(100 + 200 + 400 + 800 + 1_600 + 95 * 2_000)
    );
}

#[test]
fn every_run_starts_from_the_first_delay() {
    struct CountsResets(Arc<AtomicU32>);
    impl BackoffStrategy for CountsResets {
        fn next_delay(&mut self, attempt: u32) -> Duration {
            attempt * SECOND
        }
        fn reset(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let (clock, resets) = (FakeClock::new(), Arc::new(AtomicU32::new(0)));
    let mut restarts = RestartLoop::builder()
        .max_restarts(3)
        .backoff(CountsResets(Arc::clone(&resets)))
        .clock(clock.clone())
        .build();
    for round in 1..=2 {
        let mut starter = Refuses::all();
        let result = clock.block_on(restarts.run(&mut starter));
        assert!(result.is_err());
        assert_eq!(clock.now(), Timestamp::ORIGIN + round * 3 * SECOND);
        assert_eq!(resets.load(Ordering::SeqCst), round);
    }
}

#[test]
fn cancelled_before_the_first_attempt_it_makes_none() {
    let cancel = CancellationToken::new();
    cancel.cancel();
    let mut starter = Refuses::first(0);
    let clock = FakeClock::new();
    let mut restarts = RestartLoop::builder().clock(clock.clone()).build();
    let error = clock
        .block_on(restarts.run_unless(&mut starter, cancel.cancelled()))
        .unwrap_err();
    assert_eq!(
        error,
        RestartError::Cancelled {
            attempts: 0,
            last: None
        }
    );
    assert_eq!(
        error.to_string(),
        "the start was cancelled before the first attempt"
    );
    assert_eq!(starter.attempts, 0);
}

#[test]
fn cancelled_in_an_attempt_it_drops_the_attempt_and_keeps_the_error_before() {
    let cancel = CancellationToken::new();
    let clock = FakeClock::new();
    let held = Arc::new(());
    let mut attempts = 0;
    let mut starter = || {
        attempts += 1;
        let (attempt, held) = (attempts, Arc::clone(&held));
        async move {
            let _held = held;
            if attempt == 1 {
                Err(Refused(attempt))
            } else {
                pending().await
            }
        }
    };
    let mut restarts = RestartLoop::builder().clock(clock.clone()).build();
    let (result, ()) = clock.block_on(async {
        tokio::join!(
            restarts.run_unless(&mut starter, cancel.cancelled()),
            async {
                clock.sleep(10 * SECOND).await;
                cancel.cancel();
            }
        )
    });
    assert_eq!(
        result,
        Err(RestartError::Cancelled {
            attempts: 2,
            last: Some(Refused(1))
        })
    );
    assert_eq!(clock.now(), Timestamp::ORIGIN + 10 * SECOND);
    assert_eq!(Arc::strong_count(&held), 1, "the attempt is gone");
}

#[test]
fn cancelled_in_a_delay_it_returns_at_once() {
    let cancel = CancellationToken::new();
    let clock = FakeClock::new();
    let mut restarts = RestartLoop::builder()
        .backoff(ConstantBackoff::new(3_600 * SECOND))
        .clock(clock.clone())
        .build();
    let mut starter = Refuses::all();
    let (result, ()) = clock.block_on(async {
        tokio::join!(
            restarts.run_unless(&mut starter, cancel.cancelled()),
            async {
                clock.sleep(SECOND).await;
                cancel.cancel();
            }
        )
    });
    let error = result.unwrap_err();
    assert_eq!(
        error,
        RestartError::Cancelled {
            attempts: 1,
            last: Some(Refused(1))
        }
    );
    assert_eq!(
        error.to_string(),
        "the start was cancelled at attempt 1, the last to end failed: attempt 1 refused"
    );
    assert_eq!(clock.now(), Timestamp::ORIGIN + SECOND);
    assert_eq!(clock.sleepers(), []);
}

#[test]
fn cancelled_by_its_own_attempt_it_makes_no_other() {
    let cancel = CancellationToken::new();
    let clock = FakeClock::new();
    let mut starter = || {
        let cancel = cancel.clone();
        async move {
            cancel.cancel();
            Err(Refused(1))
        }
    };
    let mut restarts = RestartLoop::builder().clock(clock.clone()).build();
    let result = clock.block_on(restarts.run_unless(&mut starter, cancel.cancelled()));
    assert_eq!(
        result,
        Err(RestartError::Cancelled {
            attempts: 1,
            last: Some(Refused(1))
        })
    );
    assert_eq!(clock.now(), Timestamp::ORIGIN, "no delay");
}

#[test]
fn an_attempt_that_succeeds_as_it_is_cancelled_has_succeeded() {
    let cancel = CancellationToken::new();
    let mut starter = || {
        let cancel = cancel.clone();
        async move {
            cancel.cancel();
            Ok::<(), Refused>(())
        }
    };
    let clock = FakeClock::new();
    let mut restarts = RestartLoop::builder().clock(clock.clone()).build();
    let result = clock.block_on(restarts.run_unless(&mut starter, cancel.cancelled()));
    assert_eq!(result.unwrap().attempts, 1);
}

#[tokio::test(start_paused = true)]
async fn it_runs_in_a_spawned_task_on_tokios_clock() {
    let began = tokio::time::Instant::now();
    let task = tokio::spawn(async {
        let mut restarts = RestartLoop::builder().build();
        let mut starter = Refuses::first(5);
        restarts.run(&mut starter).await
    });
    assert_eq!(task.await.unwrap().unwrap().attempts, 6);
    assert_eq!(began.elapsed(), 31 * SECOND);
}

proptest! {
    #[test]
    fn attempts_and_time_are_what_failures_and_limit_make_them(
        failures in 0..30_u32,
        max_restarts in 0..30_u32,
        never in any::<bool>(),
        delays in prop::collection::vec(0..100_u32, 30),
    ) {
        let policy = if never { RestartPolicy::Never } else { RestartPolicy::OnFailure };
        let allowed = match (policy, max_restarts) {
            (RestartPolicy::Never, _) => 0,
            (_, 0) => u32::MAX,
            (_, most) => most,
        };
        let restarts = failures.min(allowed);
        let expected: Duration = delays.iter().take(restarts as usize).map(|s| *s * SECOND).sum();
        let mut starter = Refuses::first(failures);
        let builder = RestartLoop::builder()
            .policy(policy)
            .max_restarts(max_restarts)
            .backoff(move |attempt: u32| delays[attempt as usize] * SECOND);
        let (result, took) = run(&mut starter, builder);
        prop_assert_eq!(took, expected);
        prop_assert_eq!(starter.attempts, restarts + 1);
        match result {
            Ok(started) => prop_assert_eq!(started.attempts, failures + 1),
            Err(RestartError::Failed { source }) => {
                prop_assert!(never && source == Refused(1));
            }
            Err(RestartError::MaxRestartsExhausted { attempts, source }) => {
                prop_assert!(failures > max_restarts && source == Refused(attempts));
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }
}
