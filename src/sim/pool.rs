//! The threads on which a sim's `spawn_blocking` tasks run. The children of these threads are the sim's and nobody
//! else's, because only the sim's runtime gives the threads anything to do.

use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::unistd::{Pid, gettid};

use super::kernel::waits_with_limit;
use crate::leaks::{self, Identity};

#[derive(Debug, Default)]
pub(crate) struct Pool(Mutex<Threads>);

#[derive(Debug, Default)]
struct Threads {
    alive: Vec<Pid>,
    /// The threads that have nothing left to do but end.
    ending: Vec<Pid>,
    /// The children that threads had when they ended. The kernel gives such children to any other thread.
    left: Vec<Identity>,
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, Threads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread of the pool must call this before all else.
    pub(crate) fn enter(&self) {
        self.lock().alive.push(gettid());
    }

    /// A thread of the pool must call this after all else.
    pub(crate) fn leave(&self) {
        let mut threads = self.lock();
        let thread = gettid();
        // Under the lock, so that whoever asks finds the children either with the thread or without it. If they cannot
        // be listed, this thread has nobody to say that to.
        threads
            .left
            .extend(leaks::children_of(thread).into_iter().flatten());
        threads.alive.retain(|alive| *alive != thread);
        threads.ending.push(thread);
    }

    /// Whether that thread is one of the pool's.
    pub(crate) fn has(&self, thread: u32) -> bool {
        let is_it = |alive: &Pid| alive.as_raw().unsigned_abs() == thread;
        self.lock().alive.iter().any(is_it)
    }

    /// Whether one of the threads may have something to do. A thread without work waits for work with a limit in time:
    /// tokio makes it wait so.
    pub(crate) fn may_be_at_work(&self) -> bool {
        let threads = self.lock();
        let waits = |thread: &Pid| waits_with_limit(*thread);
        !threads.alive.iter().all(waits)
    }

    /// Whether none of the threads is there. Each of their children has then received the signal that it gets at its
    /// thread's end: the kernel sends that signal before the thread is gone from /proc.
    #[cfg(feature = "conformance")]
    pub(crate) fn is_empty(&self) -> bool {
        let mut threads = self.lock();
        let is_there = |thread: &Pid| {
            std::path::Path::new("/proc/self/task")
                .join(thread.to_string())
                .exists()
        };
        threads.ending.retain(is_there);
        threads.alive.is_empty() && threads.ending.is_empty()
    }

    /// Whether this process was a child of a thread of the pool that has ended.
    #[cfg(feature = "conformance")]
    pub(crate) fn has_left(&self, pid: u32) -> bool {
        self.lock().left.iter().any(|child| child.pid == pid)
    }

    /// The children of all threads of the pool. Some may have been reaped.
    pub(crate) fn children(&self) -> Vec<Identity> {
        let threads = self.lock();
        let mut children = threads.left.clone();
        for thread in &threads.alive {
            children.extend(leaks::children_of(*thread).into_iter().flatten());
        }
        children
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_children_of_a_thread_that_ended_are_the_pools() {
        let pool = Pool::default();
        let mut child = std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                pool.enter();
                let child = std::process::Command::new("/bin/sleep").arg("1000").spawn();
                pool.leave();
                child.unwrap()
            });
            thread.join().unwrap()
        });
        let children: Vec<_> = pool.children().iter().map(|child| child.pid).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(children, [child.id()]);
    }

    #[test]
    fn the_children_of_other_threads_are_not_the_pools() {
        let pool = Pool::default();
        let mut other = std::process::Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| pool.enter());
        });
        let children = pool.children();
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(children, []);
    }
}
