//! Finds what a test leaves behind: child processes, zombies and orphaned descendants; if asked,
//! also descriptors and threads.
//!
//! ```
//! use std::process::Command;
//! use supervise_harness::{leaks, stub};
//!
//! let guard = leaks::Guard::new();
//! let mut command = Command::new(stub::path()?);
//! let mut child = guard.mark_command(&mut command).args(["--script", "stay"]).spawn()?;
//! child.kill()?;
//! // Without this the guard would say: a zombie, killed by SIGKILL, that nobody reaped.
//! child.wait()?;
//! guard.check()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Which processes
//!
//! Tests run beside each other in one process. So a guard blames only processes that it can
//! identify, and it does not wait for any of them to go away by itself. It blames:
//!
//! - the children that the guard's thread has forked since the guard was made; with
//!   [`GuardBuilder::all_threads`], those of all threads;
//! - every process that bears the guard's [mark](Guard::mark) in its environment or its arguments,
//!   wherever it was re-parented: descendants inherit the mark;
//! - the descendants of those;
//! - the members of the process groups and sessions that one of those leads, or that a
//!   [watched](Guard::watch) child led.
//!
//! To the guard, a process is a number and a start time. A process is blamed if it lives when the
//! guard is checked. A process that has been sent SIGKILL, or is in the kernel's exit, does not
//! count as alive. A child of this process that has ended is blamed until somebody reaps it. A
//! frozen stub has a process that guards it. That process is not blamed: it ends with the stub.
//!
//! The leak guard ends every process that it finds, and reaps it if it is a child of this process.
//! It sends SIGKILL at once to a stub that bears the mark. It stops any other process first, so
//! that the process cannot fork meanwhile. It also has the kernel kill that process if this one
//! ends. So a test that is itself killed at that moment leaves no stopped process behind.
//!
//! A process is in the middle of its start while it shows no arguments, or while it is a child of
//! this process and still shows the arguments of this one. The guard then looks at it again, up to
//! a thousand times, and yields the processor in between. It does not sleep. If that is not enough,
//! the guard can miss marked commands that another thread is only just starting.
//!
//! # What it cannot see
//!
//! - An orphan that has cleared its environment, has no mark in its arguments, and has left the
//!   group and the session of every process that the guard knows.
//! - The environment of a process that became another user's.
//! - A mark that a process acquires by an exec, if the process was there before the guard was made.
//! - Children that another thread forked, without a mark or [`GuardBuilder::all_threads`].

// A module imports only from modules above it.
mod proc;

mod descriptors;

mod found;

mod hold;

mod look;

mod end;

mod report;

mod guard;

mod identities;

pub(crate) use end::end_processes_of;
pub use found::{Fate, Found, Owner, ProcessState};
pub use guard::{Guard, GuardBuilder};
pub(crate) use identities::{children_of, processes_where};
pub(crate) use proc::Identity;
pub use proc::Unreadable;
pub use report::{Descriptor, Leaks, Thread};
