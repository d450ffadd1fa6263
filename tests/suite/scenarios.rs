//! The integration tests of `scenarios`: what the reference supervisor does with every kind of agent,
//! as files in `fixtures/scenarios`, each with the timeline that it gives.

mod agent;
mod backoff;
mod bad_files;
mod model;
mod play;
mod settings;
mod step;
mod values;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rstest::rstest;

use model::Scenario;
use play::play;

#[rstest]
fn scenario(
    #[files("fixtures/scenarios/*.toml")]
    #[exclude("ten_thousand")]
    path: PathBuf,
) {
    check(&path);
}

#[test]
#[ignore = "takes a quarter of a minute"]
fn ten_thousand_restarts() {
    check(&directory("fixtures/scenarios").join("ten_thousand_restarts.toml"));
}

/// Plays it, and compares its timeline with the snapshot.
fn check(path: &Path) {
    let name = path.file_stem().unwrap().to_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let file = format!("{name}.toml");
    let scenario = Scenario::read(&file, &text).unwrap_or_else(|error| panic!("{error}"));
    let timeline = play(&scenario);
    // What is too long to be read is too long to be played twice.
    if !scenario.summary {
        assert_eq!(timeline, play(&scenario), "the second time is another");
    }
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("snapshots/scenarios");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.set_description(&scenario.about);
    settings.bind(|| insta::assert_snapshot!(name, timeline));
}

fn directory(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The names of the files in there that end so.
fn names(dir: &str, end: &str) -> BTreeSet<String> {
    let files = std::fs::read_dir(directory(dir)).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names
        .filter_map(|name| name.strip_suffix(end).map(ToOwned::to_owned))
        .collect()
}

#[test]
fn every_scenario_has_a_snapshot_and_every_snapshot_a_scenario() {
    let scenarios = names("fixtures/scenarios", ".toml");
    let snapshots = names("tests/suite/snapshots/scenarios", ".snap");
    assert_eq!(scenarios, snapshots);
    assert!(scenarios.len() >= 25, "{} scenarios", scenarios.len());
}
