//! A control connection: what a process says on it, and what it is told.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use agent_stub::protocol::{Lines, MessageError, Order, Report};
use nix::libc;
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

/// `SO_PEERPIDFD` of linux/socket.h, which libc lacks. Since Linux 6.5.
const SO_PEERPIDFD: libc::c_int = 77;

/// How many bytes one look reads: more than a socket holds, so that the last words of a process are not cut.
const PER_LOOK: u64 = 1 << 20;

/// One control connection, before and after its process has said who it is.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    lines: Lines,
    /// How many bytes the process has said.
    pub(crate) heard: u64,
    open: bool,
    /// What the other end has no room for: a stopped process takes nothing.
    unsent: VecDeque<u8>,
}

impl Connection {
    pub(crate) fn new(socket: UnixStream) -> io::Result<Connection> {
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            lines: Lines::new(),
            heard: 0,
            open: true,
            unsent: VecDeque::new(),
        })
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open
    }

    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The process at the other end, as the kernel has it; `None` if it cannot be seen from here. The number
    /// that the process gives for itself is not used: it differs in another pid namespace, and may be
    /// anything.
    pub(crate) fn peer_pid(&self) -> Option<u32> {
        let credentials = getsockopt(&self.socket, PeerCredentials).ok()?;
        u32::try_from(credentials.pid()).ok().filter(|pid| *pid > 0)
    }

    /// A pidfd of the process at the other end. Unlike a process id, it never comes to mean another process.
    pub(crate) fn peer(&self, pid: u32) -> io::Result<OwnedFd> {
        let mut descriptor: libc::c_int = -1;
        let mut length =
            libc::socklen_t::try_from(size_of::<libc::c_int>()).map_err(io::Error::other)?;
        // SAFETY: the value and its length are valid for writes while the call lasts.
        let result = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_SOCKET,
                SO_PEERPIDFD,
                (&raw mut descriptor).cast(),
                &raw mut length,
            )
        };
        if result == 0 {
            // SAFETY: the call succeeded: this is a new descriptor that nobody else owns.
            return Ok(unsafe { OwnedFd::from_raw_fd(descriptor) });
        }
        // Before Linux 6.5. While the process is connected and waits for an answer, it cannot have been
        // reaped unseen and its number used again.
        crate::pidfd::open_pidfd(pid)
    }

    /// Reads what is there, up to about `PER_LOOK` bytes: a process may go on writing without an end.
    pub(crate) fn receive(&mut self, messages: &mut Vec<Result<Report, MessageError>>) {
        let mut chunk = [0; 8192];
        let before = self.heard;
        while self.open && self.heard - before < PER_LOOK {
            match self.socket.read(&mut chunk) {
                Ok(0) => self.open = false,
                Ok(length) => {
                    self.heard += length as u64;
                    self.lines.push(&chunk[..length]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
        }
        while let Some(line) = self.lines.next_line() {
            messages.push(line.and_then(|line| line.parse()));
        }
    }

    /// Whether the other end went away in the middle of a line.
    pub(crate) fn is_cut(&self) -> bool {
        !self.open && self.lines.unfinished() > 0
    }

    /// Sends an order, or keeps it for [`flush`](Connection::flush).
    pub(crate) fn send(&mut self, order: &Order) {
        self.unsent.extend(format!("{order}\n").into_bytes());
        self.flush();
    }

    /// Sends the unsent orders, as far as there is room.
    pub(crate) fn flush(&mut self) {
        while self.has_unsent() {
            match self.socket.write(self.unsent.as_slices().0) {
                Ok(length) => drop(self.unsent.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The other end is gone. What it said before can still be read, and then its end.
                Err(_) => self.unsent.clear(),
            }
        }
    }

    /// Whether there are orders that wait for room.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Ends the connection: nothing more is said or heard on it.
    pub(crate) fn close(&mut self) {
        self.open = false;
        self.unsent.clear();
        // This fails only if the other end is gone.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
    }
}
