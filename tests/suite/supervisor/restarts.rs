//! Restarts: which ends cause one, after which delay, and when the supervisor gives up.

use std::time::Duration;

use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::clock::FakeClock;
use supervise_harness::supervisor::{
    EndCause, Outcome, RestartPolicy, RestartTracker, SpawnerOptions, Supervisor, SupervisorEvent,
    SupervisorState,
};
use supervise_harness::{ExitStatus, Signal};
use tempfile::TempDir;

use super::{Held, MS, is_up, story, stub, supervisor, supervisor_on, tracker, until};

fn counter(directory: &TempDir) -> String {
    format!("{:?}", directory.path().join("runs"))
}

#[tokio::test]
async fn a_crashing_agent_is_restarted_until_it_stays_up_and_stops_when_told() {
    let directory = TempDir::new().unwrap();
    let script = format!("first 3 {} {{ exit 1 }}; stay", counter(&directory));
    let (supervisor, mut events) = supervisor(&script).start().unwrap();
    for _ in 0..4 {
        until(&mut events, |event| {
            matches!(event, SupervisorEvent::Started { .. })
        })
        .await;
    }
    until(&mut events, is_up).await;
    assert_eq!(supervisor.status().runs, 4);
    let outcome = supervisor.stop().await.unwrap();
    let killed = ExitStatus::Signaled {
        signal: Signal::TERM,
        core_dumped: false,
    };
    assert!(matches!(outcome, Outcome::Stopped(Some(status)) if status == killed));
    assert_eq!(
        story(&mut events).await,
        [
            "run 4 is sent SIGTERM",
            "run 4 ended: killed by SIGTERM",
            "stopped: killed by SIGTERM"
        ]
    );
}

#[tokio::test]
async fn gives_up_at_the_limit_and_says_why() {
    let (supervisor, mut events) = supervisor("exit 9")
        .tracker(tracker(RestartPolicy::OnFailure, 2))
        .start()
        .unwrap();
    let outcome = supervisor.wait().await.unwrap();
    assert_eq!(
        outcome.to_string(),
        "gave up after 2 restarts in a row: exit code 9"
    );
    assert_eq!(
        story(&mut events).await,
        [
            "run 1 started",
            "run 1 is up",
            "run 1 ended: exit code 9",
            "next start in 1ms",
            "run 2 started",
            "run 2 is up",
            "run 2 ended: exit code 9",
            "next start in 1ms",
            "run 3 started",
            "run 3 is up",
            "run 3 ended: exit code 9",
            "gave up after 2 restarts in a row: exit code 9",
        ]
    );
}

#[rstest::rstest]
#[case::never_clean(RestartPolicy::Never, "exit 0", 1)]
#[case::never_crash(RestartPolicy::Never, "exit 1", 1)]
#[case::on_failure_clean(RestartPolicy::OnFailure, "exit 0", 1)]
#[case::on_failure_code(RestartPolicy::OnFailure, "exit 1", 3)]
#[case::on_failure_signal(RestartPolicy::OnFailure, "die SIGKILL", 3)]
#[case::always_clean(RestartPolicy::Always, "exit 0", 3)]
#[case::always_signal(RestartPolicy::Always, "die SIGSEGV", 3)]
#[tokio::test]
async fn the_policy_decides_which_ends_restart(
    #[case] policy: RestartPolicy,
    #[case] script: &str,
    #[case] runs: u64,
) {
    let (supervisor, _events) = supervisor(script)
        .tracker(tracker(policy, 2))
        .start()
        .unwrap();
    supervisor.wait().await.unwrap();
    assert_eq!(supervisor.status().runs, runs);
}

#[tokio::test]
async fn a_missing_program_counts_as_failed_starts_and_backs_off() {
    let spawner = SpawnerOptions::new()
        .agent_path("/no/such/program")
        .build()
        .unwrap();
    let (supervisor, mut events) = Supervisor::builder(spawner, "worker")
        .backoff(ConstantBackoff::new(MS))
        .tracker(tracker(RestartPolicy::OnFailure, 1))
        .start()
        .unwrap();
    let Outcome::GaveUp(gave_up) = supervisor.wait().await.unwrap() else {
        panic!("no give-up")
    };
    assert_eq!(gave_up.cause, EndCause::StartFailed);
    let story = story(&mut events).await;
    assert!(story[0].contains("/no/such/program"), "{story:?}");
    assert_eq!(story[1], "next start in 1ms");
    assert_eq!(story.len(), 4);
}

#[tokio::test]
async fn delays_and_the_healthy_time_go_by_the_given_clock() {
    let directory = TempDir::new().unwrap();
    let clock = FakeClock::new();
    let script = format!("first 1 {} {{ exit 1 }}; stay", counter(&directory));
    let (supervisor, mut events) = supervisor_on(&clock, &script)
        .backoff(ConstantBackoff::new(Duration::from_secs(3600)))
        .start()
        .unwrap();
    until(&mut events, |event| {
        matches!(event, SupervisorEvent::BackingOff { .. })
    })
    .await;
    clock.wait_for_sleepers(1).await;
    clock.advance(Duration::from_secs(3599));
    assert!(matches!(
        supervisor.status().state,
        SupervisorState::BackingOff
    ));
    assert_eq!(supervisor.status().runs, 1);
    clock.advance(Duration::from_secs(1));
    until(&mut events, is_up).await;
    assert_eq!(supervisor.status().runs, 2);
    supervisor.stop().await.unwrap();
}

#[tokio::test]
async fn a_healthy_run_starts_the_backoff_anew() {
    let clock = FakeClock::new();
    let tracker = RestartTracker::builder()
        .reset_after(Duration::from_secs(60))
        .build()
        .unwrap();
    let (supervisor, mut events) = supervisor_on(&clock, "stay")
        .tracker(tracker)
        .backoff(|attempt: u32| Duration::from_secs(u64::from(attempt) + 1))
        .start()
        .unwrap();
    let mut delays = Vec::new();
    for healthy in [0, 59, 60, 0] {
        until(&mut events, is_up).await;
        clock.advance(Duration::from_secs(healthy));
        let pid = supervisor.status().pid.expect("a process");
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(pid.cast_signed()),
            nix::sys::signal::SIGKILL,
        )
        .unwrap();
        loop {
            if let (_, SupervisorEvent::BackingOff { delay, .. }) = events.next().await.unwrap() {
                delays.push(delay.as_secs());
                break;
            }
        }
        clock.wait_for_sleepers(1).await;
        clock.advance_to_next();
    }
    assert_eq!(delays, [1, 2, 1, 2]);
    supervisor.stop().await.unwrap();
}

#[tokio::test]
async fn what_a_run_leaves_in_its_group_is_gone_before_the_next_starts() {
    let directory = TempDir::new().unwrap();
    let lock = directory.path().join("lock");
    // A second holder of the lock would exit with 122.
    let script = format!(
        "start holder {{ on SIGTERM ignore; lock {lock:?}; ready file {:?}; stay }}; gate file {:?}; exit 1",
        directory.path().join("locked"),
        directory.path().join("locked"),
    );
    let (options, held) = Held::by(stub(&script));
    let (supervisor, mut events) = Supervisor::builder(options.build().unwrap(), "worker")
        .backoff(ConstantBackoff::new(MS))
        .tracker(tracker(RestartPolicy::OnFailure, 3))
        .start()
        .unwrap();
    let outcome = supervisor.wait().await.unwrap();
    assert!(outcome.to_string().ends_with("exit code 1"), "{outcome}");
    drop(supervisor);
    while events.next().await.is_some() {}
    // All of them are gone once nobody holds the pipe.
    assert_eq!(held.text_to_the_end(), "");
}
