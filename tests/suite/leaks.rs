//! What a test leaves behind is found, named and ended; what others have started is not touched.
#![expect(
    clippy::zombie_processes,
    reason = "what nobody waits for is the topic"
)]

mod busy_loop;
mod descendants;
mod drops;
mod killed;
mod process_wide;
mod threads;

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::process::{Child, Command, Stdio};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;
use supervise_harness::leaks::{Fate, Found, Guard, Leaks, Owner, ProcessState};
use supervise_harness::{ExitStatus, stub};

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
    assert_eq!(found.state, ProcessState::Running);
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
    assert_eq!((found.pid, found.state), (child.id(), ProcessState::Zombie));
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
    assert_eq!(only(&leaks).state, ProcessState::Zombie, "{leaks}");
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
    assert_eq!(
        (found.pid, found.state),
        (child.id(), ProcessState::Stopped)
    );
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
