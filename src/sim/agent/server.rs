//! The control server: the listening socket, the processes behind it, and what they say.

// A module imports only from modules above it.
mod expected;

#[cfg(feature = "supervisor")]
mod followed;

mod named;

mod spoken;

mod stranger;

mod turns;

mod state;

mod record;

mod members;

mod arrivals;

mod place;

mod rest;

mod orders;

mod bounds;

mod accept;

mod hear;

mod end;

mod reaps;

mod welcome;

#[cfg(feature = "supervisor")]
mod follow;

mod intake;

pub(crate) use state::Server;
