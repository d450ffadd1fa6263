//! A channel between processes.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::pidfd::is_own_lack;
use crate::sim::socket;

/// A pipe, a FIFO, or two connected unix sockets. The ends are named as the links of /proc/PID/fd name them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Channel(Vec<PathBuf>);

impl Channel {
    /// The channel behind a link of /proc/PID/fd. `None` if that is no channel.
    pub(super) fn behind(link: &Path) -> io::Result<Option<Channel>> {
        let Ok(target) = fs::read_link(link) else {
            return Ok(None);
        };
        let name = target.to_str().unwrap_or_default();
        if let Some(number) = socket::number_of(name) {
            let peer = match socket::peer_of(number) {
                Ok(peer) => peer,
                Err(error) if is_own_lack(&error) => return Err(error),
                // A kernel without sock_diag(7) does not say.
                Err(_) => None,
            };
            let peer = peer.map(|peer| PathBuf::from(format!("socket:[{peer}]")));
            return Ok(peer.map(|peer| Channel(vec![target, peer])));
        }
        let is_fifo = || fs::metadata(link).is_ok_and(|file| file.file_type().is_fifo());
        let is_pipe = name.starts_with("pipe:[") || target.is_absolute() && is_fifo();
        Ok(is_pipe.then(|| Channel(vec![target])))
    }

    /// Whether the channel is a FIFO with a path: fifo(7).
    pub(super) fn has_name(&self) -> bool {
        self.0.iter().any(|end| end.is_absolute())
    }

    /// Whether the process has an end of the channel open. A process that this one may not look at belongs to another
    /// user, and was given no end.
    pub(super) fn is_held_by(&self, pid: u32) -> bool {
        let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            return false;
        };
        descriptors.flatten().any(|entry| {
            let target = fs::read_link(entry.path());
            target.is_ok_and(|target| self.0.contains(&target))
        })
    }
}
