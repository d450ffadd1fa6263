//! The table of each supervisor, as it was last seen.

use supervise_harness::conformance::{self, Report};
use supervise_harness::rules::rule;
use supervise_peers::{Plain, Processkit, Runit};

/// The verdicts of the rules that work. Their texts are left out: in real time they have times.
fn table(report: &Report) -> String {
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

/// What could not always be seen of runit: how a run ended, where runsv reaped it before that was
/// read, and what comes after the patience of the trial.
const NOT_ALWAYS_SEEN: [&str; 8] = [
    "policy-matrix",
    "grace-not-early",
    "mass-exit",
    "instant-exit",
    "stop-during-start",
    "shutdown-during-startup",
    "stop-scope",
    "no-respawn-in-grace",
];

/// A daemon, in real time: the trait carries it. No snapshot, since not all of it is the same each
/// time.
#[test]
#[ignore = "needs runit in PATH, and takes two minutes of real time"]
fn runit() {
    let runit = Runit::find().expect("runsv and sv in PATH");
    let report = conformance::run(runit);
    println!("{report}");
    // reproductions/runit_stop_races_exit.rs
    assert_eq!(report.with("fail"), ["stop-races-exit"], "{report}");
    let is_planned = |id: &str| rule(id).is_some_and(|rule| rule.planned().is_some());
    for id in report.with("unknown") {
        assert!(
            is_planned(id) || NOT_ALWAYS_SEEN.contains(&id),
            "{id}:\n{report}"
        );
    }
}
