//! Proptest strategies for backoffs, policies, limits and ends of runs.
//!
//! ```
//! use std::time::Duration;
//!
//! use proptest::prelude::*;
//! use supervise_harness::properties::strategies;
//! use supervise_harness::supervisor::{Decision, RestartPolicy, RestartTracker};
//! use supervise_harness::Timestamp;
//!
//! let minute = Duration::from_secs(60);
//! proptest!(|(end in strategies::run_ends(minute))| {
//!     let mut tracker = RestartTracker::builder().policy(RestartPolicy::Never).build()?;
//!     let decision = tracker.decide(&end, Timestamp::ORIGIN);
//!     prop_assert_eq!(decision, Decision::Finished { success: tracker.is_success(&end) });
//! });
//! ```

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};
use proptest::sample::select;

use crate::backoff::{ExponentialBackoff, ExponentialBackoffBuilder, Jitter};
use crate::status::ExitStatus;
use crate::supervisor::{EndCause, RestartLimit, RestartPolicy, RunEnd};
use agent_stub::Signal;

/// Generates durations from 1 ns to `most`. Short and long ones are equally frequent: each power of
/// two has the same probability. Shrinks towards 1 ns.
pub fn durations(most: Duration) -> impl Strategy<Value = Duration> + Clone {
    let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX).max(1);
    (0..=most.ilog2(), any::<u64>()).prop_map(move |(bits, word)| {
        let nanos = (1 << bits) + (word & ((1 << bits) - 1));
        Duration::from_nanos(nanos.min(most))
    })
}

/// Generates every jitter; the relative one has fractions from 0 to 1. Shrinks towards no jitter.
pub fn jitters() -> impl Strategy<Value = Jitter> + Clone {
    prop_oneof![
        Just(Jitter::None),
        (0.0..=1.0).prop_map(Jitter::Relative),
        Just(Jitter::Full),
        Just(Jitter::Equal),
        Just(Jitter::Decorrelated),
    ]
}

/// Generates valid exponential backoffs without a seed. Initial delays start at 1 ns, caps go up to
/// a day, and multipliers are from 1 to 10.
pub fn exponential_backoffs() -> impl Strategy<Value = ExponentialBackoffBuilder> + Clone {
    let day = Duration::from_secs(86_400);
    let multipliers = prop_oneof![Just(1.0), Just(2.0), 1.0..=10.0];
    (durations(day), durations(day), multipliers, jitters()).prop_map(
        |(one, two, multiplier, jitter)| {
            ExponentialBackoff::builder()
                .initial(one.min(two))
                .max(one.max(two))
                .multiplier(multiplier)
                .jitter(jitter)
        },
    )
}

/// Generates every policy. Shrinks towards `Never`.
pub fn policies() -> impl Strategy<Value = RestartPolicy> + Clone {
    select(&[
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::Always,
    ])
}

/// Generates `Unlimited`, and valid limits of up to `most` restarts, in a row or within up to a
/// day.
pub fn limits(most: u32) -> impl Strategy<Value = RestartLimit> + Clone {
    let day = Duration::from_secs(86_400);
    let some = 1..=most.max(1);
    prop_oneof![
        Just(RestartLimit::Unlimited),
        some.clone()
            .prop_map(|n| RestartLimit::consecutive(n).expect("1 or more")),
        (some, durations(day))
            .prop_map(|(n, within)| RestartLimit::window(n, within).expect("1 or more, above zero")),
    ]
}

/// Generates every signal, 1 to 64.
pub fn signals() -> impl Strategy<Value = Signal> + Clone {
    select(Signal::all().collect::<Vec<Signal>>())
}

/// Generates every status with which a process can end.
pub fn exit_statuses() -> impl Strategy<Value = ExitStatus> + Clone {
    prop_oneof![
        (0..=255).prop_map(|code| ExitStatus::Exited { code }),
        (signals(), any::<bool>()).prop_map(|(signal, core_dumped)| ExitStatus::Signaled {
            signal,
            core_dumped
        }),
    ]
}

/// Generates every cause of the end of a run.
pub fn end_causes() -> impl Strategy<Value = EndCause> + Clone {
    prop_oneof![
        4 => exit_statuses().prop_map(EndCause::Exited),
        1 => Just(EndCause::StartFailed),
        1 => Just(EndCause::StartTimeout),
        1 => Just(EndCause::WatchdogTimeout),
        1 => Just(EndCause::Unhealthy),
    ]
}

/// Generates ends of runs that were up for at most `longest`, requested or not.
pub fn run_ends(longest: Duration) -> impl Strategy<Value = RunEnd> + Clone {
    (end_causes(), durations(longest), any::<bool>()).prop_map(|(cause, up_for, requested)| {
        let mut end = RunEnd::new(cause);
        if !matches!(cause, EndCause::StartFailed | EndCause::StartTimeout) {
            end = end.after(up_for);
        }
        if requested { end.on_request() } else { end }
    })
}

/// Generates up to `most` ends, each with the time since the previous end. This time is at least as
/// long as the run was up.
pub fn histories(
    most: usize,
    longest: Duration,
) -> impl Strategy<Value = Vec<(RunEnd, Duration)>> + Clone {
    let one =
        (run_ends(longest), durations(longest)).prop_map(|(end, delay)| (end, end.up_for + delay));
    vec(one, 0..=most)
}
