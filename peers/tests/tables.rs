//! Compares the table of each supervisor with the one that was last seen.

use supervise_harness::conformance::{self, SuiteReport};
use supervise_harness::rules::rule;
use supervise_peers::{Plain, Processkit, Runit};

#[path = "../../fixtures/sweeper.rs"]
mod sweeper;

/// Returns the verdicts of the rules that work. It leaves their texts out, since in real time these
/// contain times.
fn table(report: &SuiteReport) -> String {
    let works = |id: &str| rule(id).is_some_and(|rule| rule.planned().is_none());
    let lines = report.lines().iter().filter(|line| works(line.rule.id));
    let lines: Vec<String> = lines
        .map(|line| format!("{:>12}  {}", line.verdict.word(), line.rule.id))
        .collect();
    println!("{report}");
    lines.join("\n")
}

#[test]
fn a_plain_tokio_loop() {
    insta::assert_snapshot!(table(&conformance::run(Plain)));
}

#[test]
fn processkit() {
    insta::assert_snapshot!(table(&conformance::run(Processkit)));
}

/// runit is a daemon and runs in real time. This shows that the trait `Subject` fits such a
/// supervisor, too.
#[test]
#[ignore = "needs runit in PATH, and takes two minutes of real time"]
fn runit() {
    let runit = Runit::find().expect("runsv and sv in PATH");
    insta::assert_snapshot!(table(&conformance::run(runit)));
}
