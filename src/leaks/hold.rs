//! A process behind its pidfd: whoever is signalled is the one that was found.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use agent_stub::Signal;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::proc::{self, Identity};
use crate::process::{ended_status, open_pidfd, reap_zombie, send_signal};
use crate::status::ExitStatus;

/// real-time: how long a killed process may take to end: one that is stuck in the kernel would hold
/// the test for ever. Nothing is decided by it otherwise.
const STUCK: Duration = Duration::from_secs(10);

/// A process that cannot be taken for another.
#[derive(Debug)]
pub(super) struct Held {
    pidfd: OwnedFd,
}

impl Held {
    /// `None` where it has ended and was reaped.
    pub(super) fn open(identity: Identity) -> io::Result<Option<Held>> {
        let pidfd = match open_pidfd(identity.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // The number may have become another's before the open; after it, it is this one's.
        let now = proc::stat(identity.pid).map_err(io::Error::other)?;
        Ok(now
            .filter(|now| now.identity == identity)
            .map(|_| Held { pidfd }))
    }

    /// Sends a signal. Nobody left is a success.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        match send_signal(self.pidfd.as_fd(), Some(signal)) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Waits until it is a zombie or gone; false where it is stuck in the kernel.
    pub(super) fn wait_for_end(&self) -> bool {
        let deadline = Instant::now() + STUCK;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
            match poll(
                &mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)],
                timeout,
            ) {
                Ok(ready) if ready > 0 => return true,
                // An error is EINTR: nothing has happened.
                _ if left.is_zero() => return false,
                _ => {}
            }
        }
    }

    /// How it ended, where it is a child of this process and a zombie.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        ended_status(self.pidfd.as_fd())
    }

    /// Reaps it, where it is a child of this process and a zombie.
    pub(super) fn reap(&self) -> Option<ExitStatus> {
        reap_zombie(self.pidfd.as_fd())
    }
}
