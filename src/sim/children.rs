//! Which children this process has, by the thread that forked them.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Pid, gettid};

/// The threads that run a sim: the children of each are its sim's.
static SIM_THREADS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

/// Marks this thread as a sim's until it is dropped.
#[derive(Debug)]
pub(crate) struct SimThread(Pid);

impl SimThread {
    pub(crate) fn enter() -> SimThread {
        let thread = gettid();
        SIM_THREADS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(thread);
        SimThread(thread)
    }
}

impl Drop for SimThread {
    fn drop(&mut self) {
        let mut threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = threads.iter().position(|thread| *thread == self.0) {
            threads.swap_remove(place);
        }
    }
}

/// The children that one thread forked.
#[derive(Debug)]
pub(crate) struct Children {
    /// /proc/self/task/TID/children, held open.
    listing: io::Result<File>,
}

impl Children {
    /// Those of this thread.
    pub(crate) fn of_this_thread() -> Children {
        let path = format!("/proc/self/task/{}/children", gettid());
        Children {
            listing: File::open(path),
        }
    }

    /// The process ids. Two reads must agree: one alone can leave out a child that lives, while
    /// another thread reaps one.
    pub(crate) fn list(&self) -> io::Result<Vec<u32>> {
        let file = self
            .listing
            .as_ref()
            .map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let mut last = read(file)?;
        loop {
            let next = read(file)?;
            if next == last {
                return Ok(next
                    .split_ascii_whitespace()
                    .filter_map(|pid| pid.parse().ok())
                    .collect());
            }
            last = next;
        }
    }
}

fn read(file: &File) -> io::Result<String> {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = file.read_at(&mut chunk, text.len() as u64)?;
        text.extend_from_slice(&chunk[..length]);
        // The kernel fills what it is given, but for the last entry that does not fit.
        if length < chunk.len() - 16 {
            return String::from_utf8(text).map_err(io::Error::other);
        }
    }
}

/// How many threads this process has: each is a link of the directory, beside its own two.
fn thread_count() -> Option<u64> {
    fs::metadata("/proc/self/task").ok()?.nlink().checked_sub(2)
}

fn other_threads() -> Vec<Pid> {
    let ours = SIM_THREADS
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clone();
    // Mostly there are none, and then this is all that it costs to know.
    if thread_count() == u64::try_from(ours.len()).ok() {
        return Vec::new();
    }
    let Ok(tasks) = fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    let number = |entry: fs::DirEntry| {
        entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
    };
    tasks
        .flatten()
        .filter_map(number)
        .map(Pid::from_raw)
        .filter(|thread| !ours.contains(thread))
        .collect()
}

/// The children of the threads that run no sim: a sim's code under test may use them. Two looks must
/// agree: one alone leaves out what a thread that ends hands over, and threads beside one that ends.
pub(crate) fn of_other_threads() -> HashSet<u32> {
    let mut last = look_at_other_threads();
    loop {
        let next = look_at_other_threads();
        if next == last {
            return next;
        }
        last = next;
    }
}

fn look_at_other_threads() -> HashSet<u32> {
    let mut found = HashSet::new();
    for thread in other_threads() {
        let text =
            fs::read_to_string(format!("/proc/self/task/{thread}/children")).unwrap_or_default();
        found.extend(
            text.split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    found
}

/// Whether no thread that runs no sim is at work, so that none is about to reap a child.
pub(crate) fn other_threads_are_quiet() -> bool {
    other_threads().into_iter().all(|thread| {
        let stat = fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap_or_default();
        let state = stat
            .rsplit(") ")
            .next()
            .and_then(|rest| rest.chars().next());
        // Gone, or waiting for something.
        matches!(state, None | Some('S' | 'T' | 't' | 'Z' | 'X'))
    })
}

/// The name of a process's program, for a message.
pub(crate) fn program_of(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if name.is_empty() {
        "a process that is gone".to_owned()
    } else {
        name.trim_end().to_owned()
    }
}

/// Whether the process has no command line yet: a spawn returns before its exec has got so far.
pub(crate) fn has_no_words(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.is_empty())
}

/// Whether a word of the process's command line or environment is this.
pub(crate) fn mentions(pid: u32, word: &str) -> bool {
    ["cmdline", "environ"].iter().any(|file| {
        let text = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        text.split(|b| *b == 0 || *b == b'=')
            .any(|part| part == word.as_bytes())
    })
}
