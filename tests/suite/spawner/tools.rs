//! Agents for the tests, and looks at what they left.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use nix::libc;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use supervise_harness::supervisor::{AgentHandle, SpawnerOptions};
use tokio::runtime::{Builder, Runtime};

/// real-time: no result depends on it; it turns a hang into a failure.
pub(crate) const WATCHDOG: Duration = Duration::from_secs(30);

/// An agent that is a shell running `script`.
pub(crate) fn sh(script: &str) -> SpawnerOptions {
    SpawnerOptions::new()
        .agent_path("/bin/sh")
        .args(["-c", script])
}

/// An agent that runs until a signal; a minute at most, here and in the scripts, so that a test that
/// should end it and does not fails instead of hanging.
pub(crate) fn sleeper() -> SpawnerOptions {
    SpawnerOptions::new().agent_path("/bin/sleep").arg("60")
}

#[track_caller]
pub(crate) fn spawn(options: SpawnerOptions) -> AgentHandle {
    let spawner = options.build().expect("valid options");
    let agent = spawner.spawn("tested").expect("start the agent");
    if let Some(socket) = agent.socket() {
        socket.set_read_timeout(Some(WATCHDOG)).unwrap();
    }
    agent
}

pub(crate) fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub(crate) fn pid_of(agent: &AgentHandle) -> Pid {
    Pid::from_raw(agent.pid().try_into().unwrap())
}

/// The next line that the agent writes to its socket.
#[track_caller]
pub(crate) fn line(agent: &AgentHandle) -> String {
    let mut socket = agent.socket().expect("the host's half");
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        let read = match socket.read(&mut byte) {
            // With a timeout it is not restarted: another test may have made a handler for SIGCHLD.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            read => read.expect("read from the agent"),
        };
        match read {
            0 => break,
            _ if byte == *b"\n" => break,
            _ => line.extend(byte),
        }
    }
    String::from_utf8(line).unwrap()
}

/// Everything that comes before the last holder of the other end is gone.
#[track_caller]
pub(crate) fn read_to_end(mut reader: impl Read + Send + 'static) -> String {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        // Nobody receives after the watchdog.
        let _ = send.send(text);
    });
    let text = receive
        .recv_timeout(WATCHDOG)
        .expect("somebody still holds the other end");
    thread.join().unwrap();
    text
}

/// Checks that the agent's socket works both ways, and returns the descriptors that the agent had at
/// the start, with what they are.
#[track_caller]
pub(crate) fn descriptors(options: SpawnerOptions) -> BTreeMap<RawFd, PathBuf> {
    // Stopped, it is looked at from outside: listing them itself it would open more.
    let agent = spawn(options.agent_path("/bin/sh").args([
        "-c",
        "echo ready >&3; kill -STOP $$; read line <&3; echo \"got $line\" >&3",
    ]));
    assert_eq!(line(&agent), "ready");
    let stopped = waitpid(pid_of(&agent), Some(WaitPidFlag::WUNTRACED)).unwrap();
    assert!(matches!(stopped, WaitStatus::Stopped(..)), "{stopped:?}");
    let found = std::fs::read_dir(format!("/proc/{}/fd", agent.pid()))
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let fd = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            (fd, path.read_link().unwrap())
        })
        .collect();
    agent.signal("CONT".parse().unwrap()).unwrap();
    agent.socket().unwrap().write_all(b"it\n").unwrap();
    assert_eq!(line(&agent), "got it");
    found
}

/// How many descriptors this process has. Only where no other test runs.
pub(crate) fn open_count() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Whether this process has a child, alive or not. Only where no other test runs.
pub(crate) fn has_child() -> bool {
    waitpid(None, Some(WaitPidFlag::WNOHANG)) != Err(nix::Error::ECHILD)
}

/// Runs `body` while the descriptors `fds` of this process are closed. Only where no other test runs.
pub(crate) fn without<T>(fds: &[RawFd], body: impl FnOnce() -> T) -> T {
    struct Restore(Vec<(RawFd, RawFd)>);
    impl Drop for Restore {
        fn drop(&mut self) {
            for (copy, fd) in &self.0 {
                // SAFETY: `copy` is this struct's own, `fd` is free or the process's own again.
                unsafe {
                    libc::dup2(*copy, *fd);
                    libc::close(*copy);
                }
            }
        }
    }
    let mut restore = Restore(Vec::new());
    for fd in fds {
        // SAFETY: nothing else runs that uses the descriptor; it is restored at the end.
        unsafe {
            let copy = libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 100);
            if copy >= 0 {
                libc::close(*fd);
                restore.0.push((copy, *fd));
            }
        }
    }
    body()
}

/// Moves a descriptor to a number that is free.
pub(crate) fn place(fd: impl Into<OwnedFd>, at: RawFd) -> OwnedFd {
    let fd = fd.into();
    if fd.as_raw_fd() == at {
        return fd;
    }
    // SAFETY: the number was free, so the descriptor there is new and nobody else's.
    unsafe {
        assert_eq!(libc::fcntl(at, libc::F_GETFD), -1, "{at} is free");
        assert_eq!(libc::dup3(fd.as_raw_fd(), at, libc::O_CLOEXEC), at);
        OwnedFd::from_raw_fd(at)
    }
}

/// Has the kernel refuse a system call of this thread: always, or only where its fourth argument,
/// the flags, is not 0. Only in a process of its own: there is no way back.
pub(crate) fn refuse(call: libc::c_long, only_with_flags: bool, errno: libc::c_int) {
    let statement = |code: u32, k: u32, jump_true, jump_false| libc::sock_filter {
        code: code.try_into().unwrap(),
        jt: jump_true,
        jf: jump_false,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let answer = libc::BPF_RET | libc::BPF_K;
    // Offsets in seccomp_data: the number, and the low half of the fourth argument.
    let flags = 16 + 8 * 3;
    let mut filter = [
        statement(load, 0, 0, 0),
        statement(equal, call.try_into().unwrap(), 0, 2),
        statement(load, flags, 0, 0),
        statement(equal, if only_with_flags { 0 } else { u32::MAX }, 0, 1),
        statement(answer, libc::SECCOMP_RET_ALLOW, 0, 0),
        statement(answer, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs(), 0, 0),
    ];
    let program = libc::sock_fprog {
        len: filter.len().try_into().unwrap(),
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the program is valid for the call, which copies it.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(
            libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program),
            0,
            "{}",
            std::io::Error::last_os_error()
        );
    }
}

/// Ends the agent's input.
pub(crate) fn end_input(agent: &AgentHandle) {
    agent.socket().unwrap().shutdown(Shutdown::Write).unwrap();
}
