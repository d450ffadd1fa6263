//! The cases of each rule. The files are those of the rules.

// A module imports only from modules above it.
mod scope;

mod trio;

mod stop;

mod probe;

mod readiness;

mod start;

mod exit;

mod limit;

mod decision;

mod backoff;

mod reset;

mod tree;

mod crash;

mod reaping;

mod descriptors;

mod output;

mod concurrency;

mod exhaustion;

mod catalog;

pub(super) use catalog::all;
