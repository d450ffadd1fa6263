//! Other people's supervisors as subjects of the rules.
//!
//! Each module is an adapter. `tests/tables.rs` keeps the table of each supervisor, and
//! `reproductions` shows each failure without the harness.

mod plain;
mod processkit;
mod runit;

pub use plain::Plain;
pub use processkit::Processkit;
pub use runit::Runit;
