//! Stops: how an agent ends when its supervisor is told to stop, is dropped, or loses its runtime.

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::supervisor::{
    Outcome, Readiness, Spawner, Supervisor, SupervisorError, SupervisorEvent,
};
use supervise_harness::{ExitStatus, Signal};

use super::{Held, LONG, MS, is_up, story, stub, supervisor, until};

#[tokio::test]
async fn a_stop_during_a_delay_returns_at_once_and_nothing_starts_after_it() {
    let (supervisor, mut events) = supervisor("exit 1")
        .backoff(ConstantBackoff::new(LONG))
        .start()
        .unwrap();
    until(&mut events, |event| {
        matches!(event, SupervisorEvent::BackingOff { .. })
    })
    .await;
    let outcome = supervisor.stop().await.unwrap();
    assert!(matches!(outcome, Outcome::Stopped(None)));
    assert_eq!(story(&mut events).await, ["stopped"]);
    assert!(events.try_next().is_none());
    assert_eq!(supervisor.status().runs, 1);
}

/// How the agent ends that is stopped as soon as it is up.
async fn stopped_when_up(spawner: Spawner) -> ExitStatus {
    let (supervisor, mut events) = Supervisor::builder(spawner, "worker")
        .readiness(Readiness::Notified)
        .start()
        .unwrap();
    until(&mut events, is_up).await;
    let Outcome::Stopped(Some(status)) = supervisor.stop().await.unwrap() else {
        panic!("the agent had no end")
    };
    status
}

#[tokio::test]
async fn an_agent_that_ignores_the_signal_is_killed_at_the_grace() {
    // real-time: the grace of a real process; short, and only its end is looked at.
    let spawner = stub("on SIGTERM ignore; ready fd 3; stay")
        .grace(20 * MS)
        .build()
        .unwrap();
    let status = stopped_when_up(spawner).await;
    assert_eq!(status.signal(), Some(Signal::KILL));
}

#[tokio::test]
async fn an_agent_that_handles_the_signal_in_its_grace_exits_as_it_likes() {
    let spawner = stub("on SIGTERM { run 5ms; exit 4 }; ready; stay")
        .grace(LONG)
        .build()
        .unwrap();
    let status = stopped_when_up(spawner).await;
    assert_eq!(status, ExitStatus::Exited { code: 4 });
}

#[tokio::test]
async fn a_frozen_agent_is_woken_to_stop_inside_its_grace() {
    let spawner = stub("freeze").grace(LONG).build().unwrap();
    let (supervisor, mut events) = Supervisor::builder(spawner, "worker").start().unwrap();
    until(&mut events, is_up).await;
    let pid = supervisor.status().pid.expect("a process").cast_signed();
    // Blocks until it is frozen, and takes nothing: its end is the supervisor's to read.
    waitid(
        Id::Pid(Pid::from_raw(pid)),
        WaitPidFlag::WSTOPPED | WaitPidFlag::WNOWAIT,
    )
    .unwrap();
    let Outcome::Stopped(Some(status)) = supervisor.stop().await.unwrap() else {
        panic!()
    };
    assert_eq!(status.signal(), Some(Signal::TERM));
}

#[tokio::test]
async fn any_number_of_stops_are_one() {
    let (supervisor, mut events) = supervisor("stay").start().unwrap();
    until(&mut events, is_up).await;
    let (a, b, c) = tokio::join!(supervisor.stop(), supervisor.stop(), supervisor.stop());
    for outcome in [a, b, c, supervisor.stop().await] {
        let Outcome::Stopped(Some(status)) = outcome.unwrap() else {
            panic!()
        };
        assert_eq!(status.signal(), Some(Signal::TERM));
    }
    assert_eq!(story(&mut events).await.len(), 3);
}

#[tokio::test]
async fn dropping_it_kills_the_agent_and_its_descendants() {
    let (options, held) = Held::by(stub(
        "start a { stay }; start b { on SIGTERM ignore; stay }; ready; stay",
    ));
    let (supervisor, mut events) = Supervisor::builder(options.build().unwrap(), "worker")
        .readiness(Readiness::Notified)
        .start()
        .unwrap();
    until(&mut events, is_up).await;
    drop(supervisor);
    while events.next().await.is_some() {}
    assert_eq!(held.text_to_the_end(), "");
}

#[test]
fn the_end_of_its_runtime_kills_the_agent() {
    let (options, held) = Held::by(stub("ready; stay"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let spawner = options.build().unwrap();
    let supervisor = runtime.block_on(async {
        let (supervisor, mut events) = Supervisor::builder(spawner, "worker")
            .readiness(Readiness::Notified)
            .start()
            .unwrap();
        until(&mut events, is_up).await;
        supervisor
    });
    drop(runtime);
    assert_eq!(held.text_to_the_end(), "");
    let other = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    assert!(matches!(
        other.block_on(supervisor.stop()),
        Err(SupervisorError::Gone)
    ));
}
