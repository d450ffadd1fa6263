//! Clocks: where the time and the sleeps come from.

// In the order of the data flow: a module imports only from modules above it.
mod sleepers;

mod sleep;

mod tokio;

mod park;

mod fake;

mod block_on;

pub use fake::FakeClock;
pub use sleep::{Clock, Sleep};
pub use tokio::TokioClock;
