//! A folder of one case.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::stage::Halt;

/// A folder below the temporary one, gone with this.
pub(super) struct Folder(PathBuf);

impl Folder {
    /// One that nobody else has. It is there when it was [`made`](Folder::made).
    pub(super) fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Folder(std::env::temp_dir().join(format!("supervise-harness-{process}-{number}")))
    }

    /// Makes it.
    pub(super) fn made(&self) -> Result<(), Halt> {
        fs::create_dir(&self.0).map_err(|error| Halt::of("a temporary folder", &error))
    }

    /// What has that name in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // Where it was never made there is none.
        let _ = fs::remove_dir_all(&self.0);
    }
}
