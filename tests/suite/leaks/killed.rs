//! A test process that is killed while its guard ends what was left behind.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use supervise_harness::leaks::Guard;

use super::stub;
use crate::child;

/// How often it is killed.
const KILLS: usize = 20;

/// The state that /proc has of it; None where it is gone.
fn state(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Runs the test at the path again, which says `left PID` of each that it leaves to its guard, and kills
/// it as soon as the first of them is stopped or has ended.
fn kill_at_the_end(path: &str) {
    for _ in 0..KILLS {
        let mut command = child::command(path);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut test = command.spawn().unwrap();
        let mut left = Vec::new();
        for line in BufReader::new(test.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            left.extend(
                line.strip_prefix("left ")
                    .map(|pid| pid.parse::<u32>().unwrap()),
            );
            if line == "now" {
                break;
            }
        }
        assert!(!left.is_empty());
        while !matches!(state(left[0]), None | Some('T' | 'Z' | 'X')) {
            std::hint::spin_loop();
        }
        test.kill().unwrap();
        test.wait().unwrap();
        // The kernel ends them: that is all there is to wait for. Those that are not stopped end by
        // themselves, after a while.
        while let Some(pid) = left.iter().find(|pid| state(**pid) == Some('T')) {
            let still = || state(*pid) == Some('T');
            for _ in 0..1000 {
                std::thread::yield_now();
            }
            if still() {
                for pid in &left {
                    let _ = kill(Pid::from_raw(i32::try_from(*pid).unwrap()), Signal::SIGKILL);
                }
                panic!("{pid} stays stopped");
            }
        }
    }
}

/// They are no stubs: they are stopped before they are killed.
#[test]
fn leaves_no_shell_stopped() {
    let path = "leaks::killed::leaves_no_shell_stopped";
    if !child::is_child(path) {
        return kill_at_the_end(path);
    }
    let guard = Guard::new();
    for _ in 0..5 {
        let mut shell = Command::new("sh");
        // It ends by itself if this test should fail to end it.
        let shell = shell.args(["-c", "for n in 1 2 3 4 5 6 7 8; do sleep 1; done"]);
        println!(
            "\nleft {}",
            shell.stdin(Stdio::null()).spawn().unwrap().id()
        );
    }
    println!("now");
    drop(guard.check().unwrap_err());
}

/// They are killed at once.
#[test]
fn leaves_no_stub_stopped() {
    let path = "leaks::killed::leaves_no_stub_stopped";
    if !child::is_child(path) {
        return kill_at_the_end(path);
    }
    let guard = Guard::new();
    for _ in 0..5 {
        let child = guard.mark_command(&mut stub("run 8s")).spawn().unwrap();
        println!("\nleft {}", child.id());
    }
    println!("now");
    drop(guard.check().unwrap_err());
}
