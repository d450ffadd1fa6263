//! Scenarios that nobody chose: a few of those that `examples/determinism` plays by the thousand.

use std::ops::Range;

use super::generated::{Again, generate, play_times, shrink};
use super::outcomes;
use crate::child;

/// A scenario is played so often here; the example plays each 20 times.
const TIMES: u32 = 5;

/// In a process of its own: tokio's runtimes reap for each other what was dropped, so that another test's sim
/// may, at a time of its own.
#[track_caller]
fn play_alone(name: &str, seeds: Range<u64>) {
    child::run(&format!("determinism::scenarios::{name}"), || play(seeds));
}

#[track_caller]
fn play(seeds: Range<u64>) {
    let played = seeds.map(|seed| play_times(generate(seed), TIMES));
    let is_wrong = |again: &Again| !again.outcomes.is_one() || again.outcomes.stuck() > 0;
    let wrong: Vec<_> = played.filter(is_wrong).collect();
    let seeds: Vec<_> = wrong.iter().map(Again::seed).collect();
    if let Some(first) = wrong.first() {
        let kind = first.outcomes.kinds().into_iter().next();
        let smaller = kind.and_then(|kind| shrink(first.scenario(), &kind, TIMES));
        let smaller = smaller.map_or(String::new(), |again| format!("\nmade smaller: {again}"));
        panic!(
            "stuck, or not the same each time: the scenarios of seeds {seeds:?}; \
             the first:\n{first}{smaller}"
        );
    }
}

#[test]
fn the_scenarios_of_seeds_0_to_14_are_the_same_each_time() {
    play_alone(
        "the_scenarios_of_seeds_0_to_14_are_the_same_each_time",
        0..15,
    );
}

#[test]
fn the_scenarios_of_seeds_15_to_29_are_the_same_each_time() {
    play_alone(
        "the_scenarios_of_seeds_15_to_29_are_the_same_each_time",
        15..30,
    );
}

#[test]
fn the_scenarios_of_seeds_30_to_44_are_the_same_each_time() {
    play_alone(
        "the_scenarios_of_seeds_30_to_44_are_the_same_each_time",
        30..45,
    );
}

#[test]
fn the_scenarios_of_seeds_45_to_59_are_the_same_each_time() {
    play_alone(
        "the_scenarios_of_seeds_45_to_59_are_the_same_each_time",
        45..60,
    );
}

/// A generator that changes with the machine or a library would make a seed in a report worthless.
#[test]
fn a_seed_is_the_same_scenario_everywhere() {
    let generated = generate(1).to_string();
    insta::assert_snapshot!(generated, @"
    scenario 1
    agent a: start k1 same-group { exit 1 }; die SIGABRT
      stdout Null, stderr Null
      steps [Sleep(500ms), Send(SIGTERM, Process), Sleep(250ms), Sleep(250ms), Stop(SIGINT, Process, 500ms), Stop(SIGTERM, Process, 500ms)]
    hub: a channel of 1
    ");
}

#[test]
fn a_thousand_scenarios_have_everything_in_them() {
    let all: String = (0..1000).map(|seed| generate(seed).to_string()).collect();
    for word in [
        "same-group { ",
        "own-group { ",
        "own-session { ",
        "double-fork { ",
        "double-fork quiet { ",
        "write 1MiB",
        "write stderr 200KiB",
        "stdout Whole(0ns), stderr Whole(0ns)",
        "stdout BySteps, stderr ByLines",
        "freeze",
        "agent e: ",
        "leads a group, killed on drop, 3 rounds",
        "Poll(",
        "Look",
        "Send(SIGUSR1, Group)",
        "Stop(SIGTERM, Group, ",
        "[Kill",
        "[Drop",
        "Line(",
        "Follow(End, ",
        "Follow(Other, ",
        "Ticks(End, ",
        "Output(10s)",
        "Tell",
        "After(3, ",
        "Note",
        "a tick each",
    ] {
        assert!(all.contains(word), "no scenario has `{word}`");
    }
}

/// A checker that finds nothing would say that all is well.
#[test]
fn what_differs_between_two_runs_is_found_and_shown() {
    let number = std::cell::Cell::new(1);
    let outcomes = outcomes(3, async |sim, log| {
        sim.note("here");
        sim.note(format!("note {}", number.get().min(2)));
        log.say(format!("run {}", number.replace(number.get() + 1)));
    });
    assert!(!outcomes.is_one());
    let text = outcomes.to_string();
    assert!(text.contains("\n2 timelines, [2, 1] times"), "{text}");
    assert!(text.contains("\n3 logs, [1, 1, 1] times"), "{text}");
    for line in [
        "  +0.000  subject  note     \"here\"",
        "- +0.000  subject  note     \"note 2\"",
        "+ +0.000  subject  note     \"note 1\"",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{text}");
    }
}
