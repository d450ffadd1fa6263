//! The integration tests of `policy`.
