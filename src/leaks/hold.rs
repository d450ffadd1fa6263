//! A process behind its pidfd: whoever is signalled is the one that was found.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use agent_stub::Signal;
use nix::libc;

use super::proc::{self, Identity};
use crate::status::ExitStatus;

/// How long a killed process may take to end: one that is stuck in the kernel would hold the test
/// for ever. Nothing is decided by it otherwise.
const STUCK_MS: libc::c_int = 10_000;

/// A process that cannot be taken for another.
#[derive(Debug)]
pub(super) struct Held {
    pidfd: OwnedFd,
}

impl Held {
    /// `None` where it has ended and was reaped.
    pub(super) fn open(identity: Identity) -> io::Result<Option<Held>> {
        let pid = libc::pid_t::try_from(identity.pid).map_err(io::Error::other)?;
        // SAFETY: pidfd_open(2) takes two numbers and touches no memory of ours.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0 as libc::c_uint) };
        if fd == -1 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::ESRCH) => Ok(None),
                _ => Err(error),
            };
        }
        let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the call succeeded: this is a new descriptor, close-on-exec, that nobody else owns.
        let pidfd = unsafe { OwnedFd::from_raw_fd(fd) };
        // The number may have become another's before the open; after it, it is this one's.
        let now = proc::stat(identity.pid).map_err(io::Error::other)?;
        Ok(now
            .filter(|now| now.identity == identity)
            .map(|_| Held { pidfd }))
    }

    /// Sends a signal. Nobody left is a success.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        // SAFETY: pidfd_send_signal(2) with a null info, which stands for the one of kill(2).
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.pidfd.as_raw_fd(),
                signal.number(),
                std::ptr::null::<libc::siginfo_t>(),
                0 as libc::c_uint,
            )
        };
        match io::Error::last_os_error() {
            error if result == -1 && error.raw_os_error() != Some(libc::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }

    /// Waits until it is a zombie or gone; false where it is stuck in the kernel.
    pub(super) fn wait_for_end(&self) -> bool {
        let mut poll = libc::pollfd {
            fd: self.pidfd.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        loop {
            // SAFETY: one pollfd, valid for reads and writes while the call lasts.
            match unsafe { libc::poll(&raw mut poll, 1, STUCK_MS) } {
                -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
                ready => return ready > 0,
            }
        }
    }

    /// How it ended, where it is a child of this process and a zombie.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        self.wait_id(libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
    }

    /// Reaps it, where it is a child of this process and a zombie.
    pub(super) fn reap(&self) -> Option<ExitStatus> {
        self.wait_id(libc::WEXITED | libc::WNOHANG)
    }

    fn wait_id(&self, flags: libc::c_int) -> Option<ExitStatus> {
        // SAFETY: siginfo_t is plain numbers; all zeroes is a value of it, and the one that tells
        // apart that nothing was found.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        let id = self.pidfd.as_raw_fd().unsigned_abs();
        // SAFETY: `info` is valid for writes while the call lasts.
        let result = unsafe { libc::waitid(libc::P_PIDFD, id, &raw mut info, flags) };
        // SAFETY: `info` is zeroed, or what SIGCHLD carries.
        let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
        if result == -1 || pid == 0 {
            return None;
        }
        if info.si_code == libc::CLD_EXITED {
            return Some(ExitStatus::Exited { code: status });
        }
        Some(ExitStatus::Signaled {
            signal: Signal::from_number(status).ok()?,
            core_dumped: info.si_code == libc::CLD_DUMPED,
        })
    }
}
