//! The integration tests of `stub`.
