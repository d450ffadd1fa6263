//! What becomes of the children of a supervisor that dies.

use super::{Check, Group, Need, Observed, Rule, Starter, Verdict};
use crate::ExitStatus;

const OWN_PROCESS: Check =
    Check::Planned("the supervisor has to be a process of its own, to be killed and started again");

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "crash-child-fate",
        group: Group::SupervisorCrash,
        invariant: "when the supervisor is killed its children survive or die, as declared",
        rationale: "Children that are thought dead hold the ports of those that shall replace them.",
        origin: "systemd-nspawn(1) --kill-signal=; prctl(2) PR_SET_PDEATHSIG; runit: services survive runsv.",
        bug: None,
        needs: &[],
        check: OWN_PROCESS,
    },
    Rule {
        id: "no-duplicate-after-crash",
        group: Group::SupervisorCrash,
        invariant: "a new supervisor adopts, blocks or kills what is left, and never runs a second copy",
        rationale: "Two copies of a service write the same files.",
        origin: "s6-supervise: a lock in the service directory; systemd: control groups outlive it.",
        bug: None,
        needs: &[],
        check: OWN_PROCESS,
    },
    Rule {
        id: "second-supervisor",
        group: Group::SupervisorCrash,
        invariant: "a concurrent second supervisor is refused without harm",
        rationale: "A start by hand beside the running one happens to everybody once.",
        origin: "runsv(8), s6-supervise: \"unable to lock: already supervised\".",
        bug: None,
        needs: &[],
        check: OWN_PROCESS,
    },
    Rule {
        id: "thread-exit-safe",
        group: Group::SupervisorCrash,
        invariant: "the end of a supervisor thread never kills children",
        rationale: "PR_SET_PDEATHSIG goes by the thread that forked: an idle worker that ends takes the children \
                    with it.",
        origin: "prctl(2) PR_SET_PDEATHSIG: \"the thread that created this process\".",
        bug: Some(
            "nekename/OpenDeck#329 PDEATHSIG kills children when a runtime worker thread exits",
        ),
        needs: &[Need::InProcess],
        check: Check::Observed(thread_exit_safe),
    },
];

/// A run that does nothing but stay, and whose starter may have ended meanwhile.
fn thread_exit_safe(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    let Some(run) = runs.first() else {
        return Verdict::unknown("there was no run");
    };
    let Some(starter) = observed.facts.starter else {
        return Verdict::unknown("nobody looked which thread started it");
    };
    let Some(inherited) = observed.facts.hygiene.get(&run.run) else {
        return Verdict::unknown("nobody looked what it gets when that thread ends");
    };
    let signal = inherited.parent_death;
    let Some((at, status)) = run.exit.zip(run.status) else {
        return match (signal, starter) {
            (Some(signal), Starter::Other) => Verdict::unknown(format!(
                "it gets {signal} when the thread that started it ends, which it has not"
            )),
            _ => Verdict::Pass,
        };
    };
    let is_sent =
        |signal| matches!(status, ExitStatus::Signaled { signal: by, .. } if by == signal);
    if starter == Starter::Ended || signal.is_some_and(is_sent) {
        let why = signal.map_or_else(String::new, |signal| {
            format!("; it gets {signal} at that thread's end")
        });
        return observed.broken(
            observed.exit_of(run.run),
            format!(
                "run {} goes on when the thread that started it ends",
                run.run
            ),
            format!("it ends at {at}: {status}{why}"),
        );
    }
    Verdict::unknown(format!("run {} ended at {at} by itself", run.run))
}
