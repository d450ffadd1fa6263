//! The integration tests of the stub: one binary, a module per topic.

mod bad_messages;
mod clock;
mod descendants;
mod documents;
mod endings;
mod files;
mod freezing;
mod fuzz;
mod hygiene;
mod memory;
mod options;
mod ordering;
mod outliving;
mod program;
mod readiness;
mod script_errors;
mod signals;
mod support;
mod survivors;
mod sweeper;
mod writing;
