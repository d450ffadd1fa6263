//! The integration tests of `watcher`.
