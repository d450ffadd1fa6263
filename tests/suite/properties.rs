//! The integration tests of `properties`.
