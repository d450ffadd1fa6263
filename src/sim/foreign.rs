//! Looks at the processes of the code under test that are no agents, such as a shell in between, and tells whether they
//! wait for nothing but what the sim itself does.

// A module imports only from modules above it.
mod family;

mod stat;

mod call;

mod channel;

mod foreigners;

pub(crate) use family::{children_of, children_of_thread};
pub(crate) use foreigners::{Foreigners, Known, Standing};
pub(crate) use stat::{comes_to_end, has_ended};
