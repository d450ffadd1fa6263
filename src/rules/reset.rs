//! When the supervisor begins to count from zero again.

use super::call::Control;
use super::group::Group;
use super::need::Requirement;
use super::observed::Observed;
use super::profile::DelayOrigin;
use super::rule::{Check, Rule, Verdict};
use crate::timestamp::Timestamp;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "reset-after-healthy",
        group: Group::Reset,
        invariant: "after H healthy the next delay is the first again",
        rationale: "Without a reset, old crashes count for ever. A service that crashed often in \
                    its first week then waits for minutes after each later crash.",
        origin: "Docker: reset after 10 s; Kubernetes CrashLoopBackOff: reset after 10 min.",
        bug: Some("systemd/systemd#43813 backoff steps never reset"),
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::ResetAfter,
        ],
        check: Check::Observed(reset_after_healthy),
    },
    Rule {
        id: "no-early-reset",
        group: Group::Reset,
        invariant: "a run shorter than H keeps the counter",
        rationale: "A service may run for a short time before each crash. If such a run resets the \
                    counter, the supervisor restarts the service at full speed without end.",
        origin: "Docker: reset after 10 s; Kubernetes CrashLoopBackOff: reset after 10 min.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::ResetAfter,
        ],
        check: Check::Observed(no_early_reset),
    },
    Rule {
        id: "manual-reset",
        group: Group::Reset,
        invariant: "an explicit reset clears the counters",
        rationale: "If the counters stay, a service that somebody has fixed still waits for the \
                    long delay of its old crashes. Or the supervisor gives up on it.",
        origin: "systemctl reset-failed.",
        bug: None,
        needs: &[
            Requirement::Restarts,
            Requirement::Delays,
            Requirement::Reset,
        ],
        check: Check::Trial(
            manual_reset,
            "two crashes, a reset while the third run is up, and a third crash",
        ),
    },
];

/// A restart, and what the delay before it should depend on.
struct Step {
    /// The place, among the runs, of the run that this restart started.
    place: usize,
    /// How many restarts there were before this one, since counting began.
    n: u32,
    /// Whether counting began anew before this restart, after a healthy run.
    was_reset: bool,
    /// Whether a run since then was nearly healthy.
    was_close: bool,
}

/// The restarts, with the counters as they should be. If the counters cannot be known, the verdict
/// is unknown.
fn steps(observed: &Observed) -> Result<Vec<Step>, Verdict> {
    let Some(healthy) = observed.service.reset_after else {
        return Err(Verdict::unknown("no run is ever healthy"));
    };
    observed.left_alone()?;
    let runs = observed.in_turn()?;
    if observed.failed_starts(Timestamp::ORIGIN, observed.end) > 0 {
        return Err(Verdict::unknown(
            "starts that failed have delays of their own",
        ));
    }
    if observed.service.readiness == crate::supervisor::Readiness::Notified {
        return Err(Verdict::unknown(
            "from when on its runs were up is not known",
        ));
    }
    let is_short = |timeout| match observed.service.readiness {
        crate::supervisor::Readiness::MinUptime(time) => timeout <= time,
        _ => false,
    };
    if observed.service.start_timeout.is_some_and(is_short) || observed.service.probe.is_some() {
        return Err(Verdict::unknown("how long its runs were up is not known"));
    }
    let until_up = match observed.service.readiness {
        crate::supervisor::Readiness::MinUptime(time) => time,
        _ => std::time::Duration::ZERO,
    };
    let mut steps = Vec::new();
    let (mut n, mut was_reset, mut was_close) = (0, false, false);
    for (place, run) in runs.iter().enumerate() {
        let Some(exit) = run.exit else { break };
        let up_for = exit.saturating_since(run.start + until_up);
        // So close to the limit, the run may or may not have been healthy: something may have been
        // late.
        if up_for + observed.late() >= healthy && up_for <= healthy + observed.late() {
            return Err(Verdict::unknown(format!(
                "run {} was healthy by a hair, or not",
                run.run
            )));
        }
        if up_for > healthy {
            (was_reset, was_close) = (was_reset || n > 0, false);
            n = 0;
        }
        was_close |= up_for >= healthy / 2 && up_for < healthy;
        steps.push(Step {
            place: place + 1,
            n,
            was_reset,
            was_close,
        });
        n += 1;
    }
    steps.retain(|step| step.place < runs.len());
    Ok(steps)
}

/// Whether the n-th delay, counted from 0, differs so much from the first that they cannot be
/// confused.
fn differs(observed: &Observed, n: u32) -> bool {
    let delays = &observed.service.delays;
    delays.bounds(0).1 + observed.late() < delays.bounds(n).0
}

fn reset_after_healthy(observed: &Observed) -> Verdict {
    let steps = match steps(observed) {
        Ok(steps) => steps,
        Err(unknown) => return unknown,
    };
    if !differs(observed, 2) {
        return Verdict::unknown("the delays do not grow");
    }
    let runs = observed.runs();
    let mut was_judged = false;
    for step in steps {
        // A delay that counts from the last start is over when a healthy run ends. Then the delay
        // after it is the one that shows the reset.
        let telling = match observed.profile.delay.origin {
            DelayOrigin::Exit => step.n == 0,
            DelayOrigin::LastStart => step.n == 1,
        };
        if !step.was_reset || !telling {
            continue;
        }
        let (run, next) = (&runs[step.place - 1], &runs[step.place]);
        let Some(exit) = run.exit else { continue };
        let (least, most) = observed.due(run, exit, step.n);
        was_judged = true;
        if next.start + observed.early() < least || next.start > most {
            return observed.broken(
                observed.start_of(next.run),
                format!(
                    "run {} starts at {least}, after delay {} since the healthy run",
                    next.run,
                    step.n + 1
                ),
                format!("run {} starts at {}", next.run, next.start),
            );
        }
    }
    if was_judged {
        Verdict::Pass
    } else {
        Verdict::unknown("no restart after a healthy run")
    }
}

fn no_early_reset(observed: &Observed) -> Verdict {
    let steps = match steps(observed) {
        Ok(steps) => steps,
        Err(unknown) => return unknown,
    };
    let runs = observed.runs();
    let mut was_judged = false;
    for step in steps {
        let (run, next) = (&runs[step.place - 1], &runs[step.place]);
        let Some(exit) = run.exit else { continue };
        if !step.was_close || !differs(observed, step.n) {
            continue;
        }
        let first = observed.due(run, exit, 0).1;
        let (least, _) = observed.due(run, exit, step.n);
        // A delay that counts from the last start may be over already.
        if first >= least {
            continue;
        }
        was_judged = true;
        // Another rule judges how long the delay is exactly.
        if next.start <= first {
            return observed.broken(
                observed.start_of(next.run),
                format!(
                    "run {} starts at {least}, after delay {}: no run was healthy",
                    next.run,
                    step.n + 1
                ),
                format!("run {} starts at {}, after delay 1", next.run, next.start),
            );
        }
    }
    if was_judged {
        Verdict::Pass
    } else {
        Verdict::unknown("no restart after a run that was nearly healthy")
    }
}

fn manual_reset(observed: &Observed) -> Verdict {
    let Some(reset) = observed.call(Control::Reset) else {
        return Verdict::unknown("it was not told to reset");
    };
    if let Some(error) = &reset.error {
        let actual = format!("it is an error: {error}");
        return observed.broken(None, "a reset that is carried out", actual);
    }
    let Some(to) = reset.to else {
        return Verdict::unknown("the reset has not returned");
    };
    let runs = match observed.in_turn() {
        Ok(runs) => runs,
        Err(unknown) => return unknown,
    };
    let after = runs
        .iter()
        .position(|run| run.start < to && run.exit.is_some_and(|exit| exit > to));
    let Some(place) = after else {
        return Verdict::unknown("no run that was up at the reset has ended");
    };
    let run = &runs[place];
    let (Some(exit), Some(status)) = (run.exit, run.status) else {
        return Verdict::unknown("nobody can tell how the run ended");
    };
    let n = u32::try_from(place).unwrap_or(u32::MAX);
    if !differs(observed, n) || !observed.service.restarts(status) {
        return Verdict::unknown("the next delay tells nothing");
    }
    let (least, most) = observed.due(run, exit, 0);
    let expected = format!(
        "run {} starts at {least}, after delay 1: the counters were cleared at {to}",
        run.run + 1
    );
    match runs.get(place + 1) {
        Some(next) if least <= next.start + observed.early() && next.start <= most => Verdict::Pass,
        Some(next) => observed.broken(
            observed.start_of(next.run),
            expected,
            format!("run {} starts at {}", next.run, next.start),
        ),
        None if observed.looked_past(exit, place) => observed.broken(
            observed.exit_of(run.run),
            expected,
            format!("there was no start by {}", observed.end),
        ),
        None => Verdict::unknown("looking ended before the delay was over"),
    }
}
