//! What is left of twenty stubs when their harness is killed: nothing.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use agent_stub::Signal;
use agent_stub::protocol::Report;
use nix::libc;
use rstest::rstest;

use crate::freezing::state;
use crate::support::{BOUND, Owned, Pidfd, Start, Stub, Told, unique};

/// Set in the process that is killed.
const MARK: &str = "STUB_TEST_HARNESS";

/// real-time: how long everything may take to end once the harness is dead.
const LINGER: Duration = Duration::from_secs(2);

/// The living processes, everybody's, whose argument list holds this text.
pub(crate) fn processes_with(text: &str) -> Vec<u32> {
    let all = fs::read_dir("/proc").unwrap();
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
            && state(*pid).is_some_and(|state| state != 'Z')
    })
    .collect()
}

/// What the stubs and their descendants are busy with. One life in twenty leaves the processor to
/// nobody: five processes, enough for two cores.
const LIVES: [&str; 20] = [
    "stay",
    "freeze",
    "write 1MiB",
    "forever { repeat 1000 { } }",
    "block SIGTERM; stay",
    "repeat 5 { freeze }",
    "gate file /nonexistent",
    "forever { write 1KiB }",
    "run 1h",
    "write stderr 1MiB",
    "on SIGTERM { stay }; stay",
    "start frozen own-session { freeze }; stay",
    "on SIGHUP { freeze }; on SIGCONT { freeze }; freeze",
    "forever { run 1h }",
    "close stdin; close stdout; close stderr; stay",
    "start full quiet { stay }; write 1MiB",
    "repeat 3 { run 1h }",
    "block SIGCHLD; stay",
    "close stdout; freeze",
    "forever { run 5ms }",
];

/// A script that ignores all signals, starts a descendant in every placement, and then lives. Over
/// all numbers, each life comes in each placement.
fn script(number: usize) -> String {
    let life = |n: usize| LIVES[n % LIVES.len()];
    let ignored: String = Signal::all()
        .filter(|signal| signal.is_catchable() && *signal != Signal::CHLD)
        .map(|signal| format!("on {signal} ignore; "))
        .collect();
    let mut script = ignored.clone();
    let placements = ["same-group", "own-group", "own-session", "double-fork"];
    for (n, placement) in placements.into_iter().enumerate() {
        let life = life(number + n + 1);
        let inner = match placement {
            "own-session" => "start grandchild own-group { stay }; ",
            _ => "",
        };
        script += &format!("start {placement} {placement} {{ {ignored}{inner}{life} }}; ");
    }
    script + life(number)
}

/// Starts the stub with that number and its four descendants. Returns the process ids.
fn start(told: Told, mark: &str, number: usize) -> (Stub, Vec<u32>) {
    let mut start = Start::new(told).args(["--id", mark, "--script", &script(number)]);
    // Busy as they are, they must leave some of the processor to the other tests.
    // SAFETY: the closure makes one async-signal-safe call.
    unsafe {
        start.command.pre_exec(|| {
            libc::setpriority(libc::PRIO_PROCESS, 0, 5);
            Ok(())
        });
    }
    let mut stub = start.spawn();
    let mut pids = vec![stub.process.pid()];
    for _ in 0..4 {
        match stub.next() {
            Report::Started { pid, .. } => pids.extend(pid),
            other => panic!("expected a started descendant, got {other}"),
        }
    }
    (stub, pids)
}

/// The harness: holds twenty stubs, says their process ids, and waits to be killed.
#[test]
fn holds_twenty_stubs_when_run_again() {
    let Ok(mark) = std::env::var(MARK) else {
        return;
    };
    let (mark, how) = mark.split_once(' ').unwrap();
    let told = if how == "fd" {
        Told::Inherited
    } else {
        Told::Path
    };
    let mut pids = Vec::new();
    // All at once: on a busy machine each one's start is mostly waiting.
    let held: Vec<Stub> = std::thread::scope(|scope| {
        let numbers = std::array::from_fn::<usize, 20, _>(|n| n);
        let starting = numbers.map(|n| scope.spawn(move || start(told, mark, n)));
        let started = starting.map(|one| one.join().unwrap());
        let (stubs, started): (Vec<Stub>, Vec<Vec<u32>>) = started.into_iter().unzip();
        pids.extend(started.into_iter().flatten());
        stubs
    });
    // Everybody has started: 20 stubs, 80 descendants, 20 grandchildren and what ten lives start.
    let (deadline, mut others) = (Instant::now() + BOUND, Vec::new());
    if told == Told::Path {
        for stub in &held {
            for _ in 0..5 {
                let (control, hello) = stub.next_connection();
                if let Report::Hello { pid, .. } = hello {
                    pids.push(pid);
                }
                others.push(control);
            }
        }
    }
    let name = format!("--id\0{mark}\0");
    while processes_with(&name).len() < 130 {
        assert!(Instant::now() < deadline, "they do not start");
        // real-time: nothing tells of a process that has no connection.
        std::thread::sleep(Duration::from_millis(10));
    }
    pids.extend(processes_with(&name));
    for guard in processes_with("--guard\0") {
        let arguments = fs::read_to_string(format!("/proc/{guard}/cmdline")).unwrap_or_default();
        let guarded = arguments.split('\0').filter_map(|word| word.parse().ok());
        if guarded.into_iter().any(|pid: u32| pids.contains(&pid)) {
            pids.push(guard);
        }
    }
    let line: Vec<String> = pids.iter().map(u32::to_string).collect();
    println!("held {}", line.join(" "));
    // Should the test that waits to kill this end first, so does this.
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

/// Kills what is left when it goes.
struct Held(Vec<(u32, Pidfd)>);

impl Drop for Held {
    fn drop(&mut self) {
        for (_, process) in &self.0 {
            process.kill();
        }
    }
}

#[rstest]
#[case::by_an_inherited_socket("fd")]
#[case::by_a_listening_socket("path")]
fn nothing_outlives_a_killed_harness(#[case] how: &str) {
    // Ten times, five of each.
    for round in 0..5 {
        let mark = format!("mark-{}-{}", std::process::id(), unique());
        // Who is killed removes nothing: its folders are in one of this test.
        let folder = tempfile::tempdir().unwrap();
        let mut harness = Owned(
            Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "--nocapture"])
                .arg("survivors::holds_twenty_stubs_when_run_again")
                .env(MARK, format!("{mark} {how}"))
                .env("TMPDIR", folder.path())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap(),
        );
        let stdout = BufReader::new(harness.0.stdout.take().unwrap());
        let line = stdout
            .lines()
            .find_map(|line| Some(line.unwrap().split_once("held ")?.1.to_owned()))
            .expect("the harness holds its stubs");
        let mut pids: Vec<u32> = line.split(' ').map(|pid| pid.parse().unwrap()).collect();
        pids.sort_unstable();
        pids.dedup();
        assert!(pids.len() >= 130, "{} processes", pids.len());
        let open = |pid: u32| Some((pid, Pidfd::open(pid)?));
        let held = Held(pids.iter().copied().filter_map(open).collect());
        assert_eq!(
            held.0.len(),
            pids.len(),
            "some ended before the harness did"
        );

        harness.signal(Signal::KILL);
        harness.end();
        let deadline = Instant::now() + LINGER;
        let left = || deadline.saturating_duration_since(Instant::now());
        let survivors: Vec<String> = held
            .0
            .iter()
            .filter(|(pid, process)| {
                // One without memory runs nothing any more: it has ended, and a machine that is
                // short of time or disk may take long to say so.
                let ended = process.ends_within(left())
                    || (has_no_memory(*pid) && process.ends_within(BOUND));
                !ended
            })
            .map(|(pid, _)| describe(*pid))
            .collect();
        assert!(survivors.is_empty(), "round {round}: {survivors:#?}");
        let marked = processes_with(&mark);
        let marked: Vec<String> = marked.into_iter().map(describe).collect();
        assert!(marked.is_empty(), "round {round}: {marked:#?}");
        folder.close().unwrap();
    }
}

/// Whether the kernel has taken the process's memory, which it does early in its exit.
fn has_no_memory(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| arguments.is_empty())
}

fn describe(pid: u32) -> String {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let arguments = String::from_utf8_lossy(&arguments).replace('\0', " ");
    format!("{pid} {:?} {arguments}", state(pid))
}
