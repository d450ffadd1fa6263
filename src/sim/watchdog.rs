//! Ends a sim in which nothing moves.

// A module imports only from modules above it.
mod last;

mod verdict;

mod watched;

mod foreign;

mod sims;

mod diagnosis;

mod end;

mod look;

pub(crate) use watched::Watched;
