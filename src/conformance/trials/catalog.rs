//! The catalog of all trials.

use super::{
    backoff, concurrency, crash, decision, descriptors, exhaustion, exit, limit, output, readiness,
    reaping, reset, start, stop, tree,
};
use crate::conformance::trial::Trial;

/// Returns all trials, in the order of the rules.
pub(in crate::conformance) fn all() -> impl Iterator<Item = &'static Trial> {
    [
        start::TRIALS,
        exit::TRIALS,
        decision::TRIALS,
        backoff::TRIALS,
        limit::TRIALS,
        reset::TRIALS,
        stop::TRIALS,
        tree::TRIALS,
        reaping::TRIALS,
        descriptors::TRIALS,
        readiness::TRIALS,
        output::TRIALS,
        concurrency::TRIALS,
        crash::TRIALS,
        exhaustion::TRIALS,
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::rules;

    #[test]
    fn every_rule_that_works_has_one_trial_and_no_other_has() {
        let tried: Vec<&str> = all().map(|trial| trial.rule).collect();
        let once: BTreeSet<&str> = tried.iter().copied().collect();
        assert_eq!(once.len(), tried.len(), "a rule has two trials: {tried:?}");
        let working = rules::all().filter(|rule| rule.planned().is_none());
        assert_eq!(once, working.map(|rule| rule.id).collect());
    }
}
