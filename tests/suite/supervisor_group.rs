//! Several agents kept running together.

use std::time::Duration;

use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::clock::FakeClock;
use supervise_harness::supervisor::{
    GiveUpScope, GroupOutcome, Outcome, Readiness, RestartLimit, RestartPolicy, RestartTracker,
    SiblingStrategy, SpawnerOptions, Status, Supervisor, SupervisorBuilder, SupervisorError,
    SupervisorGroup, SupervisorGroupBuilder, SupervisorState,
};
use supervise_harness::{Agent, ExitStatus, RunSpan, Script, Signal, Sim, SimHandle, Timeline};
use tokio::time::sleep;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A child that is restarted twice at most, after 2 s.
fn child(sim: &SimHandle, name: &str, script: &str) -> SupervisorBuilder {
    let agent = sim.agent(name, Script::new().then_do(script).unwrap());
    let limit = RestartLimit::consecutive(2).unwrap();
    Supervisor::builder(agent.spawner_options().build().unwrap(), name)
        .tracker(RestartTracker::builder().limit(limit).build().unwrap())
        .backoff(ConstantBackoff::new(seconds(2)))
}

/// The three of most tests: what happens to the second is told.
fn three(sim: &SimHandle, second: &str) -> SupervisorGroupBuilder {
    SupervisorGroup::builder()
        .child(child(sim, "first", "stay"))
        .child(child(sim, "second", second))
        .child(child(sim, "third", "stay"))
}

/// When the runs of an agent started and ended, in seconds.
fn runs(timeline: &Timeline, name: &str) -> Vec<String> {
    let runs = timeline.runs(name).into_iter();
    let text = |run: RunSpan| match run.exit {
        Some(exit) => format!("{}-{exit}", run.start),
        None => format!("{}-", run.start),
    };
    runs.map(text).collect()
}

/// What each child does.
fn states(group: &SupervisorGroup) -> Vec<String> {
    let text = |status: Status| match status.state {
        SupervisorState::Resting(outcome) => outcome.to_string(),
        state => format!("{state:?}"),
    };
    group.statuses().into_iter().map(text).collect()
}

#[test]
fn children_start_in_order_when_the_one_before_is_up_and_stop_in_reverse() {
    let timeline = Sim::new().run(async |sim| {
        let script = "on SIGTERM { run 1s; exit 0 }; run 2s; ready fd 3; stay";
        let slow = |name| child(&sim, name, script).readiness(Readiness::Notified);
        let (group, _events) = SupervisorGroup::builder()
            .child(slow("first"))
            .child(slow("second"))
            .child(slow("third"))
            .start()
            .unwrap();
        sleep(seconds(1)).await;
        assert_eq!(states(&group), ["Starting", "Waiting", "Waiting"]);
        sleep(seconds(9)).await;
        assert_eq!(states(&group), ["Up", "Up", "Up"]);
        assert!(matches!(group.stop().await, Ok(GroupOutcome::Stopped)));
        assert!(matches!(group.wait().await, Ok(GroupOutcome::Stopped)));
        assert!(matches!(group.stop().await, Ok(GroupOutcome::Stopped)));
    });
    assert_eq!(runs(&timeline, "first"), ["0.000s-13.000s"]);
    assert_eq!(runs(&timeline, "second"), ["2.000s-12.000s"]);
    assert_eq!(runs(&timeline, "third"), ["4.000s-11.000s"]);
}

#[test]
fn a_child_that_fails_to_start_holds_up_those_after_it() {
    let timeline = Sim::new().run(async |sim| {
        let first = child(&sim, "first", "run 1s; exit 1").readiness(Readiness::Notified);
        let (group, _events) = SupervisorGroup::builder()
            .child(first)
            .child(child(&sim, "second", "stay"))
            .give_up(GiveUpScope::Child)
            .start()
            .unwrap();
        sleep(seconds(20)).await;
        let first = "gave up after 2 restarts in a row: start failed";
        assert_eq!(states(&group), [first, "Up"]);
        group.stop().await.unwrap();
    });
    let first = ["0.000s-1.000s", "3.000s-4.000s", "6.000s-7.000s"];
    assert_eq!(runs(&timeline, "first"), first);
    assert_eq!(runs(&timeline, "second"), ["7.000s-20.000s"]);
}

#[test]
fn a_stop_in_the_middle_of_the_start_starts_nothing_more() {
    let timeline = Sim::new().run(async |sim| {
        let first = child(&sim, "first", "stay").readiness(Readiness::Notified);
        let (group, _events) = SupervisorGroup::builder()
            .child(first)
            .child(child(&sim, "second", "stay"))
            .start()
            .unwrap();
        sleep(seconds(1)).await;
        assert!(matches!(group.stop().await, Ok(GroupOutcome::Stopped)));
        sleep(seconds(20)).await;
    });
    assert_eq!(runs(&timeline, "first"), ["0.000s-1.000s"]);
    assert!(runs(&timeline, "second").is_empty());
}

/// Two runs of 5 s, then a run that stays: what the others do is the strategy's.
fn crash_twice(strategy: SiblingStrategy) -> Timeline {
    Sim::new().run(async |sim| {
        let crash = || Script::new().run_for(seconds(5)).exit(1);
        let script = Script::runs(2, crash()).then(Script::new().stay());
        let agent = sim.agent("second", script);
        let spawner = agent.spawner_options().build().unwrap();
        let second =
            Supervisor::builder(spawner, "second").backoff(ConstantBackoff::new(seconds(2)));
        let slow = "on SIGTERM { run 1s; exit 0 }; stay";
        let (group, _events) = SupervisorGroup::builder()
            .child(child(&sim, "first", slow))
            .child(second)
            .child(child(&sim, "third", slow))
            .strategy(strategy)
            .start()
            .unwrap();
        sleep(seconds(30)).await;
        assert_eq!(states(&group), ["Up", "Up", "Up"]);
        drop(group);
    })
}

#[test]
fn one_for_one_leaves_the_siblings_alone() {
    let timeline = crash_twice(SiblingStrategy::OneForOne);
    let second = ["0.000s-5.000s", "7.000s-12.000s", "14.000s-30.000s"];
    assert_eq!(runs(&timeline, "second"), second);
    assert_eq!(runs(&timeline, "first"), ["0.000s-30.000s"]);
    assert_eq!(runs(&timeline, "third"), ["0.000s-30.000s"]);
}

#[test]
fn one_for_all_replaces_all_from_the_last_to_the_first() {
    let timeline = crash_twice(SiblingStrategy::OneForAll);
    let second = ["0.000s-5.000s", "7.000s-12.000s", "14.000s-30.000s"];
    assert_eq!(runs(&timeline, "second"), second);
    let first = ["0.000s-7.000s", "7.000s-14.000s", "14.000s-30.000s"];
    assert_eq!(runs(&timeline, "first"), first);
    let third = ["0.000s-6.000s", "7.000s-13.000s", "14.000s-30.000s"];
    assert_eq!(runs(&timeline, "third"), third);
}

#[test]
fn rest_for_one_replaces_those_after_it() {
    let timeline = crash_twice(SiblingStrategy::RestForOne);
    assert_eq!(runs(&timeline, "first"), ["0.000s-30.000s"]);
    let third = ["0.000s-6.000s", "7.000s-13.000s", "14.000s-30.000s"];
    assert_eq!(runs(&timeline, "third"), third);
}

#[test]
fn a_group_does_the_same_every_time() {
    let story = || crash_twice(SiblingStrategy::OneForAll).to_string();
    let first = story();
    for _ in 0..20 {
        assert_eq!(story(), first);
    }
}

#[test]
fn a_stop_in_the_middle_of_a_replacement_starts_nothing_more() {
    let timeline = Sim::new().run(async |sim| {
        let slow = "on SIGTERM { run 1s; exit 0 }; stay";
        let (group, _events) = SupervisorGroup::builder()
            .child(child(&sim, "first", slow))
            .child(child(&sim, "second", "run 5s; exit 1"))
            .child(child(&sim, "third", slow))
            .strategy(SiblingStrategy::OneForAll)
            .start()
            .unwrap();
        // The third is being stopped, and the first still runs.
        sleep(Duration::from_millis(5500)).await;
        assert!(matches!(group.stop().await, Ok(GroupOutcome::Stopped)));
        sleep(seconds(20)).await;
    });
    assert_eq!(runs(&timeline, "first"), ["0.000s-7.000s"]);
    assert_eq!(runs(&timeline, "second"), ["0.000s-5.000s"]);
    assert_eq!(runs(&timeline, "third"), ["0.000s-6.000s"]);
}

#[test]
fn a_replacement_waits_for_every_end_and_every_delay() {
    let timeline = Sim::new().run(async |sim| {
        // The third is deaf, and takes its grace of 3 s; the first crashes in that.
        let first = sim.agent(
            "first",
            Script::runs(1, Script::new().run_for(seconds(3)).exit(1)).then(Script::new().stay()),
        );
        let second = sim.agent(
            "second",
            Script::runs(1, Script::new().run_for(seconds(1)).exit(1)).then(Script::new().stay()),
        );
        let child_of = |agent: &Agent, name| {
            Supervisor::builder(agent.spawner_options().build().unwrap(), name)
                .backoff(ConstantBackoff::new(seconds(10)))
        };
        let (group, _events) = SupervisorGroup::builder()
            .child(child_of(&first, "first"))
            .child(child_of(&second, "second"))
            .child(child(&sim, "third", "on SIGTERM ignore; stay"))
            .strategy(SiblingStrategy::RestForOne)
            .start()
            .unwrap();
        sleep(seconds(30)).await;
        drop(group);
    });
    // The second's own delay is over at 11 s, and the first's at 13 s.
    assert_eq!(runs(&timeline, "first")[1..], ["13.000s-30.000s"]);
    assert_eq!(runs(&timeline, "second")[1..], ["13.000s-30.000s"]);
    let third = ["0.000s-4.000s", "13.000s-30.000s"];
    assert_eq!(runs(&timeline, "third"), third);
}

#[test]
fn what_is_replaced_counts_for_nothing_and_what_rests_stays_at_rest() {
    let timeline = Sim::new().run(async |sim| {
        let crash = || Script::new().run_for(seconds(5)).exit(1);
        let agent = sim.agent(
            "second",
            Script::runs(4, crash()).then(Script::new().stay()),
        );
        let spawner = agent.spawner_options().build().unwrap();
        let second =
            Supervisor::builder(spawner, "second").backoff(ConstantBackoff::new(seconds(2)));
        let (group, _events) = SupervisorGroup::builder()
            .child(child(&sim, "first", "stay"))
            .child(second)
            .child(child(&sim, "job", "run 1s; exit 0"))
            .strategy(SiblingStrategy::OneForAll)
            .start()
            .unwrap();
        sleep(seconds(60)).await;
        // More often than its limit allows.
        assert_eq!(group.statuses()[0].runs, 5);
        assert_eq!(states(&group)[0], "Up");
        group.stop().await.unwrap();
    });
    assert_eq!(runs(&timeline, "job"), ["0.000s-1.000s"]);
}

#[test]
fn giving_up_ends_as_many_as_the_scope_says() {
    let rows = [
        (GiveUpScope::Child, ["Up", "gave up", "Up"]),
        (GiveUpScope::Dependents, ["Up", "gave up", "stopped"]),
        (GiveUpScope::Group, ["stopped", "gave up", "stopped"]),
    ];
    for (scope, expected) in rows {
        Sim::new().run(async |sim| {
            let group = three(&sim, "run 1s; exit 1").give_up(scope);
            let (group, _events) = group.start().unwrap();
            sleep(seconds(60)).await;
            let states = states(&group);
            let is_as_expected = |(state, expected): (&String, &str)| state.starts_with(expected);
            assert!(
                states.iter().zip(expected).all(is_as_expected),
                "{scope:?}: {states:?}"
            );
            if scope == GiveUpScope::Group {
                let outcome = group.wait().await.unwrap();
                let text = "\"second\": gave up after 2 restarts in a row: exit code 1";
                assert_eq!(outcome.to_string(), text);
                // It rests with that, whatever comes.
                assert_eq!(group.stop().await.unwrap().to_string(), text);
            }
            drop(group);
        });
    }
}

#[test]
fn a_group_of_which_every_child_has_finished_has_finished() {
    Sim::new().run(async |sim| {
        let (group, mut events) = SupervisorGroup::builder()
            .child(child(&sim, "first", "run 1s; exit 0"))
            .child(child(&sim, "second", "run 5s; exit 0"))
            .start()
            .unwrap();
        assert!(matches!(group.wait().await, Ok(GroupOutcome::Finished)));
        for events in &mut events {
            let mut last = None;
            while let Some((_, event)) = events.next().await {
                last = Some(event.to_string());
            }
            assert_eq!(last.as_deref(), Some("finished: exit code 0"));
        }
    });
}

#[test]
fn a_group_that_is_dropped_leaves_nobody() {
    let timeline = Sim::new().run(async |sim| {
        let (group, _events) = three(&sim, "stay").start().unwrap();
        sleep(seconds(1)).await;
        drop(group);
        sleep(seconds(1)).await;
    });
    for name in ["first", "second", "third"] {
        let run = timeline.runs(name)[0];
        assert_eq!(run.exit.map(|exit| exit - run.start), Some(seconds(1)));
        let signal = run.status.and_then(ExitStatus::signal);
        assert_eq!(signal, Some(Signal::KILL), "{name}");
    }
}

#[test]
fn a_bad_group_is_refused_before_anything_starts() {
    let plain = |name: &str| {
        let options = SpawnerOptions::new().agent_path("/nonexistent/program");
        Supervisor::builder(options.build().unwrap(), name)
    };
    let refused = |group: SupervisorGroupBuilder| group.start().unwrap_err();
    assert_eq!(
        refused(SupervisorGroup::builder()),
        SupervisorError::NoChildren
    );
    let twice = SupervisorGroup::builder()
        .child(plain("worker"))
        .child(plain("worker"));
    let error = refused(twice);
    assert_eq!(
        error.to_string(),
        "two children of the group are called \"worker\": expected a name for each"
    );
    let zero = SupervisorGroup::builder()
        .child(plain("worker"))
        .child(plain("other").watchdog(Duration::ZERO));
    assert!(matches!(refused(zero), SupervisorError::ZeroPeriod { .. }));
    let outside = SupervisorGroup::builder().child(plain("worker"));
    assert_eq!(refused(outside), SupervisorError::NoRuntime);
}

#[tokio::test]
async fn a_program_that_is_not_there_is_given_up_and_the_group_with_it() {
    let clock = FakeClock::new();
    let options = SpawnerOptions::new().agent_path("/nonexistent/program");
    let spawner = options.clock(clock.clone()).build().unwrap();
    let tracker = RestartTracker::builder()
        .policy(RestartPolicy::Always)
        .limit(RestartLimit::consecutive(1).unwrap())
        .build()
        .unwrap();
    let worker = Supervisor::builder(spawner, "worker").tracker(tracker);
    let (group, _events) = SupervisorGroup::builder().child(worker).start().unwrap();
    clock.wait_for_sleepers(1).await;
    clock.advance_to_next();
    let GroupOutcome::GaveUp { agent_id, outcome } = group.wait().await.unwrap() else {
        panic!()
    };
    assert_eq!(agent_id, "worker");
    assert!(matches!(outcome, Outcome::GaveUp(_)));
}

#[tokio::test]
async fn a_group_with_a_child_that_panicked_is_gone() {
    let options = SpawnerOptions::new().agent_path("/nonexistent/program");
    let backoff = |_: u32| -> Duration { panic!("no delay today") };
    let worker = Supervisor::builder(options.build().unwrap(), "worker").backoff(backoff);
    let (group, _events) = SupervisorGroup::builder().child(worker).start().unwrap();
    assert_eq!(group.wait().await.unwrap_err(), SupervisorError::Gone);
    assert_eq!(group.stop().await.unwrap_err(), SupervisorError::Gone);
}
