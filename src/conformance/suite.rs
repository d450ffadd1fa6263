//! The macro [`suite!`](crate::suite) and the functions that its tests call.

use std::collections::BTreeSet;

use super::play::{check, profile_of_subject};
use super::subject::Subject;
use crate::rules::{self, Verdict};

/// Panics unless the rule's verdict on the subject is a pass. `name` is the rule's id with `_` for
/// `-`.
#[doc(hidden)]
#[track_caller]
pub fn assert_rule<S>(name: &str, subject: S)
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let id = name.replace('_', "-");
    match check(subject, &id) {
        Verdict::Pass => {}
        Verdict::Fail(violation) => panic!("{violation}"),
        Verdict::Unsupported(reason) => panic!(
            "rule `{id}` is unsupported: {reason}\n  \
             where that is as it should be, list it: suite!(.., unsupported = [{name}])"
        ),
        Verdict::Unknown(reason) => panic!("rule `{id}` could not be judged: {reason}"),
    }
}

/// Panics unless `listed` names exactly the rules that the subject's profile does not support. The
/// names are the rules' ids with `_` for `-`. Also panics if the profile supports no rule at all.
#[doc(hidden)]
#[track_caller]
pub fn assert_declared<S>(subject: S, listed: &[&str])
where
    S: Subject + Send + Sync + 'static,
    S::Session: 'static,
{
    let profile = profile_of_subject(subject).unwrap_or_else(|error| panic!("{error}"));
    let listed: BTreeSet<String> = listed.iter().map(|name| name.replace('_', "-")).collect();
    let working = || rules::all().filter(|rule| rule.planned().is_none());
    let unsupported: BTreeSet<String> = working()
        .filter(|rule| rule.lacking(&profile).is_some())
        .map(|rule| rule.id.to_owned())
        .collect();
    let missing = names(unsupported.difference(&listed));
    let too_many = names(listed.difference(&unsupported));
    assert!(
        missing.is_empty() && too_many.is_empty(),
        "the rules listed as unsupported are not those of the profile of `{}`\n  \
         to add to suite!(.., unsupported = [..]): {}\n  to take out of it: {}",
        profile.name,
        or_none(&missing),
        or_none(&too_many),
    );
    assert!(
        unsupported.len() < working().count(),
        "the profile of `{}` supports no rule: a suite that runs nothing is no pass",
        profile.name
    );
}

/// Returns the ids as the macro takes them: with `_` for `-`, separated by commas.
fn names<'a>(ids: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<String> = ids.map(|id| id.replace('-', "_")).collect();
    names.join(", ")
}

fn or_none(names: &str) -> &str {
    if names.is_empty() { "none" } else { names }
}

/// Makes one `#[test]` for each rule, which checks your supervisor. The test's name is the rule's
/// id with `_` for `-`.
///
/// The first argument is an expression that makes the subject. Each test evaluates it anew. List
/// the rules that the subject's profile does not support as `unsupported = [..]`. Their tests are
/// ignored. One more test fails if this list is not exact, so an unsupported rule never shows as a
/// pass. Rules that are only planned have no test.
///
/// ```
/// mod conformance {
///     use supervise_harness::conformance::Reference;
///
///     supervise_harness::suite!(Reference::new());
/// }
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! suite {
    ($subject:expr $(, unsupported = [$($listed:ident),* $(,)?])? $(,)?) => {
        $crate::__suite! { ($) ($subject) [$($($listed)*)?] }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __suite {
    (($d:tt) ($subject:expr) [$($listed:ident)*]) => {
        macro_rules! __rule {
            $(
                ($listed) => {
                    #[test]
                    #[ignore = "unsupported"]
                    fn $listed() {
                        $crate::conformance::assert_rule(stringify!($listed), $subject);
                    }
                };
            )*
            ($d rule:ident) => {
                #[test]
                fn $d rule() {
                    $crate::conformance::assert_rule(stringify!($d rule), $subject);
                }
            };
        }

        $crate::__each_rule! { __rule }

        #[test]
        fn the_list_of_unsupported_rules_is_true() {
            $crate::conformance::assert_declared($subject, &[$(stringify!($listed)),*]);
        }
    };
}

/// Lists the rules that work, for [`suite!`](crate::suite). A test checks that the list equals the
/// registry.
#[doc(hidden)]
#[macro_export]
macro_rules! __each_rule {
    ($rule:ident) => {
        // Start
        $rule! { start_exactly_one }
        $rule! { up_criterion }
        $rule! { early_exit_is_failure }
        $rule! { start_timeout }
        $rule! { bad_limits_rejected }
        $rule! { order_and_reverse }
        // Exit classification
        $rule! { code_exact }
        $rule! { signal_preserved }
        $rule! { clean_set }
        $rule! { requested_death_not_failure }
        // Restart decision
        $rule! { policy_matrix }
        $rule! { no_start_after_stop }
        $rule! { status_overrides }
        $rule! { one_start_per_exit }
        $rule! { sibling_strategy }
        $rule! { manual_start_after_give_up }
        // Backoff and jitter
        $rule! { min_spacing }
        $rule! { delay_origin }
        $rule! { delay_curve }
        $rule! { delay_capped }
        $rule! { delay_no_overflow }
        $rule! { delay_monotone }
        $rule! { jitter_law }
        $rule! { jitter_at_cap }
        $rule! { jitter_seeded }
        $rule! { herd_spacing }
        $rule! { backoff_interruptible }
        // Rate limit
        $rule! { limit_boundary }
        $rule! { limit_counts }
        $rule! { window_kind }
        $rule! { limit_degenerate }
        $rule! { give_up_is_terminal }
        $rule! { give_up_reports_cause }
        $rule! { give_up_scope }
        // Reset
        $rule! { reset_after_healthy }
        $rule! { no_early_reset }
        $rule! { manual_reset }
        // Stop and escalation
        $rule! { stop_signal_first }
        $rule! { grace_not_early }
        $rule! { grace_not_late }
        $rule! { stop_sync }
        $rule! { stop_wakes_frozen }
        $rule! { stop_idempotent }
        $rule! { stop_races_exit }
        $rule! { no_reused_pid_kill }
        // Process tree
        $rule! { own_group }
        $rule! { stop_scope }
        $rule! { never_own_group }
        $rule! { old_tree_gone }
        $rule! { daemonizer }
        // Reaping
        $rule! { no_zombies }
        $rule! { mass_exit }
        $rule! { instant_exit }
        $rule! { adopt_orphans }
        $rule! { no_foreign_reap }
        // File descriptors, environment, signal state
        $rule! { mask_clear }
        $rule! { dispositions_default }
        $rule! { fds_declared_only }
        $rule! { fd_stable }
        $rule! { env_contract }
        $rule! { setup_failure_aborts }
        // Readiness and liveness
        $rule! { ready_not_early }
        $rule! { ready_not_stale }
        $rule! { ready_sender }
        $rule! { watchdog }
        $rule! { probe_failure_policy }
        // Output
        $rule! { flood_no_block }
        $rule! { last_bytes_kept }
        $rule! { held_pipe_exit }
        // Concurrency
        $rule! { stop_during_start }
        $rule! { stop_vs_retry }
        $rule! { stale_exit_ignored }
        $rule! { no_respawn_in_grace }
        $rule! { concurrent_restarts }
        $rule! { start_while_restarting }
        $rule! { control_responsive }
        $rule! { shutdown_during_startup }
        // Crash of the supervisor
        $rule! { crash_child_fate }
        $rule! { no_duplicate_after_crash }
        $rule! { second_supervisor }
        $rule! { thread_exit_safe }
        // Resource exhaustion
        $rule! { fork_eagain }
        $rule! { emfile }
        $rule! { enoent_eacces }
        $rule! { etxtbsy }
        $rule! { exec_error_distinct }
        $rule! { log_open_error }
    };
}

/// Checks the names in [`__each_rule!`].
#[cfg(test)]
mod tests {
    use crate::rules;

    #[test]
    fn the_suite_has_a_test_for_each_rule_that_works() {
        let mut names = Vec::new();
        macro_rules! name {
            ($rule:ident) => {
                names.push(stringify!($rule).replace('_', "-"));
            };
        }
        crate::__each_rule! { name }
        let working = rules::all().filter(|rule| rule.planned().is_none());
        assert_eq!(
            names,
            working.map(|rule| rule.id.to_owned()).collect::<Vec<_>>()
        );
    }
}
