//! Calls of the body that have not returned when the watchdog ends a sim: its text names them.

use rstest::rstest;
use supervise_harness::{Script, Sim, SimHandle};
use tokio::process::Command;
use tokio::time::sleep;

use super::{assert_contains, seconds, short, short_real, stuck};

/// A run that does nothing until it is told to.
async fn started(sim: &SimHandle) -> (supervise_harness::Run, tokio::process::Child) {
    let worker = sim.agent("worker", Script::new());
    let mut command = Command::from(worker.command());
    let child = command.kill_on_drop(true).spawn().unwrap();
    (worker.started().await, child)
}

#[rstest]
#[case::in_virtual_time(short())]
#[case::in_real_time(short_real())]
fn what_the_body_waits_for_is_named(#[case] sim: Sim) {
    let text = stuck(sim.try_run(async |sim| {
        let (run, _child) = started(&sim).await;
        run.became_ready().await;
    }));
    let expected = "\n  the body's call of `Run::became_ready` has not returned: worker#1 has not become ready\n";
    assert_contains(&text, expected);
}

#[test]
fn a_start_that_the_body_waits_for_is_named() {
    let text = stuck(short().try_run(async |sim| {
        let worker = sim.agent("worker", Script::new());
        worker.started().await;
    }));
    assert_contains(
        &text,
        "\n  the body's call of `Agent::started` has not returned: no further run of `worker` has started",
    );
}

#[test]
fn all_that_the_body_waits_for_at_once_is_named() {
    let text = stuck(short().try_run(async |sim| {
        let (run, _child) = started(&sim).await;
        tokio::select! {
            _ = run.ended() => {}
            () = run.at_gate("half-way") => {}
            () = std::future::pending() => {}
        }
    }));
    assert_contains(
        &text,
        "\n  the body's call of `Run::at_gate` has not returned: worker#1 is not at its gate `half-way`\
         \n  the body's call of `Run::ended` has not returned: worker#1 has not ended\n",
    );
}

/// Neither is known to be what the body waits for.
#[test]
fn what_a_task_waits_for_or_what_the_body_only_keeps_is_not_named() {
    let text = stuck(short().try_run(async |sim| {
        let (run, _child) = started(&sim).await;
        let of_task = run.clone();
        let _task = tokio::spawn(async move { of_task.became_ready().await });
        let of_local_task = run.clone();
        let _task = tokio::task::spawn_local(async move { of_local_task.ended().await });
        let mut kept = std::pin::pin!(run.at_gate("half-way"));
        tokio::select! {
            biased;
            () = &mut kept => {}
            () = sleep(seconds(1)) => {}
        }
        // Its last poll has nothing of what it keeps.
        sleep(seconds(1)).await;
        std::future::pending::<()>().await;
    }));
    assert!(!text.contains("the body's call"), "{text}");
}
