//! The supervisor over whole lifetimes, on real stubs.

mod readiness;
mod requests;
mod restarts;
mod stops;

use std::io::Read;
use std::time::Duration;

use supervise_harness::backoff::ConstantBackoff;
use supervise_harness::clock::FakeClock;
use supervise_harness::supervisor::{
    Readiness, RestartLimit, RestartPolicy, RestartTracker, SpawnerOptions, Supervisor,
    SupervisorBuilder, SupervisorEvent, SupervisorEvents,
};

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
