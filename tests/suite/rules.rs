//! The registry of rules, and what they say to timelines of somebody's own.

mod loops;

use std::collections::BTreeSet;
use std::path::Path;

use supervise_harness::rules;

#[test]
fn the_page_is_as_the_registry() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/RULES.md");
    let page = std::fs::read_to_string(path).unwrap();
    assert!(
        page == rules::page(),
        "docs/RULES.md is stale: cargo run --example rules_page > docs/RULES.md"
    );
}

#[test]
fn ids_are_unique_and_found() {
    let ids: BTreeSet<&str> = rules::all().map(|rule| rule.id).collect();
    assert_eq!(ids.len(), rules::all().count());
    for rule in rules::all() {
        assert_eq!(rules::rule(rule.id).map(|found| found.id), Some(rule.id));
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        assert!(rule.id.chars().all(is_plain), "{}", rule.id);
    }
    assert!(rules::rule("no-such-rule").is_none());
}

#[test]
fn every_rule_says_why_and_who() {
    for rule in rules::all() {
        let id = rule.id;
        assert!(!rule.invariant.ends_with('.'), "{id}: {}", rule.invariant);
        assert!(rule.rationale.ends_with('.'), "{id}: {}", rule.rationale);
        assert!(!rule.origin.is_empty(), "{id}");
        let has_issue = |bug: &str| bug.contains('#') && bug.contains('/') && bug.contains(' ');
        assert!(rule.bug.is_none_or(has_issue), "{id}: {:?}", rule.bug);
    }
}

/// What cannot be seen in a timeline is said where a rule needs it: of no other can it be broken.
#[test]
fn what_a_rule_is_about_stands_on_the_page() {
    let page = rules::page();
    let about = rules::all().filter_map(rules::Rule::about);
    for about in about {
        assert!(page.contains(about), "{about}");
        assert!(
            !about.ends_with('.') && about.starts_with(char::is_lowercase),
            "{about}"
        );
    }
    for id in [
        "delay-curve",
        "min-spacing",
        "policy-matrix",
        "delay-capped",
        "limit-boundary",
    ] {
        assert_eq!(rules::rule(id).unwrap().about(), None, "{id}");
    }
}
