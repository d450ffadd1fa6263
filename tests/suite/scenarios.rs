//! The integration tests of `scenarios`.
