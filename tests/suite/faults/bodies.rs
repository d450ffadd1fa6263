//! A body that panics or fails: what the caller of the sim then gets.

use supervise_harness::{Script, Sim};

use super::{assert_contains, is_there, spawn};

#[test]
fn a_panic_of_the_body_is_what_the_caller_sees_and_fifty_agents_end() {
    let mut pids = Vec::new();
    let failure = Sim::new()
        .try_run(async |sim| {
            let worker = sim.agent("worker", Script::new().stay());
            let children: Vec<_> = (0..50).map(|_| spawn(&worker)).collect();
            for _ in 0..50 {
                pids.push(worker.started().await.pid());
            }
            assert_eq!(children.len(), 51, "the test's own words");
        })
        .unwrap_err();
    assert!(failure.is_panic());
    let text = failure.to_string();
    assert!(
        text.starts_with(
            "the body of the sim panicked: assertion `left == right` failed: the test's own words"
        ),
        "{text}"
    );
    assert_eq!(failure.leaks().len(), 50);
    assert_eq!(pids.len(), 50);
    assert!(!pids.iter().any(|pid| is_there(*pid)));
}

#[test]
fn a_panic_goes_through_run_as_it_is() {
    let payload = std::panic::catch_unwind(|| {
        Sim::new().run(async |sim| -> () {
            let worker = sim.agent("worker", Script::new());
            let _child = spawn(&worker);
            worker.started().await;
            std::panic::panic_any(42_u64);
        })
    });
    assert_eq!(payload.unwrap_err().downcast_ref(), Some(&42_u64));
}

#[test]
fn a_panic_in_a_task_is_the_tasks_and_the_sim_goes_on() {
    let timeline = Sim::new().run(async |sim| {
        let task = tokio::task::spawn_local(async { panic!("of the task") });
        assert!(task.await.unwrap_err().is_panic());
        sim.note("still here");
    });
    assert_eq!(timeline.notes(), ["still here"]);
}

#[test]
fn an_error_of_the_body_fails_the_sim() {
    let failure = Sim::new()
        .try_run(async |_| Err::<(), _>(std::io::Error::other("no luck")))
        .unwrap_err();
    assert_contains(&failure.to_string(), "the body of the sim failed: ");
    assert_contains(&failure.to_string(), "no luck");
    assert!(!failure.is_panic() && !failure.is_stuck());
}

#[tokio::test]
async fn a_sim_inside_a_runtime_fails_and_says_why() {
    let failure = Sim::new().try_run(async |_| ()).unwrap_err();
    let text = failure.to_string();
    assert_contains(
        &text,
        "the sim cannot begin: it is run inside a tokio runtime",
    );
    assert_contains(&text, "write `#[test]`");
}
