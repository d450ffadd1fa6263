//! The integration tests of `supervisor`.
