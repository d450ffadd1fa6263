//! The README's first test. Run it with `cargo test --example quickstart`, or see its timeline with
//! `cargo run --example quickstart`.

use std::time::Duration;
use supervise_harness::{Script, Sim};
use tokio::process::Command;

/// The code under test: yours. It is plain tokio, and knows nothing of the harness.
async fn keep_alive(mut command: Command) -> std::io::Result<()> {
    for attempt in 0..6 {
        if command.status().await?.success() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_secs(1 << attempt)).await;
    }
    Err(std::io::Error::other("gave up"))
}

#[test]
fn gives_up_after_six_crashes() {
    let timeline = Sim::new().run(async |sim| {
        let crash = Script::new().run_for(Duration::from_secs(3600)).exit(1);
        let worker = sim.agent("worker", crash);
        keep_alive(worker.command().into()).await.unwrap_err();
    });
    assert_eq!(timeline.starts("worker"), 6);
    assert_eq!(
        timeline.gaps("worker"),
        [1, 2, 4, 8, 16].map(Duration::from_secs)
    );
}

fn main() {
    let timeline = Sim::new().run(async |sim| {
        let crash = Script::new().run_for(Duration::from_secs(3600)).exit(1);
        let worker = sim.agent("worker", crash);
        let gave_up = keep_alive(worker.command().into()).await;
        sim.note(format!("{gave_up:?}"));
    });
    println!("{timeline}");
}
