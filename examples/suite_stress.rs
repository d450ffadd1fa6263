//! Checks that the suite gives the same verdicts every time.
//!
//! Run it with `cargo run --release --example suite_stress -- 1000`.
//!
//! The example plays the whole suite of rules with the reference supervisor again and again, and
//! counts the verdicts that are no pass. With `--busy N`, N busy loops run at the same time.

use std::error::Error;
use std::process::{Child, Command, ExitCode};
use std::time::{Duration, Instant};

use supervise_harness::conformance::{self, Apart, Program, Reference, serve};

/// With this argument the program is the reference supervisor in a process of its own.
const SERVES: &str = "--serve";

/// The reference supervisor. The harness can run this program again to have it in a process of its
/// own.
fn reference() -> std::io::Result<Apart<Reference>> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SERVES);
    Ok(Apart::new(Reference::new(), Program::from(&command)))
}

struct Busy(Vec<Child>);

impl Busy {
    fn start(loops: u32) -> std::io::Result<Busy> {
        let mut busy = Busy(Vec::new());
        for _ in 0..loops {
            // It ends with this process, even if that is killed.
            let spin = "while kill -0 $PPID; do :; done 2> /dev/null";
            busy.0.push(Command::new("sh").args(["-c", spin]).spawn()?);
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

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let (mut times, mut loops) = (1000, 0);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            SERVES => {
                serve(Reference::alone())?;
                return Ok(ExitCode::SUCCESS);
            }
            "--busy" => loops = args.next().ok_or("--busy: expected a number")?.parse()?,
            number => times = number.parse()?,
        }
    }
    let busy = Busy::start(loops)?;
    let (mut verdicts, mut deviating) = (0, 0);
    let (mut all, mut longest) = (Duration::ZERO, Duration::ZERO);
    for run in 1..=times {
        let start = Instant::now();
        let report = conformance::run(reference()?);
        let took = start.elapsed();
        all += took;
        longest = longest.max(took);
        let working = report
            .lines()
            .iter()
            .filter(|line| line.rule.planned().is_none());
        verdicts += working.clone().count();
        let others = working.filter(|line| !line.verdict.is_pass()).count();
        if others > 0 {
            deviating += others;
            println!("run {run}:\n{report}\n");
        }
    }
    drop(busy);
    println!(
        "{times} runs beside {loops} busy loops: {verdicts} verdicts, {deviating} of them no pass"
    );
    println!(
        "{:.2} s a suite, {:.2} s the longest",
        all.as_secs_f64() / f64::from(times.max(1)),
        longest.as_secs_f64()
    );
    Ok(if deviating == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
