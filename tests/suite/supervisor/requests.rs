//! Requests: a start, a restart and a reset that somebody asks a supervisor for.

use supervise_harness::supervisor::{
    Outcome, Readiness, RestartPolicy, SupervisorEvent, SupervisorState,
};
use tempfile::TempDir;

use super::{LONG, MS, is_up, story, supervisor, tracker, until};

#[tokio::test]
async fn concurrent_restarts_leave_one_agent_and_cost_few_runs() {
    let directory = TempDir::new().unwrap();
    let script = format!("lock {:?}; ready; stay", directory.path().join("lock"));
    let (supervisor, mut events) = supervisor(&script)
        .readiness(Readiness::Notified)
        .start()
        .unwrap();
    until(&mut events, is_up).await;
    let restarts = (0..10).map(|_| supervisor.restart());
    for done in futures_join(restarts).await {
        done.unwrap();
    }
    until(&mut events, is_up).await;
    assert_eq!(supervisor.status().runs, 2);
    supervisor.stop().await.unwrap();
}

/// Polls all of them at once.
async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut pinned: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, output) in &mut pinned {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        match pinned.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    pinned
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

#[tokio::test]
async fn an_explicit_start_works_after_giving_up_and_counts_from_0() {
    let (supervisor, mut events) = supervisor("exit 1")
        .tracker(tracker(RestartPolicy::OnFailure, 1))
        .start()
        .unwrap();
    supervisor.wait().await.unwrap();
    assert_eq!(
        story(&mut events).await.last().unwrap(),
        "gave up after 1 restart in a row: exit code 1"
    );
    supervisor.start().await.unwrap();
    let Outcome::GaveUp(gave_up) = supervisor.wait().await.unwrap() else {
        panic!("no give-up")
    };
    assert_eq!((gave_up.restarts, supervisor.status().runs), (1, 4));
}

#[tokio::test]
async fn a_start_of_an_agent_that_runs_leaves_it_alone() {
    let (supervisor, mut events) = supervisor("stay").start().unwrap();
    until(&mut events, is_up).await;
    let pid = supervisor.status().pid;
    supervisor.start().await.unwrap();
    assert_eq!(
        (supervisor.status().pid, supervisor.status().runs),
        (pid, 1)
    );
    supervisor.stop().await.unwrap();
}

#[tokio::test]
async fn a_manual_reset_makes_the_next_delay_the_first_again() {
    let (supervisor, mut events) = supervisor("exit 1")
        .backoff(|attempt: u32| if attempt < 3 { MS } else { LONG })
        .start()
        .unwrap();
    until(&mut events, |event| {
        matches!(event, SupervisorEvent::BackingOff { attempt: 3, .. })
    })
    .await;
    supervisor.reset().await.unwrap();
    // The delay goes on; only a start ends it early.
    assert!(matches!(
        supervisor.status().state,
        SupervisorState::BackingOff
    ));
    supervisor.start().await.unwrap();
    until(&mut events, |event| {
        matches!(event, SupervisorEvent::BackingOff { attempt: 0, .. })
    })
    .await;
    supervisor.stop().await.unwrap();
}
