//! The integration tests of `timeline`.
