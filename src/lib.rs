//! A test harness for process supervision. It brings:
//!
//! - a child process that crashes, hangs or gets ready exactly when your test says so;
//! - one virtual clock for your code and its children;
//! - a catalogue of rules, and checks of the laws that supervisors keep;
//! - building blocks for a supervisor of your own.
//!
//! # Virtual time over real processes
//!
//! A [`Sim`] runs plain tokio code, and the processes that this code starts, under one virtual
//! clock. Its children are [`Agent`]s: real processes that do what their [`Script`] or the test
//! says. The sim records everything that happens in a [`Timeline`], which is the same every time,
//! byte for byte.
//!
//! ```
//! use std::time::Duration;
//! use supervise_harness::{Script, Sim};
//!
//! let timeline = Sim::new().run(async |sim| {
//!     let worker = sim.agent("worker", Script::new().run_for(Duration::from_secs(3600)).exit(1));
//!     for _ in 0..2 {
//!         // The code under test.
//!         tokio::process::Command::from(worker.command()).status().await?;
//!         tokio::time::sleep(Duration::from_secs(60)).await;
//!     }
//!     Ok::<_, std::io::Error>(())
//! });
//! assert_eq!(timeline.gaps("worker"), [Duration::from_secs(60)]);
//! ```
//!
//! # What is left behind
//!
//! A [`leaks::Guard`] names and ends the processes that a test leaves behind. A [`Sim`] does this
//! by itself.
//!
//! # A child that crashes when told
//!
//! [`stub::path`] returns the path of a program that crashes, hangs, ignores signals, forks, floods
//! its output or gets ready exactly when its [script](stub::script) says so. Anything that can
//! start a process can start it.
//!
//! ```
//! use std::process::Command;
//! use supervise_harness::stub;
//!
//! let child = Command::new(stub::path()?).args(["--script", "die SIGSEGV"]).status()?;
//! assert_eq!(child.code(), None);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A supervisor against named rules
//!
//! [`rules`] is a catalogue of rules that supervisors keep. Each one judges a [`Timeline`].
//!
//! # Parts of a supervisor
//!
//! - [`supervisor`] has building blocks, and a reference supervisor that is made of them.
//! - [`backoff`] has strategies that say how long to wait before a restart.
//! - [`clock`] has clocks: tokio's, and one on which an hour passes as soon as a test says so.
//!
//! # Features
//!
//! - `conformance` (default): [`rules`], [`conformance`], and the laws of backoffs in [`properties`].
//! - `properties`: checks that draw their cases with proptest, for restart decisions and restart loops, and the proptest
//!   strategies for your own.
//! - `supervisor`: the parts of a supervisor in [`supervisor`] and [`backoff`]. Without it these modules have only the words that
//!   the rules use.
//! - `serde`: timelines and reports as data, such as JSON.
//!
//! A [`Sim`] needs none of them.

// The modules are in the order of the data flow: a module imports only from modules above it.
#[cfg(any(feature = "conformance", feature = "supervisor"))]
mod causes;

mod said;

mod variables;

mod timestamp;

mod status;

#[cfg(any(feature = "conformance", feature = "supervisor"))]
pub mod backoff;

pub mod clock;

mod pidfd;

#[cfg(any(feature = "conformance", feature = "supervisor"))]
mod flock;

#[cfg(any(feature = "conformance", feature = "supervisor"))]
pub mod supervisor;

mod timeline;

mod script;

pub mod leaks;

mod sim;

#[cfg(feature = "conformance")]
pub mod rules;

#[cfg(feature = "conformance")]
pub mod properties;

#[cfg(feature = "conformance")]
pub mod conformance;

pub use agent_stub as stub;
pub use agent_stub::Signal;
pub use script::Script;
#[cfg(feature = "supervisor")]
pub use sim::agent::Following;
pub use sim::agent::{Agent, Run};
pub use sim::{BodyResult, Sim, SimBuilder, SimError, SimFailure, SimHandle};
pub use status::ExitStatus;
pub use timeline::{
    Event, EventKind, EventSource, RunSpan, Timeline, TimelineClock, TimelineError,
};
pub use timestamp::Timestamp;

#[cfg(test)]
#[path = "../fixtures/sweeper.rs"]
mod sweeper;

/// Compiles the README's examples together with the documentation's.
#[cfg(all(doctest, feature = "properties", feature = "supervisor"))]
#[doc = include_str!("../README.md")]
struct Readme;
