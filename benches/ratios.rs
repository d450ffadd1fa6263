//! Measures what the crate costs. Each row is measured against its floor, in the same run.
//!
//! The samples of a row and of its floor are taken in turn. So if the machine speeds up or slows
//! down, it does so for both. `cargo bench` prints the medians and their ratio. (Criterion and
//! divan measure one function after the other. On shared machines the ratio of two such
//! measurements drifted by a fifth from run to run.)

use std::error::Error;
use std::hint::black_box;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nix::spawn::{PosixSpawnAttr, PosixSpawnFileActions, posix_spawn};
use nix::sys::wait::waitpid;
use supervise_harness::backoff::{BackoffStrategy, ConstantBackoff, ExponentialBackoff, Jitter};
use supervise_harness::clock::FakeClock;
use supervise_harness::conformance::{self, Reference};
use supervise_harness::supervisor::{
    Decision, RestartLoop, RestartPolicy, RestartTracker, RunEnd, SpawnerOptions, Starter,
};
use supervise_harness::{Script, Sim, Timestamp, stub};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The variable that is set in a process which is started to look for the stub once.
const LOCATE: &str = "BENCH_LOCATE";

fn main() -> Result<()> {
    if std::env::var_os(LOCATE).is_some() {
        let start = Instant::now();
        let found = stub::path()?;
        let took = start.elapsed();
        println!("{} {}", took.as_nanos(), found.display());
        return Ok(());
    }
    let directory = tempfile::tempdir()?;
    let noop = compile_noop(directory.path())?;
    println!(
        "{:<46} {:>11} {:>11} {:>9}  aim",
        "", "floor", "ours", "ratio"
    );
    spawn_watch_close(&noop)?;
    start_to_ready(&noop)?;
    supervised_restarts(
        "a crash at once, 1 s",
        &Script::new().exit(1),
        Duration::from_secs(1),
    )?;
    supervised_restarts(
        "an hour's work, 30 s",
        &Script::new().run_for(Duration::from_secs(3600)).exit(1),
        Duration::from_secs(30),
    )?;
    println!();
    locate()?;
    decisions()?;
    restarts()?;
    gate_cost()?;
    suite();
    resident()
}

/// Compiles a program that does nothing. It is static, as the stub is.
fn compile_noop(directory: &Path) -> Result<PathBuf> {
    let program = directory.join("noop");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let status = Command::new(rustc)
        .args([
            "--edition=2024",
            "-C",
            "opt-level=s",
            "-C",
            "panic=abort",
            "-C",
            "strip=symbols",
        ])
        .args([
            "-C",
            "target-feature=+crt-static",
            "-C",
            "relocation-model=static",
            "-o",
        ])
        .arg(&program)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/noop.rs"))
        .status()?;
    if !status.success() {
        return Err(format!("cannot compile fixtures/noop.rs: {status}").into());
    }
    Ok(program)
}

fn median(mut samples: Vec<Duration>) -> Duration {
    samples.sort_unstable();
    samples[samples.len() / 2]
}

/// Takes samples of both in turn, and prints the medians and the ratio. What a sample returns is
/// dropped after the time was taken.
fn pair<F, O>(
    name: &str,
    aim: &str,
    mut floor: impl FnMut() -> Result<F>,
    mut ours: impl FnMut() -> Result<O>,
) -> Result<()> {
    const WARM_UP: usize = 100;
    const SAMPLES: usize = 1500;
    let (mut floors, mut all) = (Vec::new(), Vec::new());
    for n in 0..WARM_UP + SAMPLES {
        let start = Instant::now();
        let held = floor()?;
        let floor_took = start.elapsed();
        drop(held);
        let start = Instant::now();
        let held = ours()?;
        let ours_took = start.elapsed();
        drop(held);
        if n >= WARM_UP {
            floors.push(floor_took);
            all.push(ours_took);
        }
    }
    let (floor, ours) = (median(floors), median(all));
    let ratio = ours.as_secs_f64() / floor.as_secs_f64();
    println!("{name:<46} {floor:>11.1?} {ours:>11.1?} {ratio:>8.2}x  {aim}");
    Ok(())
}

fn spawn_watch_close(noop: &Path) -> Result<()> {
    let actions = PosixSpawnFileActions::init()?;
    let attributes = PosixSpawnAttr::init()?;
    let path = std::ffi::CString::new(noop.as_os_str().as_encoded_bytes())?;
    let environment: Vec<std::ffi::CString> = std::env::vars()
        .filter_map(|(key, value)| std::ffi::CString::new(format!("{key}={value}")).ok())
        .collect();
    let spawner = SpawnerOptions::new().agent_path(noop).build()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    pair(
        "spawn + watch + close of a no-op agent",
        "<= 1.15x of posix_spawn + waitpid",
        || {
            let pid = posix_spawn(
                path.as_c_str(),
                &actions,
                &attributes,
                &[&path],
                &environment,
            )?;
            waitpid(pid, None)?;
            Ok(())
        },
        || {
            runtime.block_on(async {
                let agent = spawner.spawn("noop")?;
                agent.watcher().wait().await?;
                agent.close().await?;
                Ok(())
            })
        },
    )
}

fn start_to_ready(noop: &Path) -> Result<()> {
    let floor = SpawnerOptions::new().agent_path(noop).build()?;
    let ours = SpawnerOptions::new().agent_path(stub::path()?).build()?;
    pair(
        "start-to-ready of the stub",
        "<= 1.3x of a program that does nothing",
        || {
            let mut agent = floor.spawn("noop")?;
            let mut socket = agent.take_socket().ok_or("a socket")?;
            // The agent's end of the socket is closed when the agent has ended.
            socket.read_to_end(&mut Vec::new())?;
            Ok(agent)
        },
        || {
            let mut agent = ours.spawn("stub")?;
            let mut socket = BufReader::new(agent.take_socket().ok_or("a socket")?);
            let mut hello = String::new();
            socket.read_line(&mut hello)?;
            Ok((agent, socket))
        },
    )
}

/// Measures ten starts in a sim. After each of them comes what the script does, a reap and a
/// backoff, all in virtual time. The start and the end of the sim itself are part of each sample.
///
/// There are two floors: the two system calls, and what a supervisor on tokio costs without a sim.
/// In neither of them does the agent work for an hour, or the supervisor wait between two runs.
fn supervised_restarts(name: &str, script: &Script, backoff: Duration) -> Result<()> {
    let program = std::ffi::CString::new(stub::path()?.as_os_str().as_encoded_bytes())?;
    let args = ["agent-stub", "--script", "exit 1"]
        .map(|arg| std::ffi::CString::new(arg).unwrap_or_default());
    let environment: Vec<std::ffi::CString> = Vec::new();
    let actions = PosixSpawnFileActions::init()?;
    let attributes = PosixSpawnAttr::init()?;
    let in_a_sim = || {
        Ok(Sim::new().run(async |sim| {
            let agent = sim.agent("worker", script.clone());
            restart_ten_times(&agent.command(), backoff).await
        }))
    };
    pair(
        &format!("10 restarts in a Sim: {name}"),
        "<= 1.5x of posix_spawn + waitpid of the stub",
        || {
            for _ in 0..10 {
                let pid = posix_spawn(
                    program.as_c_str(),
                    &actions,
                    &attributes,
                    &args,
                    &environment,
                )?;
                waitpid(pid, None)?;
            }
            Ok(())
        },
        in_a_sim,
    )?;
    pair(
        "  by the same supervisor without a Sim",
        "of tokio's spawn + wait of the stub",
        || {
            let mut command = Command::new(stub::path()?);
            command.args(["--script", "exit 1"]);
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            Ok(runtime.block_on(restart_ten_times(&command, Duration::ZERO))?)
        },
        in_a_sim,
    )
}

/// The supervisor, which knows nothing of sims.
async fn restart_ten_times(command: &Command, backoff: Duration) -> std::io::Result<()> {
    for _ in 0..10 {
        let mut command = tokio::process::Command::from(same(command));
        command.spawn()?.wait().await?;
        // Tokio's timer rounds up to a millisecond, even a sleep of zero.
        if !backoff.is_zero() {
            tokio::time::sleep(backoff).await;
        }
    }
    Ok(())
}

/// Copies a command, since tokio takes one by value.
fn same(command: &Command) -> Command {
    let mut same = Command::new(command.get_program());
    same.args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => same.env(key, value),
            None => same.env_remove(key),
        };
    }
    same
}

/// Measures what it costs to let time pass once, for several numbers of agents that have to agree.
fn gate_cost() -> Result<()> {
    const STEPS: u32 = 200;
    for agents in [10, 100, 1000] {
        let mut cost = Duration::ZERO;
        let start = Instant::now();
        let failure = Sim::builder().allow_leaks().build()?.try_run(async |sim| {
            let agent = sim.agent("idle", Script::new().stay());
            let mut children = Vec::new();
            for _ in 0..agents {
                let mut command = tokio::process::Command::from(agent.command());
                children.push(command.kill_on_drop(true).spawn()?);
            }
            for _ in 0..agents {
                agent.started().await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            let start = Instant::now();
            for _ in 0..STEPS {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            cost = start.elapsed() / STEPS;
            Ok::<_, std::io::Error>(())
        });
        failure?;
        let figure = format!("{:.1?} each, {:.1?} in all", cost / agents, start.elapsed());
        row(
            &format!("the gate, by agent, of {agents} live agents"),
            &figure,
            "flat; 1000 within 10 s",
        );
    }
    Ok(())
}

fn locate() -> Result<()> {
    let mut samples = Vec::new();
    for _ in 0..50 {
        let output = Command::new(std::env::current_exe()?)
            .arg0("locate")
            .env(LOCATE, "1")
            .output()?;
        let text = String::from_utf8(output.stdout)?;
        let nanos = text.split(' ').next().ok_or("a number")?.parse()?;
        samples.push(Duration::from_nanos(nanos));
    }
    row(
        "locating the stub in a fresh process",
        &format!("{:.1?}", median(samples)),
        "<= 50 µs",
    );
    Ok(())
}

fn row(name: &str, figure: &str, aim: &str) {
    println!("{name:<46} {figure:>33}  {aim}");
}

/// Returns the rate of the best of several rounds: what the code can do, with the least noise of
/// the machine.
fn per_second(rounds: u32, each: u32, mut round: impl FnMut() -> Result<()>) -> Result<String> {
    let mut best = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        round()?;
        best = best.min(start.elapsed());
    }
    Ok(format!(
        "{:.1} M/s",
        f64::from(each) / best.as_secs_f64() / 1e6
    ))
}

fn decisions() -> Result<()> {
    const EACH: u32 = 1_000_000;
    let mut tracker = RestartTracker::builder()
        .policy(RestartPolicy::OnFailure)
        .reset_after(Duration::from_secs(60))
        .build()?;
    let mut backoff = ExponentialBackoff::builder()
        .jitter(Jitter::Full)
        .seed(7)
        .build()?;
    let end = RunEnd::exited(1).after(Duration::from_secs(1));
    let mut now = Timestamp::ORIGIN;
    let figure = per_second(20, EACH, || {
        for _ in 0..EACH {
            if let Decision::Restart { attempt } = tracker.decide(black_box(&end), now) {
                now += backoff.next_delay(attempt);
            }
        }
        black_box(now);
        Ok(())
    })?;
    row(
        "policy + backoff decisions, full jitter",
        &figure,
        ">= 10 M/s",
    );
    Ok(())
}

struct FailsUntil(u32);

impl Starter for FailsUntil {
    type Error = ();

    async fn start(&mut self) -> std::result::Result<(), ()> {
        self.0 = self.0.saturating_sub(1);
        if self.0 == 0 { Ok(()) } else { Err(()) }
    }
}

fn restarts() -> Result<()> {
    const EACH: u32 = 1_000_000;
    let figure = per_second(20, EACH, || {
        let clock = FakeClock::new();
        let mut restart_loop = RestartLoop::builder()
            .policy(RestartPolicy::OnFailure)
            .backoff(ConstantBackoff::new(Duration::from_secs(1)))
            .clock(clock.clone())
            .build();
        let started = clock.block_on(restart_loop.run(&mut FailsUntil(EACH)));
        black_box(started.map_err(|error| format!("{error:?}"))?);
        Ok(())
    })?;
    row("RestartLoop on FakeClock, restarts", &figure, ">= 2 M/s");
    Ok(())
}

/// The whole suite of rules, as `conformance::run` does it.
fn suite() {
    let mut samples = Vec::new();
    for _ in 0..10 {
        let start = Instant::now();
        let report = conformance::run(Reference::new());
        samples.push(start.elapsed());
        report.assert();
    }
    row(
        "the suite of rules on the reference",
        &format!("{:.2} s", median(samples).as_secs_f64()),
        "<= 3 s on 2 cores",
    );
}

fn resident() -> Result<()> {
    let mut agent = SpawnerOptions::new()
        .agent_path(stub::path()?)
        .build()?
        .spawn("stub")?;
    let mut socket = BufReader::new(agent.take_socket().ok_or("a socket")?);
    socket.read_line(&mut String::new())?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid()))?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .ok_or("VmHWM")?;
    row(
        "peak resident memory of the stub",
        peak.trim(),
        "<= 2048 kB",
    );
    Ok(())
}
