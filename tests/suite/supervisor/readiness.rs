//! Readiness: when an agent counts as up, and what follows if it is late or falls silent.

use std::time::Duration;

use supervise_harness::clock::FakeClock;
use supervise_harness::supervisor::{
    EndCause, Outcome, Readiness, RestartPolicy, Supervisor, SupervisorEvent, SupervisorState,
};
use supervise_harness::{ExitStatus, Script, Signal, Sim};
use tempfile::TempDir;

use super::{MS, is_up, story, supervisor, supervisor_on, tracker, until};

#[tokio::test]
async fn ready_is_what_the_agent_says_not_its_start() {
    let directory = TempDir::new().unwrap();
    let gate = directory.path().join("gate");
    let script = format!("gate file {gate:?}; ready; stay");
    let (supervisor, mut events) = supervisor(&script)
        .readiness(Readiness::Notified)
        .start()
        .unwrap();
    until(&mut events, |event| {
        matches!(event, SupervisorEvent::Started { .. })
    })
    .await;
    assert!(events.try_next().is_none());
    assert!(matches!(
        supervisor.status().state,
        SupervisorState::Starting
    ));
    std::fs::write(&gate, "").unwrap();
    until(&mut events, is_up).await;
    assert!(matches!(supervisor.status().state, SupervisorState::Up));
    supervisor.stop().await.unwrap();
}

#[tokio::test]
async fn an_exit_before_it_was_ready_is_a_failed_start_also_with_code_0() {
    let (supervisor, _events) = supervisor("exit 0")
        .readiness(Readiness::Notified)
        .tracker(tracker(RestartPolicy::OnFailure, 1))
        .start()
        .unwrap();
    let Outcome::GaveUp(gave_up) = supervisor.wait().await.unwrap() else {
        panic!("no give-up")
    };
    assert_eq!(
        (gave_up.cause, supervisor.status().runs),
        (EndCause::StartFailed, 2)
    );
}

#[tokio::test]
async fn the_minimum_uptime_decides_what_is_up() {
    let clock = FakeClock::new();
    let (supervisor, mut events) = supervisor_on(&clock, "stay")
        .readiness(Readiness::MinUptime(Duration::from_secs(5)))
        .start()
        .unwrap();
    clock.wait_for_sleepers(1).await;
    clock.advance(Duration::from_millis(4_999));
    until(&mut events, |event| {
        matches!(event, SupervisorEvent::Started { .. })
    })
    .await;
    assert!(events.try_next().is_none());
    clock.advance(MS);
    until(&mut events, is_up).await;
    supervisor.stop().await.unwrap();
}

#[test]
fn an_agent_that_misses_a_heartbeat_is_killed_and_one_in_time_puts_it_off() {
    let timeline = Sim::new().run(async |sim| {
        let script = "on SIGTERM ignore; run 2s; ready fd 3; run 9s; beat fd 3; stay";
        let worker = sim.agent("worker", Script::new().then_do(script).unwrap());
        let spawner = worker.spawner_options().build().unwrap();
        let (supervisor, _events) = Supervisor::builder(spawner, "worker")
            .readiness(Readiness::Notified)
            .watchdog(Duration::from_secs(10))
            .tracker(tracker(RestartPolicy::Never, 1))
            .start()
            .unwrap();
        let Outcome::Finished {
            success: false,
            end,
        } = supervisor.wait().await.unwrap()
        else {
            panic!()
        };
        assert_eq!(end.cause, EndCause::WatchdogTimeout);
        assert_eq!(end.up_for, Duration::from_secs(19));
    });
    let run = timeline.runs("worker")[0];
    assert_eq!(run.exit.unwrap() - run.start, Duration::from_secs(21));
    assert_eq!(run.status.and_then(ExitStatus::signal), Some(Signal::KILL));
}

#[tokio::test]
async fn an_agent_that_is_never_ready_is_stopped_at_the_start_timeout() {
    let clock = FakeClock::new();
    let (supervisor, mut events) = supervisor_on(&clock, "stay")
        .readiness(Readiness::Notified)
        .start_timeout(Duration::from_secs(90))
        .tracker(tracker(RestartPolicy::Never, 1))
        .start()
        .unwrap();
    clock.wait_for_sleepers(1).await;
    clock.advance(Duration::from_secs(90));
    let Outcome::Finished {
        success: false,
        end,
    } = supervisor.wait().await.unwrap()
    else {
        panic!("{:?}", supervisor.status())
    };
    assert_eq!(end.cause, EndCause::StartTimeout);
    assert_eq!(
        story(&mut events).await,
        [
            "run 1 started",
            "run 1 was not ready in time",
            "run 1 is sent SIGTERM",
            "run 1 ended: killed by SIGTERM",
            "finished: not ready in time",
        ]
    );
}
