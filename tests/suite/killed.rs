//! The suite itself, killed: no process of its tests outlives it.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use rand::RngExt;

use crate::{child, sweeper};

/// How long what is left may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// When the suite is killed, in seconds after its start. It runs its tests from a random one on: what comes
/// later in its order is met as often.
const MOMENTS: Range<f64> = 0.1..8.0;

/// The children of the process, which has one thread that starts any.
fn children() -> Vec<Pid> {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let lists =
        tasks.map(|task| fs::read_to_string(task.unwrap().path().join("children")).unwrap());
    let all: String = lists.collect();
    all.split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect()
}

/// What it runs, for people.
fn command_line(pid: Pid) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).replace('\0', " ");
    text.trim_end().to_owned()
}

/// Reaps the children that have ended. False where none is left.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) => {}
            Err(Errno::ECHILD) => return false,
            Err(error) => panic!("cannot reap: {error}"),
        }
    }
}

/// What still runs after [`PATIENCE`] of what was started below this process, which has to be a
/// subreaper: whoever loses its parent becomes its child, whatever its session, environment or
/// arguments. It is ended.
fn left() -> Vec<String> {
    // real-time: only a machine that goes on tells whether a process ends.
    let late = Instant::now() + PATIENCE;
    while reap() {
        if Instant::now() > late {
            let mut left = Vec::new();
            while reap() {
                for pid in children() {
                    left.push(format!("{pid}: {}", command_line(pid)));
                    kill(pid, Signal::SIGKILL).unwrap();
                    waitpid(pid, None).unwrap();
                }
            }
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Vec::new()
}

/// The names of the tests of the program.
fn tests(program: &OsStr) -> Vec<String> {
    let output = Command::new(program)
        .args(["--list", "--format=terse"])
        .output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let names = text.lines().filter_map(|line| line.strip_suffix(": test"));
    names.map(str::to_owned).collect()
}

/// A process that starts programs as people do and reaps whatever these leave behind.
fn alone(path: &str, body: impl FnOnce()) {
    if !child::is_child(path) {
        let mut command = child::command(path);
        // So that the figures show as they come.
        let status = command.arg("--include-ignored").status().unwrap();
        assert!(status.success(), "{path} in its own process: {status}");
        return;
    }
    set_child_subreaper(true).unwrap();
    sweeper::unmark();
    body();
}

/// Kills the program and waits for the end of what it has started.
fn kill_and_look(program: &mut Child) -> Vec<String> {
    program.kill().unwrap();
    program.wait().unwrap();
    left()
}

/// Set for the program that is killed.
const IS_KILLED: &str = "SUITE_IS_KILLED";

/// None of these knows of the test program, and none would end for a long time.
#[test]
fn what_no_test_can_end_any_more_ends_with_the_program() {
    let path = "killed::what_no_test_can_end_any_more_ends_with_the_program";
    if std::env::var_os(IS_KILLED).is_some() {
        let mut stopped = Command::new("sh");
        stopped.args(["-c", "kill -STOP $$"]);
        let mut stub = Command::new(supervise_harness::stub::path().unwrap());
        stub.args(["--lifetime", "1000s", "--script", "stay"]);
        // It starts its program and ends.
        let mut daemon = Command::new("setsid");
        daemon.args(["--fork", "sleep", "1000"]);
        let _started = [&mut stopped, &mut stub, &mut daemon].map(|command| {
            let command = command.env_clear().stdin(Stdio::null());
            command.stdout(Stdio::null()).stderr(Stdio::null());
            command.spawn().unwrap()
        });
        println!("\nstarted");
        // Until it is killed.
        loop {
            std::thread::park();
        }
    }
    alone(path, || {
        let mut command = child::command(path);
        command.env(IS_KILLED, "").env_remove(sweeper::SWITCH);
        let mut program = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(program.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "started"));
        assert_eq!(kill_and_look(&mut program), [""; 0]);
    });
}

#[test]
#[ignore = "kills the suite KILLS times (100), or another test program: PROGRAM"]
fn a_suite_that_is_killed_at_any_moment_leaves_no_process() {
    alone(
        "killed::a_suite_that_is_killed_at_any_moment_leaves_no_process",
        || {
            let kills = std::env::var("KILLS").map_or(100, |kills| kills.parse().unwrap());
            let program = std::env::var_os("PROGRAM");
            let program = program.unwrap_or_else(|| std::env::current_exe().unwrap().into());
            kill_often(&program, kills);
        },
    );
}

fn kill_often(program: &OsStr, kills: usize) {
    let tests = tests(program);
    let mut random = rand::rng();
    let (mut number, mut bad, mut all) = (0, 0, 0);
    let mut longest = Duration::ZERO;
    while number < kills {
        let first = random.random_range(0..tests.len());
        let moment = Duration::from_secs_f64(random.random_range(MOMENTS));
        let mut command = Command::new(program);
        command.arg("--exact").args(&tests[first..]);
        child::forget(&mut command);
        command.env_remove(sweeper::SWITCH).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut suite = command.spawn().unwrap();
        // real-time: any moment will do.
        std::thread::sleep(moment);
        if suite.try_wait().unwrap().is_some() {
            // It has had nothing more to do.
            left();
            continue;
        }
        number += 1;
        let killed = Instant::now();
        let left = kill_and_look(&mut suite);
        let took = killed.elapsed();
        longest = longest.max(took);
        let first = &tests[first];
        println!(
            "kill {number} after {moment:.1?} from {first} on: {} left after {took:.0?}",
            left.len()
        );
        for line in &left {
            println!("    {line}");
        }
        bad += usize::from(!left.is_empty());
        all += left.len();
    }
    println!("{all} processes left by {bad} of {kills} kills; looked for {longest:.0?} at most");
    assert_eq!(all, 0);
}
