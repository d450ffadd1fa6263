//! The controllable child process of `supervise-harness`.

mod signal;

pub use signal::{Signal, UnknownSignal};
