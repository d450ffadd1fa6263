//! The threads of this process: how many there are, and which run no sim.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::PoisonError;

use nix::unistd::Pid;

use super::contents::about;
use super::sim_thread::SIM_THREADS;
use super::state::is_quiet;

/// The threads of this process.
#[derive(Debug)]
pub(super) struct Threads {
    /// /proc/self/task, held open: a descriptor of it, its device and its inode number.
    directory: Option<(File, u64, u64)>,
}

impl Threads {
    pub(super) fn new() -> Threads {
        let open = || {
            let file = File::open("/proc/self/task")?;
            let metadata = file.metadata()?;
            Ok::<_, io::Error>((file, metadata.dev(), metadata.ino()))
        };
        Threads {
            directory: open().ok(),
        }
    }

    /// How many threads there are. Each is a link of the directory, besides the directory's own two links.
    pub(super) fn count(&self) -> Option<u64> {
        let (file, device, number) = self.directory.as_ref()?;
        let metadata = file.metadata().ok()?;
        // The code under test may have closed the descriptor, and opened something else under its number.
        let is_it = (metadata.dev(), metadata.ino()) == (*device, *number);
        is_it.then(|| metadata.nlink().checked_sub(2))?
    }

    /// How many threads there are, and whether each of them runs a sim or is the harness's own. It counts under the
    /// lock: every thread on the list is there, and no other thread can get onto the list.
    pub(super) fn count_beside_sims(&self) -> (Option<u64>, bool) {
        let sims = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        let count = self.count();
        // A thread that begins a sim inside another is on the list twice, until it is told that it cannot.
        let threads: HashSet<Pid> = sims.iter().map(|(thread, _)| *thread).collect();
        (count, count == u64::try_from(threads.len()).ok())
    }
}

/// The threads of this process.
pub(super) fn list_threads() -> io::Result<Vec<Pid>> {
    const TASKS: &str = "/proc/self/task";
    let unreadable = |error| about(TASKS, &error);
    let mut all = Vec::new();
    for task in fs::read_dir(TASKS).map_err(unreadable)? {
        let name = task.map_err(unreadable)?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok());
        all.extend(number.map(Pid::from_raw));
    }
    Ok(all)
}

/// Those of `threads` that run no sim, and are not the harness's own.
pub(super) fn without_sims(threads: &[Pid]) -> Vec<Pid> {
    let sims = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let runs_none = |thread: &&Pid| !sims.iter().any(|(sim, _)| sim == *thread);
    threads.iter().filter(runs_none).copied().collect()
}

/// The threads of this process that run no sim.
pub(crate) fn threads_without_sims() -> io::Result<Vec<Pid>> {
    list_threads().map(|threads| without_sims(&threads))
}

/// Whether none of the threads that run no sim is at work, so that none is about to reap a child. False if that cannot
/// be told.
pub(crate) fn other_threads_are_quiet() -> bool {
    threads_without_sims().is_ok_and(|threads| threads.into_iter().all(is_quiet))
}
