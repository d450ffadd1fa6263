//! Scenarios that nobody chose: a few of those that `examples/determinism` plays by the thousand.

use std::ops::Range;

use super::generated::{Again, generate, play_times};

/// A scenario is played so often here; the example plays each 20 times.
const TIMES: u32 = 5;

#[track_caller]
fn play(seeds: Range<u64>) {
    let played = seeds.map(|seed| play_times(generate(seed), TIMES));
    let is_wrong = |again: &Again| !again.outcomes.is_one() || again.outcomes.stuck() > 0;
    let wrong: Vec<_> = played.filter(is_wrong).collect();
    let seeds: Vec<_> = wrong.iter().map(Again::seed).collect();
    if let Some(first) = wrong.first() {
        panic!(
            "stuck, or not the same each time: the scenarios of seeds {seeds:?}; the first:\n{first}"
        );
    }
}

#[test]
fn the_scenarios_of_seeds_0_to_14_are_the_same_each_time() {
    play(0..15);
}

#[test]
fn the_scenarios_of_seeds_15_to_29_are_the_same_each_time() {
    play(15..30);
}

#[test]
fn the_scenarios_of_seeds_30_to_44_are_the_same_each_time() {
    play(30..45);
}

#[test]
fn the_scenarios_of_seeds_45_to_59_are_the_same_each_time() {
    play(45..60);
}

/// A generator that changes with the machine or a library would make a seed in a report worthless.
#[test]
fn a_seed_is_the_same_scenario_everywhere() {
    let generated = generate(1).to_string();
    insta::assert_snapshot!(generated, @"
    scenario 1
    agent a: start k1 same-group { exit 1 }; die SIGABRT
      stdout Null, stderr Null
      steps [Sleep(500ms), Send(Signal(15), Process), Sleep(250ms), Stop(Signal(2), Process, 500ms), Stop(Signal(15), Process, 500ms)]
    hub: a channel of 1
    ");
}
