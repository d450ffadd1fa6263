//! When an agent counts as up.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::{AsyncBufReadExt, BufReader};

/// When an agent counts as up.
///
/// Source: `Type=` of systemd.service(5), `startsecs` of supervisord, `notification-fd` of
/// s6-supervise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readiness {
    /// At once, when the program is executed.
    #[default]
    Exec,
    /// When it has run for so long.
    MinUptime(Duration),
    /// When it says so on its socket: by a line `ready` or an empty line. The supervisor reads the
    /// socket to its end; other lines mean nothing to it.
    Notified,
}

/// The longest line of an agent that is kept: longer ones cannot mean that it is ready.
const LONGEST: usize = "ready\n".len();

/// Reads the agent's socket, so that the agent never blocks on it.
#[derive(Debug)]
pub(super) struct Notifications {
    socket: BufReader<tokio::net::UnixStream>,
    line: Vec<u8>,
    ended: bool,
}

impl Notifications {
    /// # Panics
    ///
    /// Outside a tokio runtime with I/O enabled.
    pub(super) fn new(socket: UnixStream) -> io::Result<Notifications> {
        socket.set_nonblocking(true)?;
        let socket = BufReader::new(tokio::net::UnixStream::from_std(socket)?);
        Ok(Notifications {
            socket,
            line: Vec::new(),
            ended: false,
        })
    }

    /// Tells the agent that nothing more will be said to it, as closing its handle does.
    pub(super) fn shut(&self) {
        // It fails only where the other end is gone, which is the point.
        let _ = shutdown(self.socket.get_ref().as_raw_fd(), Shutdown::Write);
    }

    /// Reads for ever. Cancel-safe.
    pub(super) async fn drain(&mut self) {
        loop {
            self.ready().await;
        }
    }

    /// Reads until the agent says that it is ready; for ever where it never does.
    ///
    /// Cancel-safe: what was read of a line is kept.
    pub(super) async fn ready(&mut self) {
        while !self.ended {
            // An error is an end, too: the agent is told by its own write.
            let chunk = self.socket.fill_buf().await.unwrap_or_default();
            if chunk.is_empty() {
                self.ended = true;
                break;
            }
            let line_end = chunk.iter().position(|b| *b == b'\n');
            let taken = line_end.map_or(chunk.len(), |end| end + 1);
            let room = LONGEST.saturating_sub(self.line.len()) + 1;
            self.line.extend(chunk[..taken].iter().take(room));
            self.socket.consume(taken);
            if line_end.is_some() {
                let line = std::mem::take(&mut self.line);
                if matches!(line.as_slice(), b"\n" | b"ready\n") {
                    return;
                }
            }
        }
        std::future::pending::<()>().await;
    }
}
