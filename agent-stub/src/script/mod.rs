//! What an agent does in one run: the grammar of scripts.
//!
//! The same text is understood by `agent-stub --script`, by the `do` message of the control
//! connection and by scenario files. [`TABLE`] lists every statement; `agent-stub --help` prints it.

// A module imports only from modules above it.
mod table;

mod units;

mod statement;

mod length;

mod parse;

pub use parse::ScriptError;
pub use statement::{
    Channel, Content, Descendant, Destination, Gate, Output, Placement, Response, Script,
    Statement, Stream,
};
pub use table::TABLE;
