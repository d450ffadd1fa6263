//! The integration tests of `clock`.
