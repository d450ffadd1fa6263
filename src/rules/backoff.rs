//! How long it takes until the next start.

use super::{Check, Group, Need, Observed, Rule, Verdict};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "delay-curve",
    group: Group::BackoffAndJitter,
    invariant: "the k-th delay matches the declared curve",
    rationale: "A delay that grows too slowly keeps a broken machine busy; one that grows too fast keeps a \
                mended service down.",
    origin: "systemd.service(5) RestartSteps=, RestartMaxDelaySec=; Kubernetes CrashLoopBackOff.",
    bug: Some("systemd/systemd#43813 backoff steps never reset"),
    needs: &[Need::Restarts, Need::Delays],
    check: Check::Observed(delay_curve),
}];

/// The delay before the k-th restart, by the bounds of the curve.
fn delay_curve(observed: &Observed) -> Verdict {
    let curve = observed.service.delays;
    let runs = observed.runs();
    if runs.len() < 2 {
        return Verdict::unknown("there was no restart");
    }
    let late = observed.profile.tolerance() + observed.granularity();
    for (k, pair) in (0..).zip(runs.windows(2)) {
        // Another rule's matter.
        let Some(exit) = pair[0].exit.filter(|exit| *exit <= pair[1].start) else {
            return Verdict::unknown("a run was started before the last had ended");
        };
        let (least, most) = curve.bounds(k);
        let start = pair[1].start;
        if start < exit + least {
            let early = exit + least - start;
            return observed.broken(
                observed.start_of(pair[1].run),
                format!(
                    "run {} starts at {} (exit at {exit} + delay {least:?})",
                    pair[1].run,
                    exit + least
                ),
                format!("run {} starts at {start}, {early:?} early", pair[1].run),
            );
        }
        if start > exit + most + late {
            return observed.broken(
                observed.start_of(pair[1].run),
                format!(
                    "run {} starts by {} (exit at {exit} + delay {most:?})",
                    pair[1].run,
                    exit + most + late
                ),
                format!(
                    "run {} starts at {start}, {:?} late",
                    pair[1].run,
                    start - (exit + most)
                ),
            );
        }
    }
    Verdict::Pass
}
