//! What a supervisor is for, on a real process: an agent crashes three times, and the supervisor
//! backs off longer each time. Then the agent comes up and is stopped.
//!
//! Run it with `cargo run --example crash_loop`.

use std::error::Error;
use std::time::Duration;

use supervise_harness::backoff::ExponentialBackoff;
use supervise_harness::stub;
use supervise_harness::supervisor::{
    Readiness, RestartLimit, RestartTracker, SpawnerOptions, Supervisor, SupervisorEvent,
    SupervisorState,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let runs = stub::Quoted::from(&*directory.path().join("runs").to_string_lossy());

    // What the agent does. In its first three runs it works for a while and crashes. After that it
    // says that it is ready and stays up. When it is told to stop, it takes 50 ms to tidy up.
    let script = format!(
        "first 3 {runs} {{ run 30ms; exit 1 }}
         on SIGTERM {{ run 50ms; exit 0 }}
         ready; stay"
    );
    let spawner = SpawnerOptions::new()
        .agent_path(stub::path()?)
        .args(["--script", &script])
        .build()?;

    // The supervisor that keeps the agent running.
    let backoff = ExponentialBackoff::builder()
        .initial(Duration::from_millis(100))
        .max(Duration::from_secs(2))
        .build()?;
    let tracker = RestartTracker::builder()
        .limit(RestartLimit::consecutive(5)?)
        .build()?;
    let (supervisor, mut events) = Supervisor::builder(spawner, "worker")
        .tracker(tracker)
        .backoff(backoff)
        .readiness(Readiness::Notified)
        .start()?;

    // One task stops the agent once it is up; the other prints what happens, as it happens.
    let stop = async {
        supervisor
            .wait_for(|status| matches!(status.state, SupervisorState::Up))
            .await?;
        supervisor.stop().await
    };
    let print = async {
        let mut start = None;
        while let Some((at, event)) = events.next().await {
            let since = at - *start.get_or_insert(at);
            match &event {
                SupervisorEvent::Started { pid, .. } => {
                    println!("{:>6} ms  {event} as process {pid}", since.as_millis());
                }
                _ => println!("{:>6} ms  {event}", since.as_millis()),
            }
            if matches!(event, SupervisorEvent::Resting(_)) {
                break;
            }
        }
    };
    let (outcome, ()) = tokio::join!(stop, print);
    outcome?;
    Ok(())
}
