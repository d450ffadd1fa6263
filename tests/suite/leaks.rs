//! What a test leaves behind is found, named and ended; what others have started is not touched.
#![expect(
    clippy::zombie_processes,
    reason = "what nobody waits for is the topic"
)]

mod killed;
mod process_wide;

use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::panic;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use supervise_harness::leaks::{Fate, Found, Guard, Leaks, Owner, State};
use supervise_harness::{ExitStatus, stub};

use crate::child;

/// A stub, silent on standard error, that ends by itself if a test here should fail to end it.
fn stub(script: &str) -> Command {
    let mut command = Command::new(stub::path().expect("the stub"));
    command
        .args(["--lifetime", "50s", "--script", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A child that its test does end. Standard output is read up to the first hygiene report.
fn start(command: &mut Command) -> (Child, u32) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("a stub");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let mut pid = None;
    for line in output.lines() {
        let line = line.expect("UTF-8");
        if let Some(ids) = line.strip_prefix("ids ") {
            pid = ids.split(' ').next().and_then(|pid| pid.parse().ok());
        }
        if line == "end" {
            break;
        }
    }
    (child, pid.expect("a report with ids"))
}

fn end(child: &mut Child) {
    child.kill().expect("kill");
    child.wait().expect("wait");
}

fn pidfd(pid: u32) -> OwnedFd {
    // SAFETY: pidfd_open(2) takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    assert!(fd >= 0, "pidfd of {pid}: {}", io::Error::last_os_error());
    // SAFETY: a new descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).expect("a descriptor")) }
}

fn has_ended(pidfd: &OwnedFd) -> bool {
    let mut poll = libc::pollfd {
        fd: pidfd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one pollfd, valid while the call lasts.
    unsafe { libc::poll(&raw mut poll, 1, 0) == 1 }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("a pid"))
}

/// Waits without reaping.
fn await_state(child: &Child, state: WaitPidFlag) {
    waitid(Id::Pid(pid_of(child)), state | WaitPidFlag::WNOWAIT).expect("waitid");
}

#[track_caller]
fn only(leaks: &Leaks) -> &Found {
    match leaks.processes() {
        [one] => one,
        _ => panic!("expected one process: {leaks}"),
    }
}

#[test]
fn nothing_left_behind_passes() {
    let guard = Guard::new();
    let mut child = guard.mark_command(&mut stub("stay")).spawn().unwrap();
    end(&mut child);
    guard.check().unwrap();
}

#[test]
fn a_child_that_is_reaped_before_the_check_is_none() {
    let guard = Guard::new();
    let mut child = stub("exit 3").spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3));
    guard.check().unwrap();
}

#[test]
fn a_child_from_before_is_none() {
    let mut child = stub("stay").spawn().unwrap();
    Guard::new().check().unwrap();
    let alive = child.try_wait().unwrap().is_none();
    end(&mut child);
    assert!(alive, "the guard ended what is not its own");
}

#[test]
fn a_living_child_is_named_killed_and_reaped() {
    let guard = Guard::new();
    let mut child = stub("stay").args(["--id", "worker"]).spawn().unwrap();
    let watch = pidfd(child.id());
    let leaks = guard.check().unwrap_err();
    let found = only(&leaks);
    assert_eq!(found.pid, child.id());
    assert_eq!(found.ppid, std::process::id());
    assert_eq!(found.program, "agent-stub");
    assert_eq!(found.agent.as_deref(), Some("worker"));
    assert_eq!(found.state, State::Running);
    assert_eq!(found.owner, Owner::ThisProcess);
    assert_eq!(found.fate, Fate::Killed);
    assert!(has_ended(&watch));
    assert_eq!(
        child.wait().unwrap_err().raw_os_error(),
        Some(libc::ECHILD),
        "reaped"
    );
}

#[test]
fn the_report_is_a_line_for_each_and_says_where_the_guard_was_made() {
    let line = line!() + 1;
    let guard = Guard::new();
    let child = stub("stay").args(["--id", "worker"]).spawn().unwrap();
    let report = guard.check().unwrap_err().to_string();
    let lines: Vec<&str> = report.lines().collect();
    assert_eq!(lines[0], "1 process left behind");
    assert_eq!(
        lines[1],
        format!("  --> the leak guard made at {}:{line}:17", file!())
    );
    assert_eq!(
        lines[2],
        format!(
            "  process {} agent-stub (agent `worker`), running, child of this process, which \
             should have ended it; killed by the guard; arguments: --script stay",
            child.id()
        )
    );
    assert_eq!(lines.len(), 3);
}

#[test]
fn a_zombie_is_told_with_its_status_and_reaped() {
    let guard = Guard::new();
    let mut child = stub("exit 3").spawn().unwrap();
    await_state(&child, WaitPidFlag::WEXITED);
    let leaks = guard.check().unwrap_err();
    let found = only(&leaks);
    assert_eq!((found.pid, found.state), (child.id(), State::Zombie));
    assert_eq!(found.status, Some(ExitStatus::Exited { code: 3 }));
    assert_eq!(found.fate, Fate::Reaped);
    assert_eq!(
        child.wait().unwrap_err().raw_os_error(),
        Some(libc::ECHILD),
        "reaped"
    );
}

#[test]
fn a_child_that_was_killed_but_not_reaped_is_a_zombie() {
    let guard = Guard::new();
    let mut child = stub("stay").spawn().unwrap();
    child.kill().unwrap();
    let leaks = guard.check().unwrap_err();
    assert_eq!(only(&leaks).state, State::Zombie, "{leaks}");
}

#[test]
fn a_stopped_child_is_told_as_stopped_and_killed() {
    let guard = Guard::new();
    let child = stub("stay").spawn().unwrap();
    kill(pid_of(&child), Signal::SIGSTOP).unwrap();
    await_state(&child, WaitPidFlag::WSTOPPED);
    let watch = pidfd(child.id());
    let leaks = guard.check().unwrap_err();
    let found = only(&leaks);
    assert_eq!((found.pid, found.state), (child.id(), State::Stopped));
    assert!(has_ended(&watch));
}

#[test]
fn the_guard_of_a_frozen_stub_is_not_blamed_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control");
    let listener = UnixListener::bind(&socket).unwrap();
    let guard = Guard::new();
    let child = stub("freeze; stay")
        .arg("--control")
        .arg(&socket)
        .spawn()
        .unwrap();
    let (_connection, _) = listener.accept().unwrap();
    await_state(&child, WaitPidFlag::WSTOPPED);
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let stub_guard = pidfd(
        children
            .trim()
            .parse()
            .expect("one child, the stub's guard"),
    );
    let leaks = guard.check().unwrap_err();
    assert_eq!(only(&leaks).pid, child.id());
    assert!(has_ended(&stub_guard));
}

/// Where the tests are the first process of a container, or a subreaper, a stub's guard comes to them.
#[test]
fn a_stub_guard_that_has_ended_is_not_blamed_either() {
    let guard = Guard::new();
    let name_itself = "printf stub-guard > /proc/self/comm";
    let child = Command::new("sh").args(["-c", name_itself]).spawn();
    let child = child.unwrap();
    await_state(&child, WaitPidFlag::WEXITED);
    guard.check().unwrap();
    assert!(!std::path::Path::new(&format!("/proc/{}", child.id())).exists());
}

#[test]
fn an_orphan_is_found_by_its_mark_in_the_environment() {
    let guard = Guard::new();
    let mut command = stub("start helper double-fork { hygiene; stay }; stay");
    let (mut child, orphan) = start(guard.mark_command(&mut command));
    end(&mut child);
    let watch = pidfd(orphan);
    let leaks = guard.check().unwrap_err();
    let found = only(&leaks);
    assert_eq!(found.pid, orphan);
    assert_eq!(found.descendant.as_deref(), Some("helper"));
    assert!(
        matches!(found.owner, Owner::Ended { of: Some(_) }),
        "{leaks}"
    );
    // Who led its session is gone, and the agent is named.
    let expected =
        "descendant `helper`), running, orphan: its parent has ended; killed by the guard";
    assert!(leaks.to_string().contains(expected), "{leaks}");
    assert!(has_ended(&watch));
}

#[test]
fn an_orphan_s_group_is_told_by_who_leads_it() {
    for ends in [false, true] {
        let mut guard = Guard::new();
        let mut command = Command::new("sh");
        command.args(["-c", "(sleep 1000 &); echo; read _"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.process_group(0).spawn().unwrap();
        let mut line = [0];
        child.stdout.take().unwrap().read_exact(&mut line).unwrap();
        guard.watch(child.id());
        let mut leader = "`sh`".to_owned();
        if ends {
            end(&mut child);
            leader = format!("process {}, which has ended", child.id());
        }
        let leaks = guard.check().unwrap_err().to_string();
        // It may be the shell's fork still.
        let expected = format!(
            ", running, orphan: its parent has ended; its process group or session is that of {leader};"
        );
        assert!(leaks.contains(&expected), "{leaks}");
    }
}

#[test]
fn an_orphan_without_environment_is_found_by_its_mark_in_the_arguments() {
    let guard = Guard::new();
    let mut command = stub("start helper double-fork { hygiene; stay }; stay");
    let id = format!("worker {}", guard.mark().1);
    let (mut child, orphan) = start(command.env_clear().args(["--id", &id]));
    end(&mut child);
    let watch = pidfd(orphan);
    let leaks = guard.check().unwrap_err();
    assert_eq!(only(&leaks).pid, orphan);
    assert!(has_ended(&watch));
}

#[test]
fn an_orphan_without_a_mark_is_found_by_the_group_of_a_watched_child() {
    let mut guard = Guard::new();
    let mut command = stub("start helper same-group { hygiene; stay }; stay");
    let (mut child, orphan) = start(command.env_clear().process_group(0));
    guard.watch(child.id());
    end(&mut child);
    let watch = pidfd(orphan);
    let leaks = guard.check().unwrap_err();
    let found = only(&leaks);
    assert_eq!(found.pid, orphan);
    assert_eq!(
        found.owner,
        Owner::Ended {
            of: Some(child.id())
        }
    );
    assert!(has_ended(&watch));
}

#[test]
fn a_grandchild_in_a_session_of_its_own_is_found_below_its_parent() {
    let guard = Guard::new();
    let mut command = stub("start helper own-session { hygiene; stay }; stay");
    let (child, grandchild) = start(command.env_clear().args(["--id", "worker"]));
    let watches = [pidfd(child.id()), pidfd(grandchild)];
    let leaks = guard.check().unwrap_err();
    let [first, second] = leaks.processes() else {
        panic!("expected two processes: {leaks}")
    };
    assert_eq!((first.pid, second.pid), (child.id(), grandchild));
    assert_eq!(second.agent.as_deref(), Some("worker"));
    assert_eq!(second.descendant.as_deref(), Some("helper"));
    assert_eq!(second.owner, Owner::Parent);
    let line = format!(
        "process {grandchild} agent-stub (agent `worker`, descendant `helper`), running, should \
         have been ended by its parent, process {} agent-stub; killed by the guard",
        child.id()
    );
    assert!(leaks.to_string().contains(&line), "{leaks}");
    assert!(watches.iter().all(has_ended));
}

#[test]
fn an_orphan_that_was_sent_sigkill_is_none_also_before_it_has_ended() {
    beside_a_busy_loop(|| {
        for _ in 0..3 {
            let guard = Guard::new();
            let mut command = stub("start helper double-fork { hygiene; stay }; stay");
            let (mut child, orphan) = start(guard.mark_command(&mut command));
            end(&mut child);
            let orphan = i32::try_from(orphan).unwrap();
            let_starve(orphan);
            kill(Pid::from_raw(orphan), Signal::SIGKILL).unwrap();
            guard.check().unwrap();
        }
    });
}

/// Runs `body` while the first processor is busy.
fn beside_a_busy_loop(body: impl FnOnce()) {
    let busy = Arc::new(AtomicBool::new(true));
    let goes_on = Arc::clone(&busy);
    let (up, is_up) = mpsc::channel();
    let spinner = thread::spawn(move || {
        to_first_processor(0);
        up.send(()).unwrap();
        while goes_on.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    });
    is_up.recv().unwrap();
    let result = panic::catch_unwind(panic::AssertUnwindSafe(body));
    busy.store(false, Ordering::Relaxed);
    spinner.join().unwrap();
    if let Err(failure) = result {
        panic::resume_unwind(failure);
    }
}

/// Leaves a thread, or this one for 0, what the busy loop leaves it: next to nothing.
fn let_starve(thread: libc::pid_t) {
    to_first_processor(thread);
    // SAFETY: sched_param is a number.
    let idle: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: the parameter is valid for reads while the call lasts.
    let set = unsafe { libc::sched_setscheduler(thread, libc::SCHED_IDLE, &raw const idle) };
    assert_eq!(set, 0, "{}", io::Error::last_os_error());
}

/// Binds a thread, or this one for 0, to the first processor that it may run on.
fn to_first_processor(thread: libc::pid_t) {
    // SAFETY: cpu_set_t is plain bits, no processor in none of them.
    let (mut all, mut one): (libc::cpu_set_t, libc::cpu_set_t) = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::cpu_set_t>();
    // SAFETY: the sets are valid for the size given while each call lasts, and the processors' numbers
    // are within them.
    unsafe {
        assert_eq!(libc::sched_getaffinity(0, size, &raw mut all), 0);
        let limit = usize::try_from(libc::CPU_SETSIZE).unwrap();
        let first = (0..limit).find(|cpu| libc::CPU_ISSET(*cpu, &all)).unwrap();
        libc::CPU_SET(first, &mut one);
        assert_eq!(libc::sched_setaffinity(thread, size, &raw const one), 0);
    }
}

#[test]
fn children_of_other_threads_are_neither_blamed_nor_ended() {
    let guard = Guard::new();
    let (started, is_started) = mpsc::channel();
    let (checked, is_checked) = mpsc::channel::<()>();
    let other = thread::spawn(move || {
        let mut child = stub("stay").spawn().unwrap();
        started.send(()).unwrap();
        is_checked.recv().unwrap();
        let alive = child.try_wait().unwrap().is_none();
        end(&mut child);
        alive
    });
    is_started.recv().unwrap();
    let result = guard.check();
    checked.send(()).unwrap();
    assert!(other.join().unwrap(), "the guard ended another's child");
    result.unwrap();
}

#[test]
fn a_marked_child_of_another_thread_is_blamed() {
    let guard = Guard::new();
    let mut command = stub("stay");
    guard.mark_command(&mut command);
    let child = thread::spawn(move || command.spawn().unwrap())
        .join()
        .unwrap();
    let watch = pidfd(child.id());
    let leaks = guard.check().unwrap_err();
    assert_eq!(only(&leaks).pid, child.id());
    assert!(has_ended(&watch));
}

#[test]
fn guards_on_many_threads_find_each_its_own() {
    let threads: Vec<_> = (0..8)
        .map(|_| {
            thread::spawn(|| {
                for round in 0..5 {
                    let guard = Guard::new();
                    let child = stub("stay").spawn().unwrap();
                    let mut reaped = stub("exit 0").spawn().unwrap();
                    reaped.wait().unwrap();
                    let leaks = guard.check().unwrap_err();
                    assert_eq!(only(&leaks).pid, child.id(), "round {round}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn fifty_children_are_all_found_and_ended() {
    let guard = Guard::new();
    let children: Vec<Child> = (0..50).map(|_| stub("stay").spawn().unwrap()).collect();
    let watches: Vec<OwnedFd> = children.iter().map(|child| pidfd(child.id())).collect();
    let leaks = guard.check().unwrap_err();
    let mut found: Vec<u32> = leaks.processes().iter().map(|found| found.pid).collect();
    let mut expected: Vec<u32> = children.iter().map(Child::id).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert!(watches.iter().all(has_ended));
}

#[test]
fn a_child_that_forks_without_end_does_not_escape() {
    let guard = Guard::new();
    // Not the guard's: it has nothing but the tree to go by.
    let id = format!("forks-{}", std::process::id());
    let mut command = stub(
        "start first { hygiene; stay }; forever { start more own-session quiet { run 100ms } }",
    );
    let (child, _) = start(command.env_clear().args(["--id", &id]));
    let watch = pidfd(child.id());
    let leaks = guard.check().unwrap_err();
    let pids: Vec<u32> = leaks.processes().iter().map(|found| found.pid).collect();
    assert!(pids.contains(&child.id()), "{leaks}");
    assert!(has_ended(&watch));
    assert_eq!(with_argument(&id), Vec::<u32>::new(), "{leaks}");
}

/// The processes that have the text in their arguments.
fn with_argument(text: &str) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap();
    let pids = processes.filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| {
        let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&arguments).contains(text)
    })
    .collect()
}

#[test]
fn a_fork_without_exec_is_found_though_it_shows_this_program() {
    let guard = Guard::new();
    // SAFETY: the child does nothing but wait for a signal.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            loop {
                libc::pause();
            }
        }
        pid
    };
    let watch = pidfd(pid.unsigned_abs());
    let leaks = guard.check().unwrap_err();
    assert_eq!(only(&leaks).pid, pid.unsigned_abs());
    assert!(has_ended(&watch));
}

#[test]
fn a_drop_panics_with_the_report() {
    let failure = thread::spawn(|| {
        let _guard = Guard::new();
        stub("stay").spawn().unwrap().id()
    })
    .join()
    .unwrap_err();
    let message = failure.downcast_ref::<String>().expect("a text");
    assert!(message.starts_with("1 process left behind\n"), "{message}");
    assert!(message.contains("killed by the guard"), "{message}");
}

#[test]
fn a_drop_with_nothing_left_behind_is_silent() {
    let _guard = Guard::new();
    end(&mut stub("stay").spawn().unwrap());
}

#[test]
fn the_test_s_own_failure_comes_first_and_the_report_after_it() {
    let path = "leaks::the_test_s_own_failure_comes_first_and_the_report_after_it";
    if child::is_child(path) {
        let _guard = Guard::new();
        let _child = stub("stay").spawn().unwrap();
        panic!("the test's own failure");
    }
    let output = child::command(path).output().unwrap();
    assert_eq!(output.status.code(), Some(101), "{output:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    let failure = text.find("the test's own failure").expect(&text);
    let report = text.find("1 process left behind").expect(&text);
    assert!(failure < report, "{text}");
    assert_eq!(text.matches("panicked at").count(), 1, "{text}");
    assert!(text.contains("killed by the guard"), "{text}");
}
