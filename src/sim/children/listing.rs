//! The listing of the children that threads of this process have forked.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use nix::unistd::{Pid, gettid};

use super::contents::{about, contents, is_gone, read_all};
use super::threads::{Threads, list_threads, without_sims};

/// The children that one thread forked.
#[derive(Debug)]
pub(crate) struct Children {
    /// /proc/self/task/TID/children, held open.
    listing: io::Result<File>,
    threads: Threads,
    /// The threads of this process, at the last look.
    listed: Mutex<Vec<Pid>>,
}

impl Children {
    /// The children of this thread.
    pub(crate) fn of_this_thread() -> Children {
        let path = format!("/proc/self/task/{}/children", gettid());
        Children {
            listing: File::open(path),
            threads: Threads::new(),
            listed: Mutex::default(),
        }
    }

    /// The process ids of the children.
    pub(crate) fn list(&self) -> io::Result<Vec<u32>> {
        Ok(self.list_with_threads()?.1)
    }

    /// Whether every thread of this process runs a sim, or is the harness's own.
    pub(crate) fn are_of_sims_alone(&self) -> bool {
        self.threads.count_beside_sims().1
    }

    /// How many threads this process has, if that can be told, and the process ids of the children. While another
    /// thread may reap a child, a single look can leave out a child that lives. Two looks then have to agree.
    pub(crate) fn list_with_threads(&self) -> io::Result<(Option<u64>, Vec<u32>)> {
        let (threads, only_run_sims) = self.threads.count_beside_sims();
        let file = self
            .listing
            .as_ref()
            .map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        let text = if only_run_sims {
            read(file)?
        } else {
            twice(|| read(file))?
        };
        let pids = text.split_ascii_whitespace();
        Ok((threads, pids.filter_map(|pid| pid.parse().ok()).collect()))
    }

    /// The threads that run no sim, each with its children: a sim's code under test may use them. If a thread ends
    /// during a look, the look misses other threads, and the children that the ending thread hands over. So a look
    /// counts only if no thread has ended meanwhile.
    pub(crate) fn of_other_threads(&self) -> io::Result<Vec<ThreadsChildren>> {
        let mut found = Vec::new();
        for _ in 0..LOOKS {
            let (before, only_run_sims) = self.threads.count_beside_sims();
            if only_run_sims {
                return Ok(Vec::new());
            }
            let is_whole;
            (found, is_whole) = self.look_at_other_threads(before)?;
            // If the threads cannot be counted, one look has to do.
            if before.is_none() || is_whole && before == self.threads.count() {
                break;
            }
        }
        Ok(found)
    }

    /// Looks once at the threads that run no sim. `count` is how many threads this process has. Returns also whether
    /// the look saw all of them. If this process has exactly the threads of the last look, they need not be listed
    /// again.
    fn look_at_other_threads(
        &self,
        count: Option<u64>,
    ) -> io::Result<(Vec<ThreadsChildren>, bool)> {
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_count = |listed: &[Pid]| u64::try_from(listed.len()).ok() == count;
        if !is_count(&listed) {
            *listed = list_threads()?;
        }
        let mut is_whole = is_count(&listed);
        let mut found = Vec::new();
        for &thread in &without_sims(&listed) {
            match of_thread(thread)? {
                Some(children) => found.push((thread.as_raw().unsigned_abs(), children)),
                None => is_whole = false,
            }
        }
        if !is_whole {
            listed.clear();
        }
        Ok((found, is_whole))
    }
}

/// A thread, and its children.
pub(crate) type ThreadsChildren = (u32, Vec<u32>);

/// The children of a thread, as two looks in a row agree on them. A single look leaves out a child that lives if
/// another child is reaped meanwhile.
pub(crate) fn of_busy_thread(thread: Pid) -> io::Result<Option<Vec<u32>>> {
    twice(|| of_thread(thread))
}

/// The children of one of this process's threads. `None` if the thread has ended.
fn of_thread(thread: Pid) -> io::Result<Option<Vec<u32>>> {
    let path = format!("/proc/self/task/{thread}/children");
    match contents(&path) {
        Ok(text) => {
            let text = String::from_utf8_lossy(&text);
            let pids = text.split_ascii_whitespace();
            Ok(Some(pids.filter_map(|pid| pid.parse().ok()).collect()))
        }
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(about(&path, &error)),
    }
}

/// How often to look again at something that changes during the look.
const LOOKS: u32 = 1000;

/// What two looks in a row see alike; the last look, if it changes faster than that.
fn twice<T: PartialEq>(look: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let mut last = look()?;
    for _ in 0..LOOKS {
        let next = look()?;
        if next == last {
            break;
        }
        last = next;
    }
    Ok(last)
}

fn read(file: &File) -> io::Result<String> {
    String::from_utf8(read_all(file)?).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    /// The number of threads is then the same as at the last look.
    #[test]
    fn the_child_of_a_thread_that_takes_anothers_place_is_seen() {
        let children = Children::of_this_thread();
        for _ in 0..20 {
            let (tell, pid) = mpsc::channel();
            let (end, ends) = mpsc::channel::<()>();
            let thread = thread::spawn(move || {
                let mut child = Command::new("/bin/sleep").arg("1000").spawn().unwrap();
                tell.send(child.id()).unwrap();
                // The thread also ends when nobody is left who could tell it to.
                let _ = ends.recv();
                child.kill().unwrap();
                child.wait().unwrap();
            });
            let pid = pid.recv().unwrap();
            let others = children.of_other_threads().unwrap();
            drop(end);
            thread.join().unwrap();
            assert!(others.iter().any(|(_, of)| of.contains(&pid)), "{others:?}");
        }
    }
}
