//! The idle gate: whether everything provably waits for the clock, and whose turn it is.
//!
//! Tokio calls the gate when no task is ready, before it would advance a paused clock. The gate holds the runtime until
//! the processes of the sim have come to rest. Then it lets one thing happen:
//!
//! - the code under test takes in what is new; or
//! - one process acts; or
//! - time passes, if nobody has anything to do.
//!
//! Whenever time must not pass, the gate wakes a task, so that tokio turns once more instead.

// A module imports only from modules above it.
mod limits;

mod suspects;

mod blindness;

mod exec;

mod at_work;

mod rest;

mod state;

mod zombies;

mod forks;

mod standing;

mod survey;

mod look;

mod settling;

mod verdict;

mod calls;

pub(crate) use state::Gate;
