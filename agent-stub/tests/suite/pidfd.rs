//! Processes by descriptors.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::libc;

use crate::support::readable_within;

/// A process, safe from its number being used again.
pub(crate) struct Pidfd(OwnedFd);

impl Pidfd {
    /// None where there is no such process.
    pub(crate) fn open(pid: u32) -> Option<Pidfd> {
        // SAFETY: scalar arguments; what it returns is a new descriptor of ours.
        unsafe {
            let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            let descriptor = i32::try_from(descriptor).ok().filter(|fd| *fd >= 0)?;
            Some(Pidfd(OwnedFd::from_raw_fd(descriptor)))
        }
    }

    /// Whether the process ends before the bound.
    pub(crate) fn ends_within(&self, bound: Duration) -> bool {
        readable_within(self.0.as_fd(), bound)
    }

    pub(crate) fn kill(&self) {
        // SAFETY: scalar arguments and a null pointer, which this call takes.
        unsafe {
            let none = std::ptr::null::<libc::siginfo_t>();
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                libc::SIGKILL,
                none,
                0,
            );
        }
    }
}
