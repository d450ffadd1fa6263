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
mod lineage;
mod memory;
mod options;
mod ordering;
mod outliving;
mod pidfd;
mod program;
mod readiness;
mod script_errors;
mod signals;
mod support;
mod survivors;
mod sweeper;
mod turns;
mod turns_of_signals;
mod watching;
mod writing;
