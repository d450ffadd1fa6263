//! The integration tests of the stub: one binary, a module per topic.

mod endings;
mod outliving;
mod support;
