//! How many runs of a service are alive at the same time.

use super::call::{Control, ControlCall};
use super::observed::Observed;
use super::rule::Verdict;
use crate::timeline::RunSpan;

pub(super) fn alive(observed: &Observed) -> Vec<RunSpan> {
    let mut runs = observed.runs();
    runs.retain(|run| run.exit.is_none());
    runs
}

/// Whether exactly one run is alive when the observation ends.
pub(super) fn one_instance(observed: &Observed) -> Verdict {
    let alive = alive(observed);
    match &alive[..] {
        [_] => Verdict::Pass,
        [] => observed.broken(
            None,
            "one instance is alive",
            format!("none is at {}", observed.end),
        ),
        [.., last] => observed.broken(
            observed.start_of(last.run),
            "one instance is alive",
            format!("{} are at {}", alive.len(), observed.end),
        ),
    }
}

pub(super) fn concurrent_restarts(observed: &Observed) -> Verdict {
    let calls: Vec<&ControlCall> = observed.calls_of(Control::Restart).collect();
    let (Some(last), Some(first)) = (
        calls.iter().map(|call| call.from).max(),
        observed.runs().first().and_then(|run| run.exit),
    ) else {
        return Verdict::unknown("there was no restart");
    };
    if calls.len() < 2 || first < last {
        return Verdict::unknown("the restarts were not asked for at once");
    }
    if calls.iter().any(|call| call.to.is_none()) {
        return Verdict::unknown("a restart has not returned");
    }
    if let Some((one, other)) = observed.timeline.overlaps(&observed.service.name).first() {
        return observed.broken(
            observed.start_of(*other),
            format!("run {other} starts when run {one} has ended"),
            "both are alive".to_owned(),
        );
    }
    one_instance(observed)
}
