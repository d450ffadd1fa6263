//! The integration tests of the stub: one binary, a module per topic.
