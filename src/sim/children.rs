//! Which children this process has, by the thread that forked them.

// A module imports only from modules above it.
mod contents;

mod state;

mod words;

mod sim_thread;

mod threads;

mod listing;

pub(crate) use contents::{contents, read_all};
pub(crate) use listing::{Children, ThreadsChildren, of_busy_thread};
#[cfg(feature = "conformance")]
pub(crate) use sim_thread::leave;
pub(crate) use sim_thread::{SimThread, other_sims};
pub(crate) use state::{Call, call_of, is_quiet, is_zombie, sleeps_of, state, state_in};
pub(crate) use threads::{other_threads_are_quiet, threads_without_sims};
pub(crate) use words::{has_no_words, is_for_another_sim, mentions, program_of};
