//! The integration tests of the stub: one binary, a module per topic.

mod bad_messages;
mod descendants;
mod endings;
mod freezing;
mod fuzz;
mod hygiene;
mod options;
mod ordering;
mod outliving;
mod support;
