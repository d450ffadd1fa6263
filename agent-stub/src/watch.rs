//! Changes in the file system for which the stub has to poll, since nothing tells it of them.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use crate::quoted::Quoted;
use crate::sys;

/// How often the stub polls for a change of which nothing tells it, such as the arrival of a file.
pub(crate) const LOOK: Duration = Duration::from_millis(2);

/// What a script waits for by polling. By the real clock the stub looks every [`LOOK`]. By the
/// harness's clock it looks at each ping, so that no look depends on which process is faster.
pub(crate) enum Watch {
    /// Waits until the file exists.
    File(Quoted),
    /// Waits until no other process holds the lock on the file.
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

/// Whether another process holds the lock. It is false for a file that cannot be opened.
fn is_locked(file: &Path) -> bool {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(sys::O_NONBLOCK)
        .open(file);
    opened.is_ok_and(|file| matches!(sys::try_lock(&file), Ok(false)))
}

pub(crate) fn path(text: &Quoted) -> &Path {
    Path::new(OsStr::from_bytes(&text.0))
}
