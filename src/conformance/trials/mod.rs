//! The cases of each rule. The files are those of the rules.

mod backoff;
mod concurrency;
mod crash;
mod decision;
mod descriptors;
mod exhaustion;
mod exit;
mod limit;
mod output;
mod probe;
mod readiness;
mod reaping;
mod reset;
mod start;
mod stop;
mod tree;

use std::time::Duration;

use super::stage::{Halt, Live, Stage};
use super::subject::Local;
use super::trial::Trial;
use crate::rules::{Profile, Service, ServiceGroup, Setting};
use crate::script::Script;
use crate::supervisor::RestartPolicy;

/// Whether the subject restarts anything.
fn restarts(profile: &Profile) -> bool {
    profile.policy.is_supported() && profile.policy != Setting::Fixed(RestartPolicy::Never)
}

/// Whether the subject can be asked for any number of restarts, in as little time as the case
/// likes: no limit and no delay is fixed.
fn restarts_freely(profile: &Profile) -> bool {
    let limits = [profile.consecutive_limit, profile.window_limit];
    let is_limited = limits
        .iter()
        .any(|limit| matches!(limit, Setting::Fixed(_)));
    restarts(profile) && !is_limited && !matches!(profile.delays, Setting::Fixed(_))
}

/// Returns the script of a run that fails after a fifth of a unit.
fn crash(profile: &Profile) -> Script {
    Script::new().run_for(profile.unit() / 5).exit(1)
}

/// Returns the longest first delay if the delays cannot be chosen, else zero.
fn fixed_delay(profile: &Profile) -> Duration {
    match profile.delays {
        Setting::Fixed(delays) => delays.bounds(0).1,
        _ => Duration::ZERO,
    }
}

/// Has the subject begin with a group of three services. The rule's own service is the second.
/// Their order is neither the order of their names nor that of their agents, nor the reverse of one
/// of these.
async fn begin_three<'a>(
    stage: &'a Stage<'a>,
    others: &Script,
    ask: &dyn Fn(&mut Service),
    declare: impl FnOnce(&mut ServiceGroup),
) -> Result<Live<'a>, Halt> {
    let last = stage.service_of("api", others.clone(), ask);
    let first = stage.service_of("store", others.clone(), ask);
    let mut group = ServiceGroup::new(vec![first, stage.service(), last]);
    // A setting that the rule does not judge gets a value that the subject supports.
    let profile = stage.profile();
    group.strategy = profile
        .sibling_strategies
        .first()
        .copied()
        .unwrap_or_default();
    group.give_up = profile.give_up_scopes.first().copied().unwrap_or_default();
    declare(&mut group);
    stage.begin_group(group).await
}

/// Waits long enough for each service of a group to be stopped, one after the other, and for
/// something more.
async fn stops_passed(stage: &Stage<'_>) {
    tokio::time::sleep(stage.service().grace * 3 + stage.profile().tolerance() * 4).await;
    stage.pass(1.0).await;
}

/// Returns all trials, in the order of the rules.
pub(super) fn all() -> impl Iterator<Item = &'static Trial> {
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
