//! A folder of one case.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Once, OnceLock};

use super::held::Hold;
use super::stage::Halt;

/// What its name begins with; two numbers follow.
const PREFIX: &str = "supervise-harness-";

/// A folder below the temporary one, gone with this.
///
/// Where the process is killed it stays, but no longer locked: the next one that makes a folder
/// removes it.
pub(super) struct Folder {
    path: PathBuf,
    lock: Arc<OnceLock<File>>,
    _hold: Hold,
}

impl Folder {
    /// One that nobody else has. It is there when it was [`made`](Folder::made).
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
                // Where it was never made there is none. What cannot be removed now, the next process
                // that makes one removes.
                let _ = remove(&gone);
                drop(held);
            }),
        }
    }

    /// Makes it.
    pub(super) fn made(&self) -> Result<(), Halt> {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(|| sweep(&std::env::temp_dir()));
        let lock = make(&self.path).map_err(|error| Halt::of("a temporary folder", &error))?;
        // It is made once.
        let _ = self.lock.set(lock);
        Ok(())
    }

    /// What has that name in it.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Makes a folder that is locked as long as what is returned is open.
fn make(path: &Path) -> io::Result<File> {
    loop {
        fs::create_dir(path)?;
        // Whoever sweeps may be faster than the lock.
        match File::open(path) {
            Ok(lock) => {
                lock.lock()?;
                if is_at(&lock, path) {
                    return Ok(lock);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
}

/// How often a folder is emptied until it stays empty.
const TRIES: u32 = 1000;

/// Removes a folder and what is in it, also what comes into it meanwhile: the subject may be about to start a run,
/// whose output it opens there.
fn remove(path: &Path) -> io::Result<()> {
    for _ in 1..TRIES {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            done => return done,
        }
    }
    fs::remove_dir_all(path)
}

/// Whether that is where the name leads to.
fn is_at(folder: &File, path: &Path) -> bool {
    let place = |found: fs::Metadata| (found.dev(), found.ino());
    let (open, found) = (folder.metadata().map(place), fs::metadata(path).map(place));
    matches!((open, found), (Ok(open), Ok(found)) if open == found)
}

/// Removes the folders of processes that were killed: those that nobody has locked. Not by the
/// number of the process in the name, which may be another one's in another namespace.
fn sweep(parent: &Path) {
    // What cannot be read or removed is another user's.
    let Ok(entries) = fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(has_our_name)
            && entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_ours && File::open(entry.path()).is_ok_and(|folder| folder.try_lock().is_ok()) {
            let _ = remove(&entry.path());
        }
    }
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

    /// As a subject does that starts one more run when its case is over.
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
                        // Nobody waits for the second.
                        let _ = begun.send(());
                    }
                });
                begins.recv().unwrap();
                remove(&folder).unwrap();
            });
            assert!(!folder.exists());
        }
    }

    /// What is left of a killed process has no lock.
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
        // What another test forks has it until its exec.
        while held.exists() {
            sweep(parent.path());
            std::thread::yield_now();
        }
    }
}
