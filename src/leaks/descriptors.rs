//! The descriptors of this process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::proc::{self, Unreadable};

/// What a descriptor refers to.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) target: PathBuf,
    device: u64,
    inode: u64,
}

impl File {
    /// Whether both are the same file. Its path may differ: it changes with a rename or a removal.
    pub(super) fn is_same(&self, other: &File) -> bool {
        let anonymous = |file: &File| file.target.to_string_lossy().starts_with("anon_inode:");
        (self.device, self.inode) == (other.device, other.inode)
            // All anonymous files have one inode.
            && (!anonymous(self) || self.target == other.target)
    }
}

/// The open descriptors, without the one that is opened to list them.
pub(super) fn open() -> Result<BTreeMap<u32, File>, Unreadable> {
    let mut files = BTreeMap::new();
    for number in proc::numbers("/proc/self/fd")? {
        let path = format!("/proc/self/fd/{number}");
        let read = || -> io::Result<File> {
            let target = fs::read_link(&path)?;
            let metadata = fs::metadata(&path)?;
            Ok(File {
                target,
                device: metadata.dev(),
                inode: metadata.ino(),
            })
        };
        match read() {
            Ok(file) => {
                files.insert(number, file);
            }
            // Closed since it was listed, as the descriptor of the list itself is.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Unreadable::new(path, error)),
        }
    }
    Ok(files)
}
