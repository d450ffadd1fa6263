//! A run that was told to stop, and how it ended.

use super::call::{Control, ControlCall};
use super::observed::Observed;
use super::rule::Verdict;
use crate::status::ExitStatus;
use crate::timeline::{EventKind, RunSpan};
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// The first run, and the call that was to stop it. The verdict is unknown if there is no such call,
/// or if the run was not alive at the time of the call.
pub(super) fn stopped(observed: &Observed) -> Result<(RunSpan, &ControlCall), Verdict> {
    let Some(run) = observed.runs().first().copied() else {
        return Err(Verdict::unknown("it was never started"));
    };
    let Some(call) = observed.call(Control::Stop) else {
        return Err(Verdict::unknown("it was not told to stop"));
    };
    if run.exit.is_some_and(|exit| exit < call.from) {
        return Err(Verdict::unknown("it had ended before it was told to stop"));
    }
    // A process that was ended before its hello has no run. So this run may have been asked for
    // after the stop.
    let mut later = observed.calls.iter().skip_while(|told| *told != call);
    let is_next = later.any(|told| matches!(told.control, Control::Start | Control::Restart));
    let after = run.start >= call.from && is_next;
    if after || run.start > call.from + observed.early() {
        return Err(Verdict::unknown(
            "it was not running when it was told to stop",
        ));
    }
    Ok((run, call))
}

/// Whether SIGKILL ended the run.
pub(super) fn is_killed(run: &RunSpan) -> bool {
    matches!(
        run.status,
        Some(ExitStatus::Signaled {
            signal: Signal::KILL,
            ..
        })
    )
}

/// How the run ended, in words.
pub(super) fn end(run: &RunSpan) -> String {
    match (run.exit, run.status) {
        (Some(exit), Some(status)) => format!("run {} ended at {exit}: {status}", run.run),
        (Some(exit), None) => format!("run {} ended at {exit}", run.run),
        (None, _) => format!("run {} is still alive", run.run),
    }
}

/// Where and when the run was reaped.
pub(super) fn reap(observed: &Observed, run: u32) -> Option<(usize, Timestamp)> {
    observed
        .own()
        .find(|(_, number, event)| *number == run && event.what == EventKind::Reap)
        .map(|(place, _, event)| (place, event.at))
}
