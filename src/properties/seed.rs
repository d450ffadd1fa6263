//! The seed of the random draws.

/// Returns `SUPERVISE_SEED`, or 0 if it is not set. Panics if it is not a number from 0 to 2⁶⁴ − 1.
pub(super) fn seed() -> u64 {
    crate::variables::seed().unwrap_or_else(|error| panic!("{error}"))
}
