//! The integration tests of `backoff`.
