//! The supervisor over whole lifetimes, on real stubs.

use std::io::Read;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::clock::FakeClock;
use supervise_harness::supervisor::{
    EndCause, Outcome, Readiness, RestartLimit, RestartPolicy, RestartTracker, Spawner,
    SpawnerOptions, State, Supervisor, SupervisorBuilder, SupervisorError, SupervisorEvent,
    SupervisorEvents,
};
use supervise_harness::{ExitStatus, Script, Signal, Sim};
use tempfile::TempDir;

const MS: Duration = Duration::from_millis(1);

/// Far longer than anything here takes, far shorter than a run of the suite.
const LONG: Duration = Duration::from_secs(40);

fn stub(script: &str) -> SpawnerOptions {
    SpawnerOptions::new()
        .agent_path(agent_stub::path().expect("the stub"))
        .args(["--script", script])
}

fn supervisor(script: &str) -> SupervisorBuilder {
    Supervisor::builder(stub(script).build().expect("a spawner"), "worker")
        .backoff(ConstantBackoff::new(MS))
}

/// A supervisor on a clock that is moved by hand.
fn supervisor_on(clock: &FakeClock, script: &str) -> SupervisorBuilder {
    let spawner = stub(script)
        .clock(clock.clone())
        .build()
        .expect("a spawner");
    Supervisor::builder(spawner, "worker")
}

fn tracker(policy: RestartPolicy, limit: u32) -> RestartTracker {
    let limit = RestartLimit::consecutive(limit).expect("a limit");
    RestartTracker::builder()
        .policy(policy)
        .limit(limit)
        .build()
        .expect("a tracker")
}

/// The text of each event up to the rest, without the process ids.
async fn story(events: &mut SupervisorEvents) -> Vec<String> {
    let mut story = Vec::new();
    while let Some((_, event)) = events.next().await {
        let rests = matches!(event, SupervisorEvent::Resting(_));
        story.push(event.to_string());
        if rests {
            break;
        }
    }
    story
}

/// Waits for the next event that matches.
async fn until(events: &mut SupervisorEvents, matches: impl Fn(&SupervisorEvent) -> bool) {
    loop {
        let (_, event) = events
            .next()
            .await
            .expect("an event before the supervisor's end");
        if matches(&event) {
            return;
        }
    }
}

fn is_up(event: &SupervisorEvent) -> bool {
    matches!(event, SupervisorEvent::Ready { .. })
}

/// A pipe that the agent and its descendants hold: at its end, all of them are gone.
struct Held(std::io::PipeReader);

impl Held {
    fn by(options: SpawnerOptions) -> (SpawnerOptions, Held) {
        let (read, write) = std::io::pipe().expect("a pipe");
        (options.stdout(write), Held(read))
    }

    fn text_to_the_end(mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).expect("read to the end");
        text
    }
}

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
    assert!(matches!(supervisor.status().state, State::BackingOff));
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
    assert!(matches!(supervisor.status().state, State::Starting));
    std::fs::write(&gate, "").unwrap();
    until(&mut events, is_up).await;
    assert!(matches!(supervisor.status().state, State::Up));
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
    assert!(matches!(supervisor.status().state, State::BackingOff));
    supervisor.start().await.unwrap();
    until(&mut events, |event| {
        matches!(event, SupervisorEvent::BackingOff { attempt: 0, .. })
    })
    .await;
    supervisor.stop().await.unwrap();
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

#[test]
fn bad_settings_and_a_missing_runtime_are_errors_at_the_start() {
    let error = supervisor("stay").start().unwrap_err();
    assert_eq!(
        error.to_string(),
        "a supervisor needs a tokio runtime: start it inside one"
    );
    let zero = supervisor("stay")
        .start_timeout(Duration::ZERO)
        .start()
        .unwrap_err();
    assert!(
        zero.to_string().starts_with("start_timeout is 0s"),
        "{zero}"
    );
    let zero = supervisor("stay")
        .readiness(Readiness::MinUptime(Duration::ZERO))
        .start()
        .unwrap_err();
    assert!(
        zero.to_string().starts_with("the minimum uptime is 0s"),
        "{zero}"
    );
}
