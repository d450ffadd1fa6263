//! The integration tests of `sim`.
