//! Each rule bites, and only where it should.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::thread;

use supervise_harness::conformance;
use supervise_harness::rules::{self, Group, Rule};

use super::broken::{Bug, apart};

/// The rules of these that a supervisor with the bug breaks.
fn broken_by(bug: Bug, rules: &[&'static Rule]) -> Vec<&'static str> {
    let broken = rules.iter().filter(|rule| {
        let verdict = conformance::check(apart(Some(bug)), rule.id);
        verdict.violation().is_some()
    });
    broken.map(|rule| rule.id).collect()
}

/// Fails where a bug that `looked` picks by the rules that it should break does not break exactly those of
/// them that are in the group.
fn assert_exact(group: Group, looked: impl Fn(&[&str]) -> bool) {
    let rules: Vec<_> = rules::all()
        .filter(|rule| rule.planned().is_none() && rule.group == group)
        .collect();
    let looked = Bug::ALL.iter().filter(|(_, expected)| looked(expected));
    let left: Mutex<VecDeque<_>> = Mutex::new(looked.collect());
    let wrong: Mutex<Vec<String>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let Some((bug, expected)) = left.lock().unwrap().pop_front() else {
                        return;
                    };
                    let broken = broken_by(*bug, &rules);
                    let is_here = |id: &&&str| rules.iter().any(|rule| rule.id == **id);
                    let expected: Vec<&str> = expected.iter().filter(is_here).copied().collect();
                    if broken != expected {
                        let text = format!("{bug:?} breaks {broken:?}, not {expected:?}");
                        wrong.lock().unwrap().push(text);
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which rules the bugs break, with a test for each group of rules: none should take long.
macro_rules! groups {
    ($($name:ident: $group:ident,)*) => {
        mod each_bug_breaks_the_rules_that_name_it_and_no_other_of_their_groups {
            use super::*;

            $(#[test]
            fn $name() {
                assert_exact(Group::$group, |expected| {
                    let mut named = expected.iter().filter_map(|id| rules::rule(id));
                    named.any(|named| named.group == Group::$group)
                });
            })*
        }

        mod each_bug_breaks_the_rules_that_name_it_and_no_other {
            use super::*;

            $(#[test]
            #[ignore = "puts every broken supervisor to every rule of the group: .ci/run asks for it"]
            fn $name() {
                assert_exact(Group::$group, |_| true);
            })*
        }

        const GROUPS: &[Group] = &[$(Group::$group),*];
    };
}

groups! {
    start: Start,
    exit_classification: ExitClassification,
    restart_decision: RestartDecision,
    backoff_and_jitter: BackoffAndJitter,
    rate_limit: RateLimit,
    reset: Reset,
    stop: Stop,
    process_tree: ProcessTree,
    reaping: Reaping,
    inheritance: Inheritance,
    readiness: Readiness,
    output: Output,
    concurrency: Concurrency,
    supervisor_crash: SupervisorCrash,
    exhaustion: Exhaustion,
}

#[test]
fn every_group_of_rules_is_put_to_the_bugs() {
    let mut groups: Vec<Group> = rules::all().map(|rule| rule.group).collect();
    groups.dedup();
    assert_eq!(GROUPS, groups);
}

#[test]
fn every_rule_that_works_is_broken_by_a_bug() {
    let broken: Vec<&str> = Bug::ALL
        .iter()
        .flat_map(|(_, rules)| rules.iter().copied())
        .collect();
    let working = rules::all().filter(|rule| rule.planned().is_none());
    let never: Vec<&str> = working
        .map(|rule| rule.id)
        .filter(|id| !broken.contains(id))
        .collect();
    assert!(never.is_empty(), "no bug breaks {never:?}");
}

/// How often each bug that only shows in one order of two events is looked for.
const PLAYED: usize = 200;

/// Trials that bring about an order leave none of it to the kernel.
#[test]
#[ignore = "plays four trials 200 times each; prints how often each caught its bug"]
fn a_bug_of_one_order_of_two_events_is_caught_each_time() {
    let rows = [
        (Bug::MindsAStaleExit, "stale-exit-ignored"),
        (Bug::RestartsTheDeadTwice, "stale-exit-ignored"),
        (Bug::CrashesOnTheDead, "stop-races-exit"),
        (Bug::RefusesToStopTheDead, "stop-races-exit"),
    ];
    let caught = rows.map(|(bug, rule)| {
        let is_caught = |_: &usize| broken_by(bug, &[rules::rule(rule).unwrap()]) == [rule];
        let count = (0..PLAYED).filter(is_caught).count();
        println!("{bug:?}: {rule} fails in {count} of {PLAYED}");
        count
    });
    assert_eq!(caught, [PLAYED; 4]);
}
