//! The restart tracker against its rules written down naively.

use std::time::Duration;

use proptest::prelude::*;
use supervise_harness::properties::strategies;
use supervise_harness::supervisor::{
    Decision, EndCause, GaveUp, RestartLimit, RestartPolicy, RestartTracker,
};
use supervise_harness::{ExitStatus, Timestamp};

const SECOND: Duration = Duration::from_secs(1);

proptest! {
    #[test]
    fn every_decision_is_the_one_that_the_whole_history_gives(
        policy in strategies::policies(),
        limit in strategies::limits(5),
        healthy in strategies::durations(60 * SECOND),
        history in strategies::histories(40, 120 * SECOND),
    ) {
        let rules = RestartTracker::builder().policy(policy).limit(limit);
        let mut tracker = rules.reset_after(healthy).build().unwrap();
        let mut now = Timestamp::ORIGIN;
        // When there was a restart, and whether the run before it had been healthy.
        let mut restarts: Vec<(Timestamp, bool)> = Vec::new();
        // Whether a run without a restart after it was healthy.
        let mut healthy_since = false;
        let mut gave_up = None;
        for (end, after) in history {
            now += after;
            let decision = tracker.decide(&end, now);
            if let Some(gave_up) = gave_up {
                prop_assert_eq!(decision, gave_up);
                continue;
            }
            let success = match end.cause {
                EndCause::Exited(ExitStatus::Exited { code }) => code == 0,
                EndCause::Exited(_) => end.requested,
                _ => false,
            };
            let wanted = !end.requested && match policy {
                RestartPolicy::Always => true,
                RestartPolicy::OnFailure => !success,
                _ => false,
            };
            healthy_since |= !end.requested && end.up_for >= healthy;
            if !wanted {
                prop_assert_eq!(decision, Decision::Finished { success });
                continue;
            }
            let since_healthy = if healthy_since {
                0
            } else {
                let row = restarts.iter().rev().take_while(|(_, healthy)| !healthy).count();
                row + usize::from(row < restarts.len())
            };
            let (count, most) = match limit {
                RestartLimit::Consecutive(most) => (since_healthy, most.get()),
                RestartLimit::Window { restarts: most, within } => {
                    let recent = restarts.iter().filter(|(then, _)| now - *then <= within);
                    (recent.count(), most.get())
                }
                _ => (0, u32::MAX),
            };
            if count < most as usize {
                let attempt = u32::try_from(since_healthy).unwrap();
                prop_assert_eq!(decision, Decision::Restart { attempt });
                restarts.push((now, healthy_since));
                healthy_since = false;
            } else {
                let expected = GaveUp::new(end.cause, most, limit);
                prop_assert_eq!(decision, Decision::GiveUp(expected));
                gave_up = Some(decision);
            }
        }
    }
}
