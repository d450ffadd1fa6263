//! The body's handle on its sim.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::time::Instant as TokioInstant;

#[cfg(feature = "conformance")]
use super::ending;
#[cfg(feature = "conformance")]
use super::pool::Pool;
use crate::script::Script;
use crate::sim::agent::{Agent, Shared};
use crate::timeline::{EventSource, Timeline};
use crate::timestamp::Timestamp;

/// The body's handle on its sim: makes agents, tells the time and the seed, and reads and writes the timeline.
#[derive(Clone)]
pub struct SimHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) program: PathBuf,
    pub(super) origin: TokioInstant,
    pub(super) seed: u64,
    pub(super) asked_seed: Arc<AtomicBool>,
    #[cfg(feature = "conformance")]
    pub(super) pool: Arc<Pool>,
}

impl fmt::Debug for SimHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimHandle").finish_non_exhaustive()
    }
}

impl SimHandle {
    /// Returns the agent of that name, and makes it if it does not exist yet. A later call with the same name returns
    /// the same agent, whose next runs follow the new script.
    ///
    /// # Panics
    ///
    /// If the script asks for something that no agent can do.
    #[must_use]
    pub fn agent(&self, name: &str, script: Script) -> Agent {
        Agent::new(
            &self.shared,
            name,
            script,
            self.program.clone(),
            self.origin,
        )
    }

    /// Returns the virtual time since the sim began; the real time, if the sim runs in real time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        Timestamp::ORIGIN + (TokioInstant::now() - self.origin)
    }

    /// Returns the sim's seed, for whatever the test draws at random: a backoff's jitter, or a choice of scripts. If
    /// the body has called this, the text of a failure says the seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.asked_seed.store(true, Ordering::Relaxed);
        self.seed
    }

    /// Whether the watchdog has ended the sim while the code under test still holds the sim's thread.
    #[cfg(feature = "conformance")]
    pub(crate) fn is_held_up(&self) -> bool {
        self.shared.is_given_up.load(Ordering::Relaxed)
            && !self.shared.is_let_go.load(Ordering::Relaxed)
    }

    /// The threads of the sim's blocking pool.
    #[cfg(feature = "conformance")]
    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Ends the sim's processes although `thread`, the thread of the sim, does not come back.
    #[cfg(feature = "conformance")]
    pub(crate) fn end_without(&self, thread: nix::unistd::Pid) {
        ending::end_without(&self.shared, thread);
    }

    /// Returns the timeline of what has happened so far.
    #[must_use]
    pub fn timeline(&self) -> Timeline {
        let mut server = self.shared.lock();
        server.now = self.now();
        let before = server.progress;
        server.see_deaths();
        if server.progress != before {
            self.shared.changed.notify_waiters();
        }
        server.timeline()
    }

    /// Writes a line of text into the timeline, as a note of the code under test.
    pub fn note(&self, text: impl fmt::Display) {
        let text = text.to_string();
        self.shared.note(self.now(), |_| EventSource::Subject, text);
    }
}
