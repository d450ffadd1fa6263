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
