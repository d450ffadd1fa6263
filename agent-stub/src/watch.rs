//! What nothing tells of but looking.

use std::ffi::OsStr;
use std::fs::{OpenOptions, TryLockError};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::quoted::Quoted;
use crate::sys;

/// What is looked at again and again: by the real clock every [`LOOK`](crate::agent::LOOK), by the harness's at
/// each ping, so that no look depends on who is faster.
pub(crate) enum Watch {
    /// Until the file exists.
    File(Quoted),
    /// Until no other process holds the lock on the file.
    Locked(Quoted),
}

impl Watch {
    pub(crate) fn has_come(&self) -> bool {
        match self {
            Watch::File(file) => path(file).exists(),
            Watch::Locked(file) => !is_locked(path(file)),
        }
    }

    pub(crate) fn file(&self) -> &Quoted {
        match self {
            Watch::File(file) | Watch::Locked(file) => file,
        }
    }
}

/// Whether another process holds the lock. A file that cannot be opened is locked by nobody.
fn is_locked(file: &Path) -> bool {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(sys::O_NONBLOCK)
        .open(file);
    opened.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

pub(crate) fn path(text: &Quoted) -> &Path {
    Path::new(OsStr::from_bytes(&text.0))
}
