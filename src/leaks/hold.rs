//! A process that was found, and what is done to it. A signal only ever reaches the process that was
//! found.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use agent_stub::Signal;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::proc::{self, Identity};
use crate::pidfd;
use crate::pidfd::{ended_status, is_own_lack, open_pidfd, reap_zombie, send_signal};
use crate::status::ExitStatus;

/// real-time: how long a killed process may take to end. Without this limit, a process that is stuck in
/// the kernel would hold the test for ever. Nothing else is decided by it.
const STUCK: Duration = Duration::from_secs(10);

/// real-time: how often to look for the end of a child if no descriptor is left to wait with.
const LOOK: Duration = Duration::from_millis(1);

/// `F_SETSIG` of linux/fcntl.h, which libc lacks for some targets.
const F_SETSIG: libc::c_int = 10;

/// A process that cannot be taken for another. It keeps no descriptor open: a sim may have hundreds of
/// processes, and this process has a limit on descriptors. Each use opens a pidfd and closes it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    identity: Identity,
    /// Whether it was seen as a child of this process.
    is_child: bool,
}

/// How a process can be reached.
enum Reach {
    Pidfd(OwnedFd),
    /// By its number, if no descriptor is left. The process is a child of this one that nobody has
    /// reaped, so no other process has the number.
    Number,
    /// It has ended and was reaped.
    Gone,
}

impl Held {
    pub(super) fn new(identity: Identity, is_child: bool) -> Held {
        Held { identity, is_child }
    }

    fn reach(&self) -> io::Result<Reach> {
        let pidfd = match open_pidfd(self.identity.pid) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(Reach::Gone),
            Err(error) if is_own_lack(&error) && self.is_child => {
                return Ok(match pidfd::is_unreaped_child(self.identity.pid) {
                    true => Reach::Number,
                    false => Reach::Gone,
                });
            }
            Err(error) => return Err(error),
        };
        // Before the open, the number may have become another process's. Since the open, the process
        // behind the pidfd has it.
        let now = proc::stat(self.identity.pid).map_err(io::Error::other)?;
        Ok(match now {
            Some(now) if now.identity == self.identity => Reach::Pidfd(pidfd),
            _ => Reach::Gone,
        })
    }

    /// Sends a signal. False if the process is gone.
    pub(super) fn signal(&self, signal: Signal) -> io::Result<bool> {
        let sent = match self.reach()? {
            Reach::Pidfd(pidfd) => send_signal(pidfd.as_fd(), Some(signal)),
            Reach::Number => pidfd::signal_child(self.identity.pid, signal),
            Reach::Gone => return Ok(false),
        };
        match sent {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(false),
            other => other.map(|()| true),
        }
    }

    /// Waits until the process is a zombie or gone. False if it is stuck in the kernel, or cannot be
    /// reached.
    pub(super) fn wait_for_end(&self) -> bool {
        let deadline = Instant::now() + STUCK;
        match self.reach() {
            Ok(Reach::Pidfd(pidfd)) => loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
                match poll(
                    &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
                    timeout,
                ) {
                    Ok(ready) if ready > 0 => return true,
                    // An error is EINTR: nothing has happened.
                    _ if left.is_zero() => return false,
                    _ => {}
                }
            },
            Ok(Reach::Number) => {
                let pid = self.identity.pid;
                while pidfd::is_unreaped_child(pid) && pidfd::ended_child(pid).is_none() {
                    if Instant::now() > deadline {
                        return false;
                    }
                    thread::sleep(LOOK);
                }
                true
            }
            Ok(Reach::Gone) => true,
            Err(_) => false,
        }
    }

    /// How the process ended, if it is a child of this process and a zombie.
    pub(super) fn ended(&self) -> Option<ExitStatus> {
        match self.reach().ok()? {
            Reach::Pidfd(pidfd) => ended_status(pidfd.as_fd()),
            Reach::Number => pidfd::ended_child(self.identity.pid),
            Reach::Gone => None,
        }
    }

    /// Reaps the process, if it is a child of this process and a zombie, and returns how it ended.
    pub(super) fn reap(&self) -> Option<ExitStatus> {
        match self.reach().ok()? {
            Reach::Pidfd(pidfd) => reap_zombie(pidfd.as_fd()),
            Reach::Number => pidfd::reap_child(self.identity.pid),
            Reach::Gone => None,
        }
    }

    /// Stops the process and ties it to this one. `None` if that failed; a process that could not be
    /// tied was not stopped.
    pub(super) fn stop(&self) -> Option<Tie> {
        let tie = Tie::new(self).ok()?;
        // If this fails, the kill fails, too, and says so.
        self.signal(Signal::STOP).ok()?.then_some(tie)
    }
}

/// Has the kernel kill a process when this process ends, or when the tie is dropped. Otherwise, if this
/// process were killed between the stop and the kill of another process, that one would stay stopped
/// for ever.
///
/// A tie is two connected sockets. Each is set to send SIGKILL to the process when the other is closed.
/// When a process ends, the kernel closes both of its sockets, one after the other.
#[derive(Debug)]
pub(super) struct Tie {
    _ends: (UnixStream, UnixStream),
}

impl Tie {
    fn new(held: &Held) -> io::Result<Tie> {
        let pid = libc::pid_t::try_from(held.identity.pid).map_err(io::Error::other)?;
        let ends = UnixStream::pair()?;
        for end in [&ends.0, &ends.1] {
            set(end, F_SETSIG, libc::SIGKILL)?;
            set(end, libc::F_SETOWN, pid)?;
            set(end, libc::F_SETFL, libc::O_ASYNC)?;
        }
        // The kernel keeps the process behind the number, and not the number. So it is enough to check
        // the number now.
        match held.reach()? {
            Reach::Gone => {
                for end in [&ends.0, &ends.1] {
                    set(end, libc::F_SETFL, 0)?;
                }
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
            _ => Ok(Tie { _ends: ends }),
        }
    }
}

fn set(end: &UnixStream, what: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: each of these commands of fcntl(2) takes a number, and touches no memory of ours.
    match unsafe { libc::fcntl(end.as_raw_fd(), what, value) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command};

    use super::*;

    fn sleeper() -> (Child, Held) {
        let child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
        let stat = proc::stat(child.id()).unwrap().unwrap();
        (child, Held::new(stat.identity, true))
    }

    #[test]
    fn what_is_tied_is_killed_when_the_tie_is_gone() {
        let (mut child, held) = sleeper();
        let tie = held.stop().expect("it is there");
        drop(tie);
        assert_eq!(child.wait().unwrap().signal(), Some(libc::SIGKILL));
    }

    #[test]
    fn what_is_gone_is_neither_signalled_nor_tied() {
        let (mut child, held) = sleeper();
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(held.stop().is_none());
        assert!(!held.signal(Signal::KILL).unwrap());
        assert!(held.wait_for_end());
    }

    #[test]
    fn a_child_is_ended_by_its_number() {
        let (mut child, held) = sleeper();
        let pid = held.identity.pid;
        assert!(pidfd::is_unreaped_child(pid));
        pidfd::signal_child(pid, Signal::KILL).unwrap();
        assert!(held.wait_for_end());
        assert!(pidfd::reap_child(pid).is_some());
        assert!(!pidfd::is_unreaped_child(pid));
        child.wait().unwrap_err();
    }
}
