//! The integration tests of `spawner`.
