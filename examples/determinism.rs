//! The same bytes every time: `cargo run --release --example determinism -- 1000`.
//!
//! A plain `tokio::process` supervisor, which knows nothing of the harness, keeps two agents running
//! through every kind of end, for more than an hour of virtual time; that is done again and again,
//! and the distinct timelines are counted. Then once more with the idle gate switched off, for
//! contrast. With `--busy N`, N busy loops run beside.

use std::collections::HashSet;
use std::error::Error;
use std::process::Child;
use std::time::{Duration, Instant};

use supervise_harness::{Script, Signal, Sim, SimHandle, Timeline};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

/// The code under test: it starts a command, waits for its end or stops it, and starts it again.
async fn supervise(
    mut start: impl FnMut() -> Command,
    log: impl Fn(String),
) -> std::io::Result<()> {
    for round in 0..4 {
        let mut child = start().spawn()?;
        if round < 2 {
            let status = child.wait().await?;
            log(format!("round {round}: {status}"));
        } else {
            sleep(Duration::from_secs(60)).await;
            let pid = child.id().unwrap_or_default().cast_signed();
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGTERM)?;
            match timeout(Duration::from_secs(10), child.wait()).await {
                Ok(status) => log(format!("round {round}: {}", status?)),
                Err(_) => {
                    child.kill().await?;
                    log(format!("round {round}: killed at the grace"));
                }
            }
        }
        sleep(Duration::from_secs(30 << round)).await;
    }
    Ok(())
}

/// An exit after an hour, a death by SIGABRT, a SIGTERM that is handled in the grace and one that is
/// not.
fn every_kind_of_end() -> Script {
    let secs = Duration::from_secs;
    let handles = |time| {
        Script::new()
            .on(Signal::TERM, Script::new().run_for(time).exit(0))
            .stay()
    };
    Script::runs(1, Script::new().run_for(secs(3600)).exit(1))
        .then(Script::runs(
            1,
            Script::new().run_for(secs(1)).die_by(Signal::ABRT),
        ))
        .then(Script::runs(1, handles(secs(3))))
        .then(handles(secs(30)))
}

async fn scenario(sim: SimHandle) {
    let supervised = ["a", "b"].map(|name| {
        let agent = sim.agent(name, every_kind_of_end());
        let log = agent.clone();
        tokio::task::spawn_local(supervise(
            move || agent.command().into(),
            move |text| log.note(text),
        ))
    });
    for task in supervised {
        task.await.expect("no panic").expect("no error");
    }
}

struct Busy(Vec<Child>);

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn repeat(times: u32, sim: &Sim) -> (HashSet<String>, u32, Duration, Duration) {
    let (mut distinct, mut failed, start) = (HashSet::new(), 0, Instant::now());
    let mut virtual_time = Duration::ZERO;
    for _ in 0..times {
        match sim.clone().try_run(scenario) {
            Ok(timeline) => {
                virtual_time += length(&timeline);
                distinct.insert(timeline.to_string());
            }
            Err(_) => failed += 1,
        }
    }
    (distinct, failed, virtual_time, start.elapsed())
}

fn length(timeline: &Timeline) -> Duration {
    timeline
        .events()
        .last()
        .map_or(Duration::ZERO, |event| event.at.since_origin())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut times, mut busy) = (1000, 0);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--busy" => busy = args.next().ok_or("--busy: expected a number")?.parse()?,
            number => times = number.parse()?,
        }
    }
    let loops = (0..busy).map(|_| {
        std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
    });
    let busy_loops = Busy(loops.collect::<Result<_, _>>()?);

    let (distinct, failed, virtual_time, took) = repeat(times, &Sim::new());
    println!(
        "{times} runs beside {busy} busy loops: {} distinct timelines, {failed} failed",
        distinct.len()
    );
    println!(
        "{:.1} runs a second, {:.0} virtual hours per real second",
        f64::from(times) / took.as_secs_f64(),
        virtual_time.as_secs_f64() / 3600.0 / took.as_secs_f64()
    );
    let contrast = times.min(100);
    // What the missing gate breaks may leave it stuck.
    let sim = Sim::builder()
        .without_gate()
        .allow_leaks()
        .watchdog(Duration::from_secs(1))
        .build()?;
    let (ungated, ungated_failed, ..) = repeat(contrast, &sim);
    println!(
        "without the gate, {contrast} runs: {} distinct timelines, {ungated_failed} failed",
        ungated.len()
    );
    drop(busy_loops);
    match (distinct.len(), failed) {
        (1, 0) => Ok(()),
        _ => {
            for timeline in distinct.iter().take(2) {
                println!("{timeline}");
            }
            Err("the timelines differ".into())
        }
    }
}
