//! What a limit counts.

use super::call::{Control, ControlCall};
use super::notice::Notice;
use super::observed::Observed;
use super::profile::LimitCounts;
use super::rest::RestReason;
use super::rule::Verdict;
use crate::status::ExitStatus;

pub(super) fn limit_counts(observed: &Observed) -> Verdict {
    let Some(allowed) = observed.profile.allowed_starts(observed.service.limit) else {
        return Verdict::unknown("there is no limit");
    };
    let requests: Vec<&ControlCall> = observed.calls_of(Control::Restart).collect();
    if requests.is_empty() {
        clean_ends_count(observed, allowed)
    } else {
        requests_count(observed, &requests, allowed)
    }
}

/// In the trial all ends are success.
fn clean_ends_count(observed: &Observed, allowed: usize) -> Verdict {
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let is_clean = |status: ExitStatus| {
        observed.service.is_success(status) && observed.service.restarts(status)
    };
    let mut ends = runs.iter().filter(|run| run.exit.is_some());
    if !ends.all(|run| run.status.is_some_and(is_clean)) {
        return Verdict::unknown("not all ends are clean and followed by a restart");
    }
    // Another rule judges where exactly the limit is.
    let goes_on = runs.len() > allowed + 1;
    let last = &runs[runs.len() - 1];
    let has_given_up = last
        .exit
        .is_some_and(|exit| observed.looked_past(exit, runs.len()));
    let counted = observed.profile.limit.counts != LimitCounts::Failures;
    match (counted, goes_on) {
        (true, true) => observed.broken(
            observed.start_of(last.run),
            format!("restarts after clean ends count: about {allowed} starts"),
            format!("run {} was started at {}", last.run, last.start),
        ),
        (false, true) => Verdict::Pass,
        (true, false) if has_given_up => Verdict::Pass,
        (false, false) if has_given_up => observed.broken(
            observed.exit_of(last.run),
            "restarts after clean ends do not count",
            format!("there was none after run {}", last.run),
        ),
        _ => Verdict::unknown("looking ended before the limit was reached"),
    }
}

/// In the trial the restarts are asked for, and the service itself stays up.
fn requests_count(observed: &Observed, requests: &[&ControlCall], allowed: usize) -> Verdict {
    let counted = observed.profile.limit.counts == LimitCounts::Starts;
    let runs = observed.runs();
    let refused = requests.iter().find(|call| call.error.is_some());
    let gave_up = observed
        .notices
        .iter()
        .any(|noticed| matches!(noticed.notice, Notice::Resting(RestReason::GaveUp { .. })));
    if counted {
        return if runs.len() > allowed + 1 {
            observed.broken(
                observed.start_of(runs[runs.len() - 1].run),
                format!("starts that are asked for count: about {allowed} of them"),
                format!("there were {}", runs.len()),
            )
        } else if requests.len() > allowed + 1 || refused.is_some() || gave_up {
            Verdict::Pass
        } else {
            Verdict::unknown("it was asked too rarely")
        };
    }
    let expected = "restarts that are asked for do not count";
    if let Some(error) = refused.and_then(|call| call.error.as_ref()) {
        return observed.broken(None, expected, format!("one is an error: {error}"));
    }
    if requests.iter().any(|call| call.to.is_none()) {
        return Verdict::unknown("a restart has not returned");
    }
    if gave_up {
        return observed.broken(
            None,
            expected,
            format!("it gave up after {} of them", requests.len()),
        );
    }
    if requests.len() <= allowed {
        return Verdict::unknown("it was asked too rarely");
    }
    if runs.len() <= requests.len() {
        return observed.broken(
            None,
            expected,
            format!("{} restarts gave {} runs", requests.len(), runs.len()),
        );
    }
    Verdict::Pass
}
