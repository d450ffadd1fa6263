//! The integration tests of `backoff`: strategies as other code holds and hands them.

use std::time::Duration;

use proptest::prelude::*;
use supervise_harness::backoff::{
    BackoffStrategy, ConstantBackoff, Delays, ExponentialBackoff, Jitter, LinearBackoff,
};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// The first `n` delays, asked for as a restart loop does.
fn first(n: u32, backoff: &mut (impl BackoffStrategy + ?Sized)) -> Vec<Duration> {
    (0..n).map(|attempt| backoff.next_delay(attempt)).collect()
}

#[test]
fn strategies_of_every_kind_live_in_one_list() {
    let exponential = ExponentialBackoff::builder()
        .initial(ms(1))
        .build()
        .unwrap();
    let mut all: Vec<Box<dyn BackoffStrategy + Send>> = vec![
        Box::new(ConstantBackoff::new(ms(3))),
        Box::new(LinearBackoff::new(ms(1), ms(2), ms(4)).unwrap()),
        Box::new(exponential),
        Box::new(Delays::new(vec![ms(7)]).unwrap()),
        Box::new(|attempt: u32| ms(u64::from(attempt))),
    ];
    let delays: Vec<_> = all.iter_mut().map(|backoff| first(3, backoff)).collect();
    assert_eq!(
        delays,
        [[3, 3, 3], [1, 3, 4], [1, 2, 4], [7, 7, 7], [0, 1, 2]].map(|row| row.map(ms).to_vec())
    );
}

#[test]
fn a_borrowed_strategy_and_a_boxed_one_pass_the_reset_on() {
    struct Resets(u64);
    impl BackoffStrategy for Resets {
        fn next_delay(&mut self, _: u32) -> Duration {
            ms(self.0)
        }
        fn reset(&mut self) {
            self.0 += 1;
        }
    }
    fn used(mut backoff: impl BackoffStrategy) -> Duration {
        backoff.reset();
        backoff.next_delay(1)
    }
    let mut resets = Resets(0);
    assert_eq!(
        used(&mut resets as &mut (dyn BackoffStrategy + Send)),
        ms(1)
    );
    assert_eq!(
        used(Box::new(resets) as Box<dyn BackoffStrategy + Send>),
        ms(2)
    );
}

#[test]
fn a_retry_crates_endless_iterator_is_a_strategy() {
    // What backon and tokio-retry build: a stateful iterator, with no number of attempts.
    let doubling = || std::iter::successors(Some(ms(10)), |delay| Some(*delay * 2)).take(4);
    let mut backoff = Delays::from_fn(doubling).unwrap();
    assert_eq!(first(6, &mut backoff), [10, 20, 40, 80, 80, 80].map(ms));
    assert_eq!(first(2, &mut backoff), [10, 20].map(ms));
}

fn jitters() -> impl Strategy<Value = Jitter> {
    prop_oneof![
        Just(Jitter::None),
        (0.0..=1.0).prop_map(Jitter::Relative),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
    ]
}

proptest! {
    #[test]
    fn a_seed_replays_and_no_delay_passes_the_cap(
        initial in 1..u64::MAX,
        max in any::<u64>(),
        multiplier in 1.0..1e300,
        jitter in jitters(),
        seed in any::<u64>(),
        attempts in prop::collection::vec(any::<u32>(), 1..20),
    ) {
        let max = Duration::from_nanos(max.max(initial));
        let build = || ExponentialBackoff::builder()
            .initial(Duration::from_nanos(initial)).max(max).multiplier(multiplier)
            .jitter(jitter).seed(seed).build().unwrap();
        let (mut one, mut two) = (build(), build());
        for attempt in attempts {
            let delay = one.next_delay(attempt);
            prop_assert_eq!(delay, two.next_delay(attempt));
            prop_assert!(delay <= max);
        }
    }
}
