//! Virtual time over real processes.

// A module imports only from modules above it.
pub(crate) mod agent;

mod mark;

mod sight;

mod children;

mod surroundings;

mod signals;

mod kernel;

mod starved;

mod patience;

mod socket;

mod foreign;

mod orphans;

mod threads;

mod pool;

mod ready;

mod tellers;

mod waker;

mod gate;

mod body;

mod failure;

mod panics;

mod ending;

mod watchdog;

mod handle;

mod race;

mod tasks;

mod simulation;

mod builder;

mod run;

pub use builder::{SimBuilder, SimError};
#[cfg(feature = "conformance")]
pub(crate) use children::SimThread;
#[cfg(feature = "conformance")]
pub(crate) use failure::panic_text;
pub use failure::{BodyResult, SimFailure};
pub use handle::SimHandle;
pub use simulation::Sim;
