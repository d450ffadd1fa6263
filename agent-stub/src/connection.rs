//! The stub's end of the control connection.

use std::ffi::OsStr;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Instant;

use crate::protocol::{Lines, MAX_LINE, MessageError, Order, Report};
use crate::quoted::Quoted;
use crate::sys;

/// Parses the address of a socket as the options give it: a path or, after `@`, an abstract name.
pub(crate) fn address(text: &OsStr) -> io::Result<SocketAddr> {
    match text.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(text),
    }
}

/// Moves a descriptor above 2, where no script closes it as a standard stream.
pub(crate) fn above_streams(descriptor: OwnedFd) -> io::Result<OwnedFd> {
    if descriptor.as_raw_fd() > 2 {
        Ok(descriptor)
    } else {
        descriptor.try_clone()
    }
}

/// Takes over an inherited descriptor, which must be a connected socket.
pub(crate) fn take_over(descriptor: RawFd) -> io::Result<OwnedFd> {
    if std::fs::metadata(format!("/proc/self/fd/{descriptor}")).is_err() {
        return Err(io::Error::other("the descriptor is not open"));
    }
    // SAFETY: the descriptor is open. Whoever started this process has passed it for this use, so
    // nothing else here uses it.
    let socket = unsafe { UnixStream::from_raw_fd(descriptor) };
    match socket.peer_addr() {
        Ok(_) => Ok(socket.into()),
        Err(error) => {
            // It is not ours after all, so it must not be closed.
            std::mem::forget(socket);
            Err(io::Error::new(
                error.kind(),
                format!("no connected socket: {error}"),
            ))
        }
    }
}

/// A line that came in: an order, or the reason why the line is none.
pub(crate) type Incoming = Result<Order, MessageError>;

/// A connected stream socket, what was read from it so far, and what is still to be sent.
pub(crate) struct Connection {
    socket: UnixStream,
    lines: Lines,
    /// The reports that wait for the next [`send`](Connection::send).
    unsent: String,
}

impl Connection {
    /// Connects to a listening socket.
    pub(crate) fn to(address_text: &OsStr) -> io::Result<Connection> {
        let socket = UnixStream::connect_addr(&address(address_text)?)?;
        Connection::over(UnixStream::from(above_streams(socket.into())?))
    }

    /// Takes over an inherited, connected socket.
    pub(crate) fn inherited(descriptor: RawFd) -> io::Result<Connection> {
        Connection::over(UnixStream::from(take_over(descriptor)?))
    }

    fn over(socket: UnixStream) -> io::Result<Connection> {
        // A harness that reads nothing must not hold the stub past its lifetime.
        socket.set_nonblocking(true)?;
        Ok(Connection {
            socket,
            lines: Lines::new(),
            unsent: String::new(),
        })
    }

    pub(crate) fn descriptor(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// A second descriptor of the same connection.
    pub(crate) fn share(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone().map(OwnedFd::from)
    }

    /// Keeps one line for the next [`send`](Self::send).
    pub(crate) fn keep(&mut self, report: &Report) {
        let mut line = format!("{report}\n");
        if line.len() > MAX_LINE {
            let name = line.split(' ').next().unwrap_or_default();
            let text = format!("a `{name}` report is longer than {MAX_LINE} bytes");
            line = format!("{}\n", Report::Error(Quoted::from(text.as_str())));
        }
        self.unsent.push_str(&line);
    }

    /// Sends the reports that were kept. Fails with [`io::ErrorKind::TimedOut`] if the harness does
    /// not read them before the deadline.
    pub(crate) fn send(&mut self, deadline: Instant) -> io::Result<()> {
        let unsent = std::mem::take(&mut self.unsent);
        let mut rest = unsent.as_bytes();
        while !rest.is_empty() {
            match self.socket.write(rest) {
                Ok(sent) => rest = &rest[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    let mut writable = [sys::Poll::writable(self.descriptor())];
                    sys::wait_for(&mut writable, sys::milliseconds(left));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads once and adds the lines that are complete. Returns false if the connection has ended
    /// or failed.
    pub(crate) fn receive(&mut self, incoming: &mut impl Extend<Incoming>) -> bool {
        let mut chunk = [0; 4096];
        match self.socket.read(&mut chunk) {
            Ok(0) => return false,
            Ok(length) => self.lines.push(&chunk[..length]),
            Err(error) => {
                return matches!(
                    error.kind(),
                    io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock
                );
            }
        }
        while let Some(line) = self.lines.next_line() {
            incoming.extend([line.and_then(|line| line.parse())]);
        }
        true
    }
}
