//! Subjects that run in processes of their own.

// A module imports only from modules above it.
mod words;

mod serve;

mod session;

mod program;

mod placed;

pub use placed::{Apart, PlacedSession};
pub use program::Program;
pub use serve::serve;
pub use session::ApartSession;
