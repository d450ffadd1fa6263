//! Checks that a sim gives the same bytes every time.
//!
//! Run it with `cargo run --release --example determinism -- 1000`.
//!
//! A plain `tokio::process` supervisor, which knows nothing of the harness, keeps three agents
//! running for more than an hour of virtual time. The agents do all of this:
//!
//! - They end in every kind of way.
//! - They start descendants of every placement.
//! - They flood what is read, and write to two streams.
//! - They say something at the instant at which they end.
//!
//! The supervisor also signals a whole group. The example does that again and again. It counts the
//! distinct timelines, and the distinct logs of what the supervisor saw. Then it does the same with
//! the idle gate switched off, for contrast.
//!
//! `-- --generated 1000 --times 20` plays generated scenarios instead: those of the seeds 0 to 999,
//! each 20 times. `--seed S` begins at another seed. `--only N` plays the scenario of seed N and
//! prints it. If that scenario is not the same each time, the example makes it smaller for each
//! kind of difference.
//!
//! With `--busy N`, N busy loops run at the same time.

#[path = "../fixtures/generated/mod.rs"]
mod generated;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::error::Error;
use std::io::IsTerminal;
use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use supervise_harness::{Agent, Script, Sim, SimHandle, Timeline, Timestamp};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::{sleep, timeout};

use generated::{Again, Outcomes, generate, play_times, shrink};

/// What an agent does in each run, in the stub's grammar:
///
/// - In the first run it starts descendants of every placement, which end before it, and exits
///   after an hour.
/// - In the second run it floods both streams, writes a last line and dies, all at one instant.
/// - In the third run it handles SIGTERM within the grace. One of its descendants does so, too, and
///   the other ignores it.
/// - In the last run it writes a line to each stream, and handles SIGTERM for longer than the
///   grace.
const RUNS: [&str; 4] = [
    "start same { run 1s; exit 3 }; start group own-group { run 2s; die SIGKILL }; \
     start session own-session { run 3s; exit 4 }; start daemon double-fork { run 4s; write \"daemon\\n\"; exit 5 }; \
     start brother double-fork { run 4s; write \"brother\\n\"; exit 0 }; run 1h; exit 1",
    "run 1s; write 200KiB; write stderr 100KiB; write \"last\\n\"; die SIGABRT",
    "start helper { on SIGTERM { run 1s; exit 0 }; stay }; start other { on SIGTERM ignore; stay }; \
     on SIGTERM { write \"bye\\n\"; run 3s; exit 0 }; stay",
    "on SIGTERM { run 30s; exit 0 }; write \"one\\n\"; write stderr \"two\\n\"; stay",
];

type Log = Rc<RefCell<Vec<String>>>;

/// The code under test: it starts a command, reads what the command writes, waits for its end or
/// stops its group, and starts it again.
async fn supervise(agent: Agent, say: impl Fn(String)) -> std::io::Result<()> {
    for round in 0..RUNS.len() {
        let mut command = Command::from(agent.command());
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.process_group(0).spawn()?;
        let stderr = child.stderr.take();
        let errors = tokio::task::spawn_local(async move {
            let mut text = String::new();
            match stderr {
                Some(mut stderr) => stderr.read_to_string(&mut text).await,
                None => Ok(0),
            }
        });
        let group = Pid::from_raw(child.id().unwrap_or_default().cast_signed());
        if round < 2 {
            let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
            let mut read = 0;
            // How many lines of a flood are read before the end is the kernel's choice. So the log
            // says the order only of lines that are no flood.
            let status = loop {
                tokio::select! {
                    biased;
                    Ok(Some(line)) = lines.next_line() => match line.len() {
                        0..10 => say(format!("round {round}: {line}")),
                        _ => read += 1,
                    },
                    status = child.wait() => break status?,
                }
            };
            while let Some(line) = lines.next_line().await? {
                match line.len() {
                    0..10 => say(format!("round {round}: {line}")),
                    _ => read += 1,
                }
            }
            say(format!("round {round}: {status} after {read} lines"));
        } else {
            sleep(Duration::from_secs(60)).await;
            killpg(group, Signal::SIGTERM)?;
            match timeout(Duration::from_secs(10), child.wait()).await {
                Ok(status) => say(format!("round {round}: {}", status?)),
                Err(_) => say(format!("round {round}: killed at the grace")),
            }
            if child.id().is_some() {
                kill(group, Signal::SIGKILL)?;
            }
            let output = child.wait_with_output();
            match timeout(Duration::from_secs(1), output).await {
                Ok(output) => {
                    let text = String::from_utf8_lossy(&output?.stdout).into_owned();
                    say(format!("round {round}: {text:?}"));
                }
                Err(_) => say(format!("round {round}: somebody holds the streams")),
            }
            // What is left of the group has had its time. There may be nothing left.
            let _ = killpg(group, Signal::SIGKILL);
        }
        let read = errors.await.expect("no panic")?;
        say(format!("round {round}: {read} bytes of errors"));
        sleep(Duration::from_secs(30 << round)).await;
    }
    Ok(())
}

fn every_kind_of_end() -> Script {
    let run = |statements| {
        let script = Script::new().then_do(statements);
        script.expect("a script of the grammar")
    };
    let [first, second, third, last] = RUNS.map(run);
    Script::runs(1, first)
        .then(Script::runs(1, second))
        .then(Script::runs(1, third))
        .then(last)
}

async fn scenario(sim: SimHandle, log: Log) {
    let supervised = ["a", "b", "c"].map(|name| {
        let agent = sim.agent(name, every_kind_of_end());
        let (noted, log, sim) = (agent.clone(), Rc::clone(&log), sim.clone());
        tokio::task::spawn_local(supervise(agent, move |text| {
            log.borrow_mut()
                .push(format!("{} {name} {text}", sim.now()));
            noted.note(text);
        }))
    });
    for task in supervised {
        task.await.expect("no panic").expect("no error");
    }
}

/// Busy loops, which end when this is dropped. If this process is killed, they end by themselves.
struct Busy(Vec<Child>);

impl Busy {
    fn begin(count: u32) -> std::io::Result<Busy> {
        let mut busy = Busy(Vec::new());
        for _ in 0..count {
            let mut command = std::process::Command::new("sh");
            let spin = "while kill -0 $PPID; do :; done 2> /dev/null";
            busy.0.push(command.args(["-c", spin]).spawn()?);
        }
        Ok(busy)
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Says on standard error how far the example has got: on a terminal each second, else after each
/// tenth of the way.
struct Progress {
    what: &'static str,
    times: u32,
    said: Instant,
    on_terminal: bool,
}

impl Progress {
    fn begin(what: &'static str, times: u32) -> Progress {
        Progress {
            what,
            times,
            said: Instant::now(),
            on_terminal: std::io::stderr().is_terminal(),
        }
    }

    fn tell(&mut self, done: u32) {
        let tenths = |done: u32| u64::from(done) * 10 / u64::from(self.times);
        let is_due = match self.on_terminal {
            true => self.said.elapsed() >= Duration::from_secs(1),
            false => tenths(done) > tenths(done - 1),
        };
        if is_due {
            eprintln!("{}{done} of {} done", self.what, self.times);
            self.said = Instant::now();
        }
    }
}

/// Runs the scenario that many times. Returns what came of it, and how much virtual time has passed
/// in all.
fn repeat(what: &'static str, times: u32, sim: &Sim) -> (Outcomes, Duration) {
    let (mut outcomes, mut virtual_time) = (Outcomes::default(), Duration::ZERO);
    let mut progress = Progress::begin(what, times);
    for done in 1..=times {
        let log = Log::default();
        let sim = sim.clone();
        let result = sim.try_run(async |sim| scenario(sim, Rc::clone(&log)).await);
        virtual_time += result.as_ref().map_or(Duration::ZERO, length);
        outcomes.add(&result, log.borrow().join("\n"));
        progress.tell(done);
    }
    (outcomes, virtual_time)
}

fn length(timeline: &Timeline) -> Duration {
    let last = timeline.events().last();
    last.map_or(Timestamp::ORIGIN, |event| event.at)
        .since_origin()
}

/// Runs the scenario above, and then again without the gate.
fn chosen(times: u32) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let (outcomes, virtual_time) = repeat("", times, &Sim::new());
    let took = start.elapsed().as_secs_f64();
    println!("{times} runs: {}", outcomes.counts());
    println!(
        "{:.1} runs a second, {:.0} virtual hours per real second",
        f64::from(times) / took,
        virtual_time.as_secs_f64() / 3600.0 / took
    );
    // Many of these get stuck, for a second each.
    let contrast = times.min(20);
    // Without the gate a sim may get stuck.
    let sim = Sim::builder()
        .without_gate()
        .allow_leaks()
        .watchdog(Duration::from_secs(1))
        .build()?;
    let (ungated, _) = repeat("without the gate, ", contrast, &sim);
    println!("without the gate, {contrast} runs: {}", ungated.counts());
    if outcomes.is_one() && outcomes.failed() == 0 {
        return Ok(());
    }
    println!("{outcomes}");
    Err("the timelines or the logs differ, or a run has failed".into())
}

/// Plays generated scenarios, of so many seeds from the first on.
fn generated(first: u64, count: u64, times: u32) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let (mut different, mut stuck) = (Vec::new(), Vec::new());
    for seed in first..first + count {
        let again = play_times(generate(seed), times);
        if again.outcomes.stuck() > 0 {
            stuck.push(seed);
        }
        if !again.outcomes.is_one() {
            different.push(again);
        }
        let played = seed - first + 1;
        if played.is_multiple_of(100) {
            eprintln!(
                "{played} of {count} played, {} not the same",
                different.len()
            );
        }
    }
    println!(
        "{} of {count} scenarios gave one timeline and one log in {times} plays; {:.1} s",
        count - different.len() as u64,
        start.elapsed().as_secs_f64()
    );
    if !stuck.is_empty() {
        println!("stuck: {stuck:?}");
    }
    if different.is_empty() {
        return Ok(());
    }
    different.sort_by_key(|again| again.to_string().len());
    let seeds = different.iter().map(|again| again.seed().to_string());
    println!("not: {}", seeds.collect::<Vec<_>>().join(" "));
    // Print each kind of difference, with the smallest scenario that shows it.
    let mut kinds: BTreeMap<String, Vec<&Again>> = BTreeMap::new();
    for again in &different {
        for kind in again.outcomes.kinds() {
            kinds.entry(kind).or_default().push(again);
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, found)| std::cmp::Reverse(found.len()));
    let mut shown = HashSet::new();
    for (kind, found) in &kinds {
        println!(
            "\n# {kind}: in {} scenarios, the smallest {}",
            found.len(),
            found[0].seed()
        );
        if shown.insert(found[0].seed()) {
            println!("{}", found[0]);
        }
    }
    Err("not every scenario is the same each time".into())
}

/// Plays one scenario and prints it, whatever comes of it.
fn only(seed: u64, times: u32) -> Result<(), Box<dyn Error>> {
    let again = play_times(generate(seed), times);
    println!("{again}");
    if again.outcomes.is_one() {
        return Ok(());
    }
    for kind in again.outcomes.kinds() {
        if let Some(smaller) = shrink(again.scenario(), &kind, times) {
            println!("\n# made smaller for {kind}\n{smaller}");
        }
    }
    Err("it is not the same each time".into())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (mut chosen_times, mut times, mut busy) = (1000, 20, 0);
    let (mut count, mut first, mut alone) = (None, 0, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or(format!("{arg}: expected a number"))?;
            value
                .parse::<u64>()
                .map_err(|error| format!("{arg} {value}: {error}"))
        };
        match arg.as_str() {
            "--busy" => busy = u32::try_from(number()?)?,
            "--generated" => count = Some(number()?),
            "--times" => times = u32::try_from(number()?)?,
            "--seed" => first = number()?,
            "--only" => alone = Some(number()?),
            word => chosen_times = word.parse().map_err(|error| format!("{word}: {error}"))?,
        }
    }
    println!("beside {busy} busy loops");
    let _busy = Busy::begin(busy)?;
    match (alone, count) {
        (Some(seed), _) => only(seed, times),
        (None, Some(count)) => generated(first, count, times),
        (None, None) => chosen(chosen_times),
    }
}
