//! The integration tests of the stub: one binary, a module per topic.

mod bad_messages;
mod clock;
mod descendants;
mod endings;
mod files;
mod freezing;
mod fuzz;
mod hygiene;
mod options;
mod ordering;
mod outliving;
mod readiness;
mod signals;
mod support;
mod survivors;
mod writing;
