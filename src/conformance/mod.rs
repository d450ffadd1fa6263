//! Checks any supervisor against the [rules](crate::rules).
//!
//! To test your supervisor:
//! - Implement [`Subject`] and [`Session`] for it.
//! - Declare its features in a [`Profile`](crate::rules::Profile).
//! - Put [`suite!`](crate::suite) into a test file. It makes one `#[test]` for each rule.
//!
//! [`run`] judges all rules at once and returns the verdicts as a table.
//!
//! Code that runs on one tokio thread is tested in virtual time. Anything else, for example a
//! daemon, is tested in real time. The profile says which.
//!
//! One rule does not affect another: each case runs in a sim of its own. A subject that panics or
//! hangs in a case affects only the verdict of that case's rule.

// A module imports only from modules above it.
mod panics;

mod held;

mod calls;

mod sent;

mod inheritance;

mod trial_error;

mod folder;

mod shortage;

mod subject;

#[cfg(feature = "supervisor")]
mod reference;

mod apart;

mod stage;

mod live;

mod trial;

mod trials;

mod strategy;

mod report;

mod play;

mod observe;

mod suite;

pub use apart::{Apart, ApartSession, PlacedSession, Program, serve};
#[doc(hidden)]
pub use observe::{Plan, Step, observe};
#[doc(hidden)]
pub use play::check_within;
pub use play::{check, run};
#[cfg(feature = "supervisor")]
pub use reference::Reference;
pub use report::{Line, SuiteReport};
pub use subject::{Session, Subject, SubjectError};
#[doc(hidden)]
pub use suite::{assert_declared, assert_rule};
