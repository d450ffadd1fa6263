//! A suite of the [rules](crate::rules) for anybody's supervisor.
//!
//! Implement [`Subject`] and [`Session`] for it, declare in a [`Profile`](crate::rules::Profile) what
//! it can do, and put [`suite!`](crate::suite) into a test file: one `#[test]` a rule.
//! [`run`] gives the whole table as a value.
//!
//! Code of one tokio thread is tested in virtual time; anything else, a daemon too, in real time.
//! Rules do not touch each other: each case has a sim of its own, and a subject that panics or hangs
//! in one gets its verdict there.

mod apart;
mod calls;
mod folder;
mod held;
mod inheritance;
mod observe;
mod panics;
mod play;
mod reference;
mod report;
mod sent;
mod shortage;
mod stage;
mod strategy;
mod subject;
mod suite;
mod trial;
mod trials;

pub use apart::{Apart, ApartSession, Placed, Program, serve};
#[doc(hidden)]
pub use observe::{Plan, Step, observe};
#[doc(hidden)]
pub use play::check_within;
pub use play::{check, run};
pub use reference::Reference;
pub use report::{Line, Report};
pub use subject::{Session, Subject, SubjectError};
#[doc(hidden)]
pub use suite::{assert_declared, assert_rule};
