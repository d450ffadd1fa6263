//! What is said beside a failure or a pass: panics of tasks, what a sim has no room for, names that are
//! none.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use supervise_harness::{Script, Sim, Timeline};
use tokio::process::Command;
use tokio::time::sleep;

use super::{assert_contains, seconds, short, stuck};

#[test]
fn a_panic_of_a_task_is_a_finding_at_its_own_time() {
    let timeline = Sim::new().run(async |sim| {
        let worker = sim.agent("worker", Script::new().run_for(seconds(9)).exit(0));
        tokio::spawn(async {
            sleep(seconds(3)).await;
            panic!("its own words");
        });
        Command::from(worker.command()).status().await.unwrap();
    });
    let text = timeline.to_string();
    assert_contains(
        &text,
        "+3.000  subject   finding  \"a task panicked at tests/",
    );
    assert_contains(&text, ": its own words\"");
}

#[test]
fn a_panic_of_a_task_before_the_sim_was_stuck_is_said() {
    let text = stuck(short().try_run(async |_| {
        tokio::spawn(async { panic!("its own words") });
        std::future::pending::<()>().await;
    }));
    assert_contains(&text, ": its own words");
}

/// On a thread of the pool, which has no time of the sim's.
#[test]
fn a_panic_in_spawn_blocking_is_said_beside_the_failure_and_not_on_the_timeline() {
    let failure = Sim::new()
        .try_run(async |_| {
            let task = tokio::task::spawn_blocking(|| panic!("its own words"));
            assert!(task.await.is_err());
            Err::<(), _>("of the body")
        })
        .unwrap_err();
    assert_contains(&failure.to_string(), ": its own words");
    assert_eq!(failure.timeline().unwrap().findings(), [""; 0]);
}

#[test]
fn block_in_place_is_told_why_not_and_what_instead() {
    let failure = Sim::new().try_run(async |_| tokio::task::block_in_place(|| ()));
    let text = failure.unwrap_err().to_string();
    assert_contains(&text, "a sim's runtime has one thread");
    assert_contains(&text, "write `tokio::task::spawn_blocking(...).await`");
}

#[test]
fn a_second_runtime_is_told_why_not_and_what_instead() {
    let failure = Sim::new().try_run(async |_| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.build().unwrap().block_on(async {});
    });
    let text = failure.unwrap_err().to_string();
    assert_contains(
        &text,
        "cannot wait for a second one: write `.await` instead of `block_on`",
    );
}

/// real-time: what is named is a sleep in it.
#[test]
fn a_sleep_on_the_sims_thread_is_named_and_not_on_the_timeline() {
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().run_for(seconds(1)).exit(0));
            let mut child = Command::from(worker.command()).spawn().unwrap();
            sleep(Duration::from_millis(1)).await;
            std::thread::sleep(Duration::from_millis(600));
            child.wait().await.unwrap();
            Err::<(), _>("of the body")
        })
        .unwrap_err();
    let text = failure.to_string();
    assert_contains(&text, "sleeps on the sim's thread");
    assert_contains(&text, "while worker#1 waits for the clock");
    let timeline = failure.timeline().unwrap().to_string();
    assert!(!timeline.contains("sleeps"), "{timeline}");
}

#[test]
fn a_name_that_no_agent_has_is_a_mistake_and_one_that_was_never_started_is_not() {
    let timeline = Sim::new().run(async |sim| drop(sim.agent("web", Script::new())));
    assert_eq!(timeline.starts("web"), 0);
    assert!(timeline.exits("web").is_empty());
    for ask in [
        |timeline: &Timeline| drop(timeline.exits("wbe")),
        |timeline: &Timeline| drop(timeline.gaps("wbe")),
        |timeline: &Timeline| drop(timeline.runs("wbe")),
        |timeline: &Timeline| drop(timeline.overlaps("wbe")),
        |timeline: &Timeline| assert_eq!(timeline.starts("wbe"), 0),
    ] {
        let asked = catch_unwind(AssertUnwindSafe(|| ask(&timeline)));
        let payload = asked.expect_err("no such agent");
        let text = payload.downcast_ref::<String>().unwrap();
        assert_eq!(text, "the sim had no agent `wbe`: expected one of `web`");
    }
    let parsed: Timeline = timeline.to_string().parse().unwrap();
    assert_eq!(parsed, timeline);
    assert_eq!(parsed.starts("wbe"), 0);
}

#[test]
fn the_last_forty_lines_of_a_timeline_are_shown() {
    let failure = Sim::new()
        .try_run(async |sim| {
            for n in 0..100 {
                sim.note(n);
            }
            Err::<(), _>("of the body")
        })
        .unwrap_err();
    let text = failure.to_string();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), 43, "{text}");
    assert_contains(
        lines[2],
        "... 60 lines before these: `SimFailure::timeline`",
    );
    assert_contains(lines[3], "\"60\"");
    assert_eq!(failure.timeline().unwrap().events().len(), 100);
}
