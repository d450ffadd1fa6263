//! The suite for anybody's supervisor, on our own.

use supervise_harness::conformance::{self, Reference};

/// A `#[test]` for each rule.
mod reference {
    use super::Reference;

    supervise_harness::suite!(Reference::new());
}

#[test]
fn the_reference_passes_every_rule_that_works() {
    let report = conformance::run(Reference::new());
    println!("{report}");
    report.assert();
}

#[path = "../../fixtures/broken/mod.rs"]
mod broken;

use broken::{Bug, Textbook};

#[test]
fn the_textbook_supervisor_passes_what_it_declares() {
    let report = conformance::run(Textbook { bug: None });
    println!("{report}");
    report.assert();
}

#[test]
fn each_broken_supervisor_breaks_exactly_the_rules_that_name_its_bug() {
    let mut wrong = Vec::new();
    for (bug, rules) in Bug::ALL {
        let report = conformance::run(Textbook { bug: Some(*bug) });
        let broken = report.with("fail");
        if broken != *rules {
            wrong.push(format!(
                "{bug:?} breaks {broken:?}, not {rules:?}: {report}"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

#[test]
fn every_rule_that_works_is_broken_by_a_broken_supervisor() {
    let broken: Vec<&str> = Bug::ALL
        .iter()
        .flat_map(|(_, rules)| rules.iter().copied())
        .collect();
    let working = supervise_harness::rules::all().filter(|rule| rule.planned().is_none());
    let never: Vec<&str> = working
        .map(|rule| rule.id)
        .filter(|id| !broken.contains(id))
        .collect();
    assert!(never.is_empty(), "no broken supervisor breaks {never:?}");
}
