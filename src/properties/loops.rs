//! The checks of a restart loop, on a fake clock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::Strategy;
use tokio::sync::watch;

use crate::backoff::BackoffStrategy;
use crate::clock::{Clock, FakeClock};
use crate::rules::{DelayOrigin, Rule, Verdict, registered};
use crate::supervisor::Starter;
use crate::timestamp::Timestamp;

use super::declared_rules::RestartParams;
use super::generated::{Failed, broken, cases};
use super::strategies::durations;

pub(super) const SPACING: &Rule = registered("min-spacing");
pub(super) const ORIGIN: &Rule = registered("delay-origin");
pub(super) const INTERRUPTIBLE: &Rule = registered("backoff-interruptible");

const HOUR: Duration = Duration::from_secs(3_600);

/// What a check runs a restart loop with. The loop must:
/// - call the starter until it succeeds;
/// - wait on this clock, for the delays of this backoff;
/// - return when it is cancelled.
pub struct LoopCase {
    /// The clock that the loop must wait on. The starter uses it too.
    pub clock: FakeClock,
    /// The backoff that gives the delays.
    pub backoff: Box<dyn BackoffStrategy + Send>,
    /// Says when the check cancels the loop.
    pub cancel: Cancel,
    /// The starter that the loop must call.
    pub starter: FailingStarter,
}

/// Says when a check cancels the loop.
#[derive(Clone, Debug)]
pub struct Cancel(watch::Receiver<bool>);

impl Cancel {
    /// Whether the check has cancelled the loop.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Completes when the check has cancelled the loop, and at once after that. Cancel-safe.
    pub async fn cancelled(&self) {
        let mut receiver = self.0.clone();
        if receiver
            .wait_for(|is_cancelled| *is_cancelled)
            .await
            .is_err()
        {
            // The check is over, and has not cancelled the loop.
            std::future::pending::<()>().await;
        }
    }
}

/// Fails as often as the check says, and then succeeds. Records when each attempt began and ended.
#[derive(Debug)]
pub struct FailingStarter {
    clock: FakeClock,
    failures: usize,
    takes: Duration,
    log: Arc<Mutex<Vec<Attempt>>>,
}

/// When an attempt began and ended.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    began: Timestamp,
    ended: Timestamp,
}

impl Starter for FailingStarter {
    type Error = &'static str;

    async fn start(&mut self) -> Result<(), &'static str> {
        let began = self.clock.now();
        self.clock.sleep(self.takes).await;
        let ended = self.clock.now();
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push(Attempt { began, ended });
        if log.len() > self.failures {
            Ok(())
        } else {
            Err("told to fail")
        }
    }
}

/// Runs the loop, and cancels it at `cancel_at` if that is given. Returns the attempts, and when
/// the loop returned.
fn attempts(
    run: &impl AsyncFn(LoopCase),
    delays: &[Duration],
    takes: Duration,
    cancel_at: Option<Duration>,
) -> (Vec<Attempt>, Timestamp) {
    let clock = FakeClock::new();
    let (cancel, cancelled) = watch::channel(false);
    let log = Arc::default();
    let starter = FailingStarter {
        clock: clock.clone(),
        failures: delays.len(),
        takes,
        log: Arc::clone(&log),
    };
    let delays = delays.to_vec();
    let last = delays.len() - 1;
    let backoff = move |attempt: u32| delays[last.min(attempt as usize)];
    let case = LoopCase {
        clock: clock.clone(),
        backoff: Box::new(backoff),
        cancel: Cancel(cancelled),
        starter,
    };
    let returned = clock.block_on(async {
        let running = async {
            run(case).await;
            clock.now()
        };
        let mut running = std::pin::pin!(running);
        if let Some(cancel_at) = cancel_at {
            tokio::select! {
                returned = running.as_mut() => return returned,
                () = clock.sleep(cancel_at) => drop(cancel.send_replace(true)),
            }
        }
        running.await
    });
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    (log.clone(), returned)
}

fn delays() -> impl Strategy<Value = Vec<Duration>> {
    vec(durations(HOUR), 1..6)
}

/// Returns each attempt except the last, with the delay after it and the next attempt. Fails if
/// there is not exactly one attempt more than there are delays.
fn pairs(
    attempts: &[Attempt],
    delays: &[Duration],
) -> Result<Vec<(Attempt, Duration, Attempt)>, Failed> {
    if attempts.len() != delays.len() + 1 {
        let expected = format!("{} attempts, the last successful", delays.len() + 1);
        return Err(broken(
            "the whole run",
            expected,
            attempts.len().to_string(),
        ));
    }
    let next = attempts.iter().skip(1);
    let pairs = attempts.iter().zip(delays).zip(next);
    Ok(pairs
        .map(|((one, delay), two)| (*one, *delay, *two))
        .collect())
}

/// Rule `min-spacing`: if attempts fail at once, each attempt begins at least the backoff's delay
/// after the previous one.
///
/// Source: the one second of s6-supervise; a loop that once forgets to wait.
pub fn min_spacing(run: impl AsyncFn(LoopCase), params: &RestartParams) -> Verdict {
    cases(params, SPACING, &delays(), |delays| {
        let (attempts, _) = attempts(&run, delays, Duration::ZERO, None);
        for (n, (one, delay, two)) in (2..).zip(pairs(&attempts, delays)?) {
            let apart = two.began - one.began;
            if apart < delay {
                let expected = format!("{delay:?} after the attempt before, or more");
                return Err(broken(
                    format!("attempt {n}"),
                    expected,
                    format!("{apart:?}"),
                ));
            }
        }
        Ok(())
    })
}

/// Rule `delay-origin`: if attempts take some time, the last one begins exactly the delay after the
/// end, or after the beginning, of the previous one, as declared. If the delay counts from the
/// beginning and is over before the previous attempt ends, the last one begins at that end.
pub fn delay_origin(run: impl AsyncFn(LoopCase), params: &RestartParams) -> Verdict {
    cases(
        params,
        ORIGIN,
        &(delays(), durations(HOUR)),
        |(delays, takes)| {
            let (attempts, _) = attempts(&run, delays, *takes, None);
            let Some((one, delay, two)) = pairs(&attempts, delays)?.pop() else {
                return Ok(());
            };
            let expected = match params.delay_origin {
                DelayOrigin::Exit => one.ended + delay,
                DelayOrigin::LastStart => one.ended.max(one.began + delay),
            };
            if two.began == expected {
                return Ok(());
            }
            Err(broken(
                format!(
                    "the last attempt; the one before was from {} to {}",
                    one.began, one.ended
                ),
                format!("a beginning at {expected}, the delay being {delay:?}"),
                two.began.to_string(),
            ))
        },
    )
}

/// Rule `backoff-interruptible`: if the loop is cancelled in the middle of a delay, it returns at
/// that moment of the clock and makes no other attempt.
///
/// Source: moby/moby#22342, where a stop hangs during a restart; Supervisor/supervisor#746.
pub fn backoff_interruptible(run: impl AsyncFn(LoopCase), params: &RestartParams) -> Verdict {
    let long = durations(HOUR).prop_map(|delay| delay + Duration::from_nanos(1));
    cases(
        params,
        INTERRUPTIBLE,
        &(1..5_usize, long),
        |(failures, delay)| {
            let delays = vec![*delay; *failures];
            // The cancel comes in the middle of the last delay.
            let before = delays.iter().skip(1).sum::<Duration>();
            let cancel_at = before + *delay / 2;
            let (attempts, returned) = attempts(&run, &delays, Duration::ZERO, Some(cancel_at));
            let cancelled = Timestamp::ORIGIN + cancel_at;
            let place = format!("a cancel at {cancelled}, in a delay of {delay:?}");
            if let Some(late) = attempts.iter().find(|attempt| attempt.began >= cancelled) {
                return Err(broken(
                    place,
                    "no attempt after it",
                    format!("one at {}", late.began),
                ));
            }
            if returned > cancelled {
                return Err(broken(
                    place,
                    "a return at once",
                    format!("a return at {returned}"),
                ));
            }
            Ok(())
        },
    )
}

impl std::fmt::Debug for LoopCase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoopCase")
            .field("starter", &self.starter)
            .finish_non_exhaustive()
    }
}
