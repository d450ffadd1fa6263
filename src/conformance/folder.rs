//! A folder of one case.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use super::held::Hold;
use super::stage::Halt;

/// A folder below the temporary one, gone with this.
pub(super) struct Folder {
    path: PathBuf,
    _hold: Hold,
}

impl Folder {
    /// One that nobody else has. It is there when it was [`made`](Folder::made).
    pub(super) fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("supervise-harness-{process}-{number}"));
        let gone = path.clone();
        Folder {
            path,
            _hold: Hold::new(move || {
                // Where it was never made there is none.
                let _ = fs::remove_dir_all(gone);
            }),
        }
    }

    /// Makes it.
    pub(super) fn made(&self) -> Result<(), Halt> {
        fs::create_dir(&self.path).map_err(|error| Halt::of("a temporary folder", &error))
    }

    /// What has that name in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}
