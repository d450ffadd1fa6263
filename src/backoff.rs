//! Backoff strategies: how long to wait before the next start.

// In the order of the data flow: a module imports only from modules above it.
mod strategy;

mod error;

mod curves;

mod delays;

mod exponential;

pub use curves::{ConstantBackoff, LinearBackoff};
pub use delays::Delays;
pub use error::BackoffError;
pub use exponential::{ExponentialBackoff, ExponentialBackoffBuilder, Jitter};
pub use strategy::BackoffStrategy;
