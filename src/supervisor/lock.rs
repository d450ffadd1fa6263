//! The lock that says which supervisor a service belongs to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::SupervisorError;
use crate::flock;

/// A lock on a file. It holds as long as a process has the open file: this process or an agent.
#[derive(Debug)]
pub(super) struct Lock {
    file: Arc<File>,
}

impl Lock {
    /// Takes the lock on the file, and creates the file if it does not exist. If another process
    /// has the lock, the error says which one.
    pub(super) fn take(path: &Path) -> Result<Lock, SupervisorError> {
        let failed = |error: io::Error| SupervisorError::Lock {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(failed)?;
        if !flock::try_lock(&file).map_err(failed)? {
            return Err(SupervisorError::Locked {
                path: path.to_owned(),
                holder: holder(&mut file),
            });
        }
        let lock = Lock {
            file: Arc::new(file),
        };
        lock.write(None).map_err(failed)?;
        Ok(lock)
    }

    /// The open file, which the agents inherit.
    pub(super) fn file(&self) -> Arc<File> {
        Arc::clone(&self.file)
    }

    /// Adds the agent's process id to the file. This is for people: the lock holds without it.
    pub(super) fn note(&self, agent: u32) {
        if let Err(error) = self.write(Some(agent)) {
            tracing::warn!(target: "supervise_harness", %error, "cannot write to the lock");
        }
    }

    fn write(&self, agent: Option<u32>) -> io::Result<()> {
        let mut text = format!("{}\n", std::process::id());
        if let Some(agent) = agent {
            text.push_str(&format!("{agent}\n"));
        }
        let mut file = &*self.file;
        file.set_len(0)?;
        file.seek(SeekFrom::Start(0))?;
        file.write_all(text.as_bytes())
    }
}

/// Returns the first process that the file names and that has the file open. A number in the file
/// may belong to another process by now; that process does not have the file open. `None` if there
/// is no such process, or if this process may not see its descriptors.
fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let this = file.metadata().ok()?;
    // This process opened the file itself just now, to ask. That descriptor does not count.
    let asking = PathBuf::from(format!(
        "/proc/{}/fd/{}",
        std::process::id(),
        file.as_raw_fd()
    ));
    let has_it = |pid: &u32| {
        let entries = fs::read_dir(PathBuf::from(format!("/proc/{pid}/fd")));
        let mut files = entries.into_iter().flatten().flatten();
        files.any(|entry| {
            let found = fs::metadata(entry.path());
            let is_it =
                |found: fs::Metadata| (found.dev(), found.ino()) == (this.dev(), this.ino());
            entry.path() != asking && found.is_ok_and(is_it)
        })
    };
    let named = text.lines().filter_map(|line| line.parse().ok());
    named.into_iter().find(has_it)
}
