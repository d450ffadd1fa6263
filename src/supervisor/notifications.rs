//! What an agent says on its socket.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;

use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::{AsyncBufReadExt, BufReader};

/// The length of the longest line that can mean that the agent is ready. Of a longer line only one
/// byte more is kept.
const LONGEST: usize = "ready\n".len();

/// Reads the agent's socket, so that the agent never blocks on it.
#[derive(Debug)]
pub(super) struct Notifications {
    socket: BufReader<tokio::net::UnixStream>,
    line: Vec<u8>,
    ended: bool,
}

impl Notifications {
    /// Takes over the socket, to read it on the current runtime.
    ///
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

    /// Shuts the host's half of the socket for writing, as closing the agent's handle does. The
    /// agent then knows that nothing more will come.
    pub(super) fn shut(&self) {
        // It fails only if the other end is gone. Then there is nobody to tell.
        let _ = shutdown(self.socket.get_ref().as_raw_fd(), Shutdown::Write);
    }

    /// Reads for ever. Cancel-safe.
    pub(super) async fn drain(&mut self) {
        loop {
            self.ready().await;
        }
    }

    /// Reads until the agent says that it is ready. If the agent never does, never completes.
    ///
    /// Cancel-safe: the part of a line that was read is kept.
    pub(super) async fn ready(&mut self) {
        while !self.ended {
            // A read error counts as the end of the socket. The agent notices it when it writes.
            let chunk = self.socket.fill_buf().await.unwrap_or_default();
            if chunk.is_empty() {
                self.ended = true;
                break;
            }
            let line_end = chunk.iter().position(|b| *b == b'\n');
            let taken = line_end.map_or(chunk.len(), |end| end + 1);
            let room = (LONGEST + 1).saturating_sub(self.line.len());
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

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn of_a_line_without_an_end_little_is_kept() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut notifications = Notifications::new(ours).unwrap();
        for _ in 0..5 {
            theirs.write_all(&[b'x'; 10_000]).unwrap();
            // The time passes when nothing is left to read.
            let ready = tokio::time::timeout(Duration::from_secs(1), notifications.ready());
            assert!(ready.await.is_err());
        }
        assert_eq!(notifications.line.len(), LONGEST + 1);
        theirs.write_all(b"\nready\n").unwrap();
        notifications.ready().await;
    }
}
