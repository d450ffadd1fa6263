//! The integration tests of `clock`: futures, tokio tasks and threads on one fake clock.

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use proptest::prelude::*;
use supervise_harness::Timestamp;
use supervise_harness::clock::{Clock, FakeClock, Sleep, TokioClock};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u32) -> Timestamp {
    Timestamp::ORIGIN + seconds * SECOND
}

/// A waker that writes its name down.
struct Named(u32, Arc<Mutex<Vec<u32>>>);

impl Wake for Named {
    fn wake(self: Arc<Self>) {
        self.1.lock().unwrap().push(self.0);
    }
}

/// Polls once.
fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

#[test]
fn a_sleep_ends_at_its_deadline_and_not_before() {
    let clock = FakeClock::new();
    let mut sleep = clock.sleep(2 * SECOND);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    clock.advance(2 * SECOND - Duration::from_nanos(1));
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    clock.advance(Duration::from_nanos(1));
    assert!(poll(&mut sleep, Waker::noop()).is_ready());
    assert_eq!(clock.now(), at(2));
}

#[test]
fn sleepers_wake_by_deadline_then_by_registration() {
    let clock = FakeClock::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let waker = |name| Waker::from(Arc::new(Named(name, Arc::clone(&log))));
    let mut sleeps: Vec<Sleep> = [3, 1, 3, 2].map(|s| clock.sleep(s * SECOND)).into();
    // Registered in the order of their first poll, not of their making.
    for name in [2, 3, 0, 1] {
        let index = usize::try_from(name).unwrap();
        assert!(poll(&mut sleeps[index], &waker(name)).is_pending());
    }
    assert_eq!(clock.sleepers(), [1, 2, 3, 3].map(at));
    clock.advance(10 * SECOND);
    assert_eq!(*log.lock().unwrap(), [1, 3, 2, 0]);
    assert_eq!(clock.sleepers(), []);
}

#[test]
fn advance_to_next_wakes_one_deadline_at_a_time() {
    let clock = FakeClock::new();
    let mut sleeps = [1, 1, 5].map(|s| clock.sleep(s * SECOND));
    for sleep in &mut sleeps {
        assert!(poll(sleep, Waker::noop()).is_pending());
    }
    assert_eq!(clock.advance_to_next(), Some(at(1)));
    assert_eq!(clock.sleepers(), [at(5)]);
    assert_eq!(clock.advance_to_next(), Some(at(5)));
    assert_eq!(clock.advance_to_next(), None);
    assert_eq!(clock.now(), at(5));
}

#[test]
fn a_dropped_sleep_is_no_sleeper() {
    let clock = FakeClock::new();
    let mut sleep = clock.sleep(SECOND);
    assert_eq!(clock.sleepers(), [], "not before it is polled");
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    assert_eq!(clock.sleepers(), [at(1)]);
    drop(sleep);
    assert_eq!(clock.sleepers(), []);
}

#[test]
fn a_zero_sleep_is_over_at_once_and_the_longest_ends_with_time() {
    let clock = FakeClock::new();
    assert!(poll(&mut clock.sleep(Duration::ZERO), Waker::noop()).is_ready());
    clock.advance(SECOND);
    let mut longest = clock.sleep(Duration::MAX);
    assert!(poll(&mut longest, Waker::noop()).is_pending());
    clock.advance(Duration::MAX);
    clock.advance(Duration::MAX);
    assert!(poll(&mut longest, Waker::noop()).is_ready());
    assert_eq!(clock.now(), Timestamp::ORIGIN + Duration::MAX);
}

#[test]
fn block_on_moves_the_clock_by_what_is_slept_and_no_more() {
    let clock = FakeClock::new();
    let total = clock.block_on(async {
        for n in 1..=100 {
            clock.sleep(n * SECOND).await;
        }
        // The loser of a race is dropped, and does not hold the clock up or move it.
        tokio::select! {
            () = clock.sleep(SECOND) => {}
            () = clock.sleep(1_000 * SECOND) => unreachable!("the later sleep"),
        }
        clock.now()
    });
    assert_eq!(total, at(5_051));
    assert_eq!(clock.sleepers(), []);
}

#[test]
fn block_on_says_so_at_once_when_nothing_can_wake_the_future() {
    let clock = FakeClock::new();
    let began = std::time::Instant::now();
    let stalled = catch_unwind(AssertUnwindSafe(|| {
        clock.block_on(async {
            clock.sleep(3 * SECOND).await;
            pending::<()>().await;
        });
    }));
    let said = stalled.unwrap_err().downcast::<String>().unwrap();
    assert_eq!(
        *said,
        "the future waits at 3.000s, but nobody sleeps on this clock and nothing woke it"
    );
    assert!(began.elapsed() < 4 * SECOND, "it waited for others");
}

#[test]
fn block_on_polls_again_a_future_that_woke_itself() {
    let clock = FakeClock::new();
    let mut left = 3;
    clock.block_on(poll_fn(|context| {
        left -= 1;
        context.waker().wake_by_ref();
        if left == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }));
    assert_eq!(clock.now(), Timestamp::ORIGIN);
}

#[test]
fn block_on_waits_for_another_thread_while_nobody_sleeps() {
    let clock = FakeClock::new();
    let (to_us, from_them) = tokio::sync::oneshot::channel();
    let (to_them, from_us) = std::sync::mpsc::channel();
    let thread = thread::spawn({
        let clock = clock.clone();
        move || {
            from_us.recv().unwrap();
            clock.sleep_blocking(2 * SECOND);
            to_us.send(clock.now()).unwrap();
        }
    });
    let answer = clock.block_on(async {
        to_them.send(()).unwrap();
        from_them.await.unwrap()
    });
    assert_eq!(answer, at(2));
    thread.join().unwrap();
}

#[test]
fn threads_sleep_and_are_woken_in_turn() {
    let clock = FakeClock::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let threads: Vec<_> = [3, 1, 2]
        .map(|s| {
            let (clock, log) = (clock.clone(), Arc::clone(&log));
            thread::spawn(move || {
                clock.sleep_blocking(s * SECOND);
                log.lock().unwrap().push((s, clock.now()));
                // Sleeps again, so that the test can see that this line has been reached.
                clock.sleep_blocking(100 * SECOND);
            })
        })
        .into();
    clock.wait_for_sleepers_blocking(3);
    for _ in 0..3 {
        clock.advance_to_next();
        clock.wait_for_sleepers_blocking(3);
    }
    assert_eq!(*log.lock().unwrap(), [1, 2, 3].map(|s| (s, at(s))));
    clock.advance(200 * SECOND);
    for thread in threads {
        thread.join().unwrap();
    }
}

#[tokio::test]
async fn tokio_tasks_share_the_clock() {
    let clock = FakeClock::new();
    let woken = Arc::new(AtomicUsize::new(0));
    for s in 1..=3 {
        let (clock, woken) = (clock.clone(), Arc::clone(&woken));
        tokio::spawn(async move {
            clock.sleep(s * SECOND).await;
            woken.fetch_add(1, Ordering::SeqCst);
            clock.sleep(100 * SECOND).await;
        });
    }
    clock.wait_for_sleepers(3).await;
    clock.advance(2 * SECOND);
    clock.wait_for_sleepers(3).await;
    assert_eq!(woken.load(Ordering::SeqCst), 2);
}

#[test]
fn a_wait_for_sleepers_that_is_dropped_is_forgotten() {
    let clock = FakeClock::new();
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut wait = clock.wait_for_sleepers(1);
    let waker = Waker::from(Arc::new(Named(1, Arc::clone(&log))));
    assert!(poll(&mut wait, &waker).is_pending());
    drop(wait);
    let mut sleep = clock.sleep(SECOND);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    assert!(log.lock().unwrap().is_empty());
    assert!(poll(&mut clock.wait_for_sleepers(1), &waker).is_ready());
}

#[test]
fn a_waker_that_drops_another_sleep_does_not_lock_up() {
    struct Drops(Mutex<Option<Sleep>>);
    impl Wake for Drops {
        fn wake(self: Arc<Self>) {
            self.0.lock().unwrap().take();
        }
    }
    let clock = FakeClock::new();
    let mut other = clock.sleep(2 * SECOND);
    assert!(poll(&mut other, Waker::noop()).is_pending());
    let waker = Waker::from(Arc::new(Drops(Mutex::new(Some(other)))));
    let mut sleep = clock.sleep(SECOND);
    assert!(poll(&mut sleep, &waker).is_pending());
    clock.advance(SECOND);
    assert_eq!(clock.sleepers(), []);
}

#[test]
fn a_panic_while_the_clock_is_in_use_leaves_it_usable() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker that fails");
        }
    }
    let clock = FakeClock::new();
    let mut sleep = clock.sleep(SECOND);
    assert!(poll(&mut sleep, &Waker::from(Arc::new(Panics))).is_pending());
    assert!(catch_unwind(AssertUnwindSafe(|| clock.advance(SECOND))).is_err());
    assert!(poll(&mut sleep, Waker::noop()).is_ready());
    clock.block_on(clock.sleep(SECOND));
    assert_eq!(clock.now(), at(2));
}

#[tokio::test(start_paused = true)]
async fn tokios_clock_is_virtual_in_a_paused_runtime() {
    let clock: Arc<dyn Clock> = Arc::new(TokioClock::new());
    let start = clock.now();
    clock.sleep(Duration::ZERO).await;
    assert_eq!(clock.now(), start);
    clock.sleep(86_400 * SECOND).await;
    assert_eq!(clock.now() - start, 86_400 * SECOND);
}

#[test]
fn a_clock_of_ones_own_is_a_clock() {
    #[derive(Debug)]
    struct Instantly;
    impl Clock for Instantly {
        fn now(&self) -> Timestamp {
            Timestamp::ORIGIN
        }
        fn sleep(&self, _: Duration) -> Sleep {
            Sleep::new(std::future::ready(()))
        }
    }
    FakeClock::new().block_on(Instantly.sleep(SECOND));
}

proptest! {
    #[test]
    fn any_sleepers_wake_in_order_however_the_clock_moves(
        sleeps in prop::collection::vec(0..20_u32, 0..20),
        steps in prop::collection::vec(prop::option::of(0..8_u32), 0..20),
    ) {
        let clock = FakeClock::new();
        let log = Arc::new(Mutex::new(Vec::new()));
        let _sleeping: Vec<Sleep> = (0..)
            .zip(&sleeps)
            .map(|(name, s)| {
                let mut sleep = clock.sleep(*s * SECOND);
                let waker = Waker::from(Arc::new(Named(name, Arc::clone(&log))));
                assert_eq!(poll(&mut sleep, &waker).is_ready(), *s == 0);
                sleep
            })
            .collect();
        for step in steps {
            match step {
                Some(s) => clock.advance(s * SECOND),
                None => drop(clock.advance_to_next()),
            }
        }
        let mut expected: Vec<(u32, u32)> = sleeps
            .iter()
            .zip(0..)
            .map(|(s, name)| (*s, name))
            .filter(|(s, _)| *s > 0 && at(*s) <= clock.now())
            .collect();
        expected.sort_unstable();
        let expected: Vec<u32> = expected.into_iter().map(|(_, name)| name).collect();
        prop_assert_eq!(&*log.lock().unwrap(), &expected);
        let asleep = sleeps.iter().filter(|s| at(**s) > clock.now()).count();
        prop_assert_eq!(clock.sleepers().len(), asleep);
    }
}
