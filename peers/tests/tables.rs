//! The table of each supervisor, as it was last seen.

use supervise_harness::conformance;
use supervise_peers::{Plain, Processkit, Runit};

#[test]
fn a_plain_tokio_loop() {
    insta::assert_snapshot!(conformance::run(Plain));
}

#[test]
fn processkit() {
    insta::assert_snapshot!(conformance::run(Processkit));
}

#[test]
#[ignore = "needs runit in PATH, and takes real time"]
fn runit() {
    let runit = Runit::find().expect("runsv and sv in PATH");
    insta::assert_snapshot!(conformance::run(runit));
}
