//! How a service comes up.

use super::{Check, Group, Observed, Rule, Verdict};

pub(super) const RULES: &[Rule] = &[Rule {
    id: "start-exactly-one",
    group: Group::Start,
    invariant: "a start request yields exactly one live instance",
    rationale: "Two instances fight over the same port, lock or file.",
    origin: "s6-supervise, \"detailed operation\"; OTP supervisor: a child is started once.",
    bug: None,
    needs: &[],
    check: Check::Observed(start_exactly_one),
}];

fn start_exactly_one(observed: &Observed) -> Verdict {
    let runs = observed.runs();
    match runs.len() {
        0 => Verdict::unknown("it was never started"),
        1 if runs[0].exit.is_none() => Verdict::Pass,
        1 => observed.broken(
            observed.exit_of(1),
            "one live instance",
            "the only one has ended by itself",
        ),
        count => observed.broken(observed.start_of(2), "one start", format!("{count} starts")),
    }
}
