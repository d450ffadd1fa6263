//! What becomes of the children of a supervisor that dies.

use super::{Check, Group, Need, Rule};

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
        check: Check::Planned(
            "a sim is one thread, and a session lives on it: no other could end while its children run",
        ),
    },
];
