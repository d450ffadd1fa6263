//! The table of statements.

/// Every statement of a script with what it does: what `agent-stub --help` prints and the README
/// shows.
pub const TABLE: &str = include_str!("table.txt");
