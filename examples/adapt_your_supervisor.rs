//! How to get a table of rules for your own supervisor: copy this page, and put your supervisor in.
//!
//! Run it with `cargo run --example adapt_your_supervisor`. In a test file,
//! `supervise_harness::suite!(Mine)` makes a `#[test]` of each rule.

use std::time::Duration;

use supervise_harness::Signal;
use supervise_harness::conformance::{self, Session, Subject, SubjectError};
use supervise_harness::rules::{DelayCurve, Profile, RestReason, Service, Setting, StopReturn};
use supervise_harness::supervisor::RestartPolicy;
use tokio::process::Command;
use tokio::sync::mpsc;

/// Your supervisor, which knows nothing of the harness. It starts the command again one second
/// after each end, whatever the end was.
async fn keep_alive(command: std::process::Command, mut stop: mpsc::Receiver<()>) {
    let mut command = Command::from(command);
    command.kill_on_drop(true);
    while let Ok(mut child) = command.spawn() {
        tokio::select! {
            _ = child.wait() => tokio::time::sleep(Duration::from_secs(1)).await,
            _ = stop.recv() => return drop(child.kill().await),
        }
    }
}

/// The adapter: how the harness starts your supervisor, and what your supervisor can do.
struct Mine;

impl Subject for Mine {
    type Session = Kept;

    fn profile(&self) -> Profile {
        let mut profile = Profile::new("mine");
        profile.restarts.policy = Setting::Fixed(RestartPolicy::Always);
        profile.delay.curve = Setting::Fixed(DelayCurve::constant(Duration::from_secs(1)));
        profile.stopping.signal = Setting::Fixed(Signal::KILL);
        profile.stopping.returns = Some(StopReturn::Reaped);
        profile.process.in_test = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<Kept, SubjectError> {
        let (stop, stopped) = mpsc::channel(1);
        tokio::spawn(keep_alive(service.command(), stopped));
        Ok(Kept(stop))
    }
}

/// A service that your supervisor keeps alive.
struct Kept(mpsc::Sender<()>);

impl Session for Kept {
    async fn stop(&self) -> Result<(), SubjectError> {
        // If the supervisor has stopped already, nobody receives this.
        let _ = self.0.send(()).await;
        self.0.closed().await;
        Ok(())
    }

    async fn outcome(&self) -> RestReason {
        self.0.closed().await;
        RestReason::Stopped
    }
}

fn main() {
    println!("{}", conformance::run(Mine));
}
