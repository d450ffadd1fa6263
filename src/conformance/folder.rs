//! A temporary folder for one case.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock};

use super::held::Hold;
use super::trial_error::TrialError;
use crate::flock;

/// What a folder's name begins with. The process id and a counter follow.
const PREFIX: &str = "supervise-harness-";

/// A folder below the temporary folder. Dropping this value removes it.
///
/// If the process is killed, the folder stays but is no longer locked. The next process that makes
/// a folder removes it.
pub(super) struct Folder {
    path: PathBuf,
    lock: Arc<OnceLock<File>>,
    _hold: Hold,
}

impl Folder {
    /// Chooses the path of a folder that nobody else has. [`made`](Folder::made) makes the folder
    /// there.
    pub(super) fn new() -> Folder {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (process, number) = (std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(format!("{PREFIX}{process}-{number}"));
        let lock = Arc::new(OnceLock::new());
        let (gone, held) = (path.clone(), Arc::clone(&lock));
        Folder {
            path,
            lock,
            _hold: Hold::new(move || {
                // If the folder was never made, there is nothing to remove. If it cannot be removed
                // now, the next process that makes one removes it.
                let _ = remove(&gone);
                drop(held);
            }),
        }
    }

    /// Makes the folder. The first time in a process, also removes what killed processes have left.
    pub(super) fn made(&self) -> Result<(), TrialError> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&std::env::temp_dir()));
        let lock =
            make(&self.path).map_err(|error| TrialError::of("a temporary folder", &error))?;
        // The lock is not set yet: the folder is made only once.
        let _ = self.lock.set(lock);
        Ok(())
    }

    /// Returns the path of that name in the folder.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Makes a folder that is locked as long as the returned file is open.
fn make(path: &Path) -> io::Result<File> {
    loop {
        fs::create_dir(path)?;
        // Another process may sweep the folder away before it is locked. Then it is made again.
        match File::open(path) {
            Ok(lock) => {
                flock::lock(&lock)?;
                if is_at(&lock, path) {
                    return Ok(lock);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// How many times `remove` tries to empty a folder that does not stay empty.
const TRIES: u32 = 1000;

/// Removes a folder and what is in it, also what comes into it meanwhile. The subject may be about
/// to start a run, whose output it opens there.
fn remove(path: &Path) -> io::Result<()> {
    for _ in 1..TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            done => return done,
        }
    }
    fs::remove_dir_all(path)
}

/// Whether the path leads to that folder.
fn is_at(folder: &File, path: &Path) -> bool {
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    let (open, found) = (folder.metadata().map(place), fs::metadata(path).map(place));
    matches!((open, found), (Ok(open), Ok(found)) if open == found)
}

/// Removes the folders of processes that were killed: those that nobody has locked. The process id
/// in the name does not tell: in another PID namespace it may be another process.
fn sweep(parent: &Path) {
    // A folder that cannot be read or removed is another user's.
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(has_our_name)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_ours && is_free(&entry.path()) {
            let _ = remove(&entry.path());
        }
    }
}

/// Whether nobody has locked the folder, which can be opened.
fn is_free(folder: &Path) -> bool {
    File::open(folder).is_ok_and(|folder| flock::try_lock(&folder).unwrap_or(false))
}

fn has_our_name(name: &str) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'))
        .is_some_and(|(process, number)| is_number(process) && is_number(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A subject may start one more run when its case is over, and that run's output appears in the
    /// folder.
    #[test]
    fn what_comes_into_a_folder_that_is_being_removed_is_removed_too() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("folder");
        for _ in 0..20 {
            fs::create_dir(&folder).unwrap();
            let (begun, begins) = std::sync::mpsc::channel();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    let begun = begun;
                    for number in 0..500 {
                        if File::create(folder.join(number.to_string())).is_err() {
                            break;
                        }
                        // The other thread waits only for the first message.
                        let _ = begun.send(());
                    }
                });
                begins.recv().unwrap();
                remove(&folder).unwrap();
            });
            assert!(!folder.exists());
        }
    }

    /// What a killed process has left has no lock.
    #[test]
    fn only_what_a_killed_process_left_behind_is_swept() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let left = at("supervise-harness-1-0");
        fs::create_dir(&left).unwrap();
        fs::write(left.join("output"), "x").unwrap();
        let held = at("supervise-harness-1-1");
        let lock = make(&held).unwrap();
        let others = [
            "supervise-harness",
            "supervise-harness-1",
            "supervise-harness-1-x",
            "2-3",
        ];
        for name in others {
            fs::create_dir(at(name)).unwrap();
        }
        fs::write(at("supervise-harness-3-4"), "a file").unwrap();
        std::os::unix::fs::symlink(others[0], at("supervise-harness-5-6")).unwrap();

        sweep(parent.path());
        assert!(!left.exists());
        assert!(held.exists());
        for name in others {
            assert!(at(name).exists(), "{name}");
        }
        assert!(at("supervise-harness-3-4").exists());
        assert!(at("supervise-harness-5-6").exists());

        drop(lock);
        // A child that another test has forked holds a copy of the lock until it calls exec.
        while held.exists() {
            sweep(parent.path());
            std::thread::yield_now();
        }
    }
}
