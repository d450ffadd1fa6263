//! The threads that run sims, and the harness's own.

use std::sync::{Arc, Mutex, PoisonError};

use nix::unistd::{Pid, gettid};

use crate::sim::mark::{self, Mark};
use crate::sim::sight::Sight;

/// The threads that run a sim, and the harness's own threads. The children of a sim's thread are its sim's.
pub(super) static SIM_THREADS: Mutex<Vec<(Pid, Option<Arc<Sight>>)>> = Mutex::new(Vec::new());

/// Marks this thread as a sim's, or as the harness's own, until it is dropped.
#[derive(Debug)]
pub(crate) struct SimThread {
    thread: Pid,
    mark: Option<Arc<Mark>>,
}

impl SimThread {
    /// Enters this thread. `sight` is what others can see of its sim; `None` if the thread is the harness's own, and
    /// forks nothing.
    pub(crate) fn enter(sight: Option<Arc<Sight>>) -> SimThread {
        let mark = if sight.is_some() {
            Mark::take().map(Arc::new)
        } else {
            // A sim's thread may have started this one, which then has inherited its mark.
            mark::clear();
            None
        };
        SimThread::register(sight, mark)
    }

    /// Enters this thread, which only waits for the harness's threads, and forks nothing until this is dropped.
    #[cfg(feature = "conformance")]
    pub(crate) fn wait() -> SimThread {
        SimThread::register(None, None)
    }

    fn register(sight: Option<Arc<Sight>>, mark: Option<Arc<Mark>>) -> SimThread {
        let thread = gettid();
        SIM_THREADS
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((thread, sight));
        SimThread { thread, mark }
    }

    /// The mark that the threads and processes inherit which this thread starts. `None` if the kernel has no such mark.
    pub(crate) fn mark(&self) -> Option<Arc<Mark>> {
        self.mark.clone()
    }
}

impl Drop for SimThread {
    fn drop(&mut self) {
        let mut threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = threads
            .iter()
            .position(|(thread, _)| *thread == self.thread)
        {
            threads.swap_remove(place);
        }
    }
}

/// Says that the sim of this thread is over although the thread is not. Other sims then need not look at the thread.
#[cfg(feature = "conformance")]
pub(crate) fn leave(thread: Pid) {
    let mut threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    let left = threads.iter_mut().filter(|(other, _)| *other == thread);
    left.for_each(|(_, sight)| *sight = None);
}

/// The threads that run other sims than this thread's, each with what others can see of its sim.
pub(crate) fn other_sims() -> Vec<(Pid, Arc<Sight>)> {
    let threads = SIM_THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    if threads.iter().filter(|(_, sight)| sight.is_some()).count() < 2 {
        return Vec::new();
    }
    let this = gettid();
    let others = threads.iter().filter(|(thread, _)| *thread != this);
    others
        .filter_map(|(thread, sight)| Some((*thread, Arc::clone(sight.as_ref()?))))
        .collect()
}
