//! Checks that what the tables and the adapters say of a supervisor still shows without the
//! harness.

use std::process::Command;

/// Runs a reproduction, which succeeds while the behaviour is there.
fn still_shows(name: &str) {
    let output = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--example", name])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs the reproduction");
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "what is said is stale, or the reproduction did not run:\n{said}{errors}"
    );
}

#[test]
#[ignore = "needs runit in PATH, and takes 8 s of real time: `sv start` waits for 7"]
fn runit_leaves_down_what_is_started_after_a_stop_that_met_its_exit() {
    still_shows("runit_stop_races_exit");
}

#[test]
#[ignore = "needs runit in PATH, and takes 2 s of real time"]
fn runit_says_ok_to_a_restart_in_the_first_second_before_there_is_one() {
    still_shows("runit_restart_in_its_first_second");
}
