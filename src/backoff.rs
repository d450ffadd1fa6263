//! Backoff strategies: how long to wait before the next start.

// In the order of the data flow: a module imports only from modules above it.
mod strategy;

mod error;

mod jitter;

#[cfg(feature = "supervisor")]
mod curves;

#[cfg(feature = "supervisor")]
mod delays;

#[cfg(feature = "supervisor")]
mod exponential;

#[cfg(feature = "supervisor")]
pub use curves::{ConstantBackoff, LinearBackoff};
#[cfg(feature = "supervisor")]
pub use delays::Delays;
pub use error::BackoffError;
#[cfg(feature = "conformance")]
pub(crate) use error::{bounds, fraction, multiplier};
#[cfg(feature = "supervisor")]
pub use exponential::{ExponentialBackoff, ExponentialBackoffBuilder};
pub use jitter::Jitter;
pub use strategy::BackoffStrategy;
