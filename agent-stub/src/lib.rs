//! The controllable child process of `supervise-harness`: the messages that it understands, and the
//! path of its program.
//!
//! The program is `agent-stub`, a process that crashes, hangs, ignores signals, forks, floods or
//! gets ready exactly when it is told to. [`path`] finds the program, which this library builds and
//! carries, without asking cargo. A [`script`] on its command line tells it what to do, or messages
//! of the [`protocol`] on a socket.
//! ```
//! use std::process::Command;
//!
//! let stub = Command::new(agent_stub::path()?)
//!     .args(["--script", r#"write "going down\n"; die SIGABRT"#])
//!     .output()?;
//! assert_eq!(stub.stdout, b"going down\n");
//! assert_eq!(std::os::unix::process::ExitStatusExt::signal(&stub.status), Some(6));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! It depends on nothing but std.

// The rest of the library compiles on other systems, too, so that a user there sees this error
// alone.
#[cfg(not(target_os = "linux"))]
compile_error!(
    "supervise-harness and its agent stub need Linux: pidfds, /proc and signals are what they are made of. A crate that \
     is also built elsewhere depends on them in `[target.'cfg(target_os = \"linux\")'.dev-dependencies]`, and its test \
     files begin with `#![cfg(target_os = \"linux\")]`"
);

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

// A module imports only from modules above it.
mod signal;

mod quoted;

mod variables;

mod limits;

pub mod script;

mod line;

mod hygiene;

pub mod protocol;

#[cfg(target_os = "linux")]
mod program;

pub use hygiene::{Finding, Hygiene};
#[cfg(target_os = "linux")]
pub use program::{ProgramError, path};
pub use quoted::Quoted;
pub use signal::{Signal, UnknownSignal};
pub use variables::VARIABLES;
