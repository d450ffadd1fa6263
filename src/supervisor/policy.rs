//! Restart policies, limits, and the tracker that decides about restarts. They read no clock: the
//! caller passes the time.

// In the order of the data flow: a module imports only from modules above it.
mod error;

mod end;

mod limit;

mod siblings;

mod decision;

mod tracker;

pub use decision::{Decision, GaveUp, RestartPolicy};
pub use end::{EndCause, RunEnd};
pub use error::PolicyError;
pub use limit::RestartLimit;
pub use siblings::{GiveUpScope, SiblingStrategy};
pub use tracker::{RestartTracker, RestartTrackerBuilder};
