//! The settings of a sim.

use std::fmt;
use std::time::Duration;

use super::simulation::Sim;
use crate::variables::{self, VariableError};

/// How long nothing may move before the watchdog ends the sim, by default: 10 s of real time.
const WATCHDOG: Duration = Duration::from_secs(10);

/// Why a [`Sim`] could not be built.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimError {
    /// The watchdog's period is zero. It would end every sim at once.
    ZeroWatchdog,
    /// A `SUPERVISE_*` variable has a value that is not valid for it.
    Variable(String),
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SimError::ZeroWatchdog => f.write_str("watchdog is 0s: expected a period above zero"),
            SimError::Variable(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for SimError {}

impl From<VariableError> for SimError {
    fn from(error: VariableError) -> SimError {
        SimError::Variable(error.to_string())
    }
}

/// Builds a [`Sim`].
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::Sim;
///
/// let sim = Sim::builder().seed(7).watchdog(Duration::from_secs(30)).build()?;
/// sim.run(async |sim| assert_eq!(sim.seed(), 7));
/// # Ok::<(), supervise_harness::SimError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct SimBuilder {
    seed: Option<u64>,
    watchdog: Option<Duration>,
    is_real: bool,
    without_gate: bool,
    allows_leaks: bool,
    keep_alive: Option<Duration>,
    may_be_lost: bool,
}

impl SimBuilder {
    /// Sets what [`SimHandle::seed`](super::SimHandle::seed) returns. Default: `SUPERVISE_SEED`, else 0.
    pub fn seed(mut self, seed: u64) -> SimBuilder {
        self.seed = Some(seed);
        self
    }

    /// Sets how long nothing may move, in real time, before the watchdog ends the sim; above zero. Default: the seconds
    /// of `SUPERVISE_WATCHDOG`, else 10 s.
    ///
    /// Virtual time that passes counts as movement if an agent waits for it. Some real time does not count:
    ///
    /// - time in which this process was stopped, as by Ctrl-Z or a debugger;
    /// - time in which an agent or a child is ready to run and gets no processor, up to a minute.
    ///
    /// # Code that never comes back
    ///
    /// When the watchdog ends a sim, it kills all agents, and then every agent that the code under test still starts.
    /// So the sim gets its thread back as soon as the code under test waits for anything in tokio, or blocks until its
    /// agents end. Code that holds the thread for 5 s more, as a `loop {}` does, cannot be ended. Then the watchdog's
    /// own thread prints the verdict, ends the processes of all sims, and exits the whole test process with code 101.
    /// That also cuts off the other tests in the process.
    pub fn watchdog(mut self, limit: Duration) -> SimBuilder {
        self.watchdog = Some(limit);
        self
    }

    /// Runs the sim in real time, for code that no virtual clock can reach. The timeline then has no times.
    pub fn real_time(mut self) -> SimBuilder {
        self.is_real = true;
        self
    }

    /// Lets the run succeed even if processes are left behind. The sim ends them all the same.
    pub fn allow_leaks(mut self) -> SimBuilder {
        self.allows_leaks = true;
        self
    }

    /// Runs the sim without the idle gate: time passes while processes are at work, as under tokio's paused clock
    /// alone. This is there to show what the gate is for.
    #[doc(hidden)]
    pub fn without_gate(mut self) -> SimBuilder {
        self.without_gate = true;
        self
    }

    /// Sets how long an idle thread of the blocking pool waits for more work before it ends, in real time.
    #[cfg(feature = "conformance")]
    pub(crate) fn thread_keep_alive(mut self, keep_alive: Duration) -> SimBuilder {
        self.keep_alive = Some(keep_alive);
        self
    }

    /// Says that the caller looks after a thread that does not come back, so that the watchdog does not end this
    /// process.
    #[cfg(feature = "conformance")]
    pub(crate) fn may_be_lost(mut self) -> SimBuilder {
        self.may_be_lost = true;
        self
    }

    /// Builds the sim.
    ///
    /// # Errors
    ///
    /// - [`SimError::ZeroWatchdog`] if the watchdog's period is zero.
    /// - [`SimError::Variable`] if `SUPERVISE_SEED` or `SUPERVISE_WATCHDOG` has a value that is not valid for it, and
    ///   the builder does not set that value itself.
    pub fn build(self) -> Result<Sim, SimError> {
        let seed = match self.seed {
            Some(seed) => seed,
            None => variables::seed()?,
        };
        let watchdog = match self.watchdog {
            Some(Duration::ZERO) => return Err(SimError::ZeroWatchdog),
            Some(limit) => limit,
            None => variables::watchdog()?.unwrap_or(WATCHDOG),
        };
        Ok(Sim {
            seed,
            watchdog,
            is_real: self.is_real,
            gate: !self.without_gate,
            allows_leaks: self.allows_leaks,
            keep_alive: self.keep_alive,
            may_be_lost: self.may_be_lost,
        })
    }
}

impl Default for Sim {
    fn default() -> Sim {
        Sim::new()
    }
}

impl Sim {
    /// Makes a sim in virtual time that fails if a process is left behind. The watchdog ends it when nothing has moved
    /// for 10 s of real time, or for the seconds of `SUPERVISE_WATCHDOG`.
    ///
    /// # Panics
    ///
    /// With the [`SimError`] of a bad `SUPERVISE_SEED` or `SUPERVISE_WATCHDOG`.
    #[track_caller]
    pub fn new() -> Sim {
        let sim = Sim::builder().build();
        sim.unwrap_or_else(|error| panic!("{error}"))
    }

    /// Returns a builder, for a sim with another seed, watchdog or clock.
    pub fn builder() -> SimBuilder {
        SimBuilder::default()
    }
}
