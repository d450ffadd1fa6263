//! The harness's side of an agent: its script, its runs, and what they did.

// A module imports only from modules above it.
mod rank;

mod parent;

mod connection;

mod member;

mod server;

mod locked;

mod waits;

mod shared;

mod run;

#[cfg(feature = "supervisor")]
mod following;

mod handle;

#[cfg(feature = "supervisor")]
pub use following::Following;
pub use handle::Agent;
pub(crate) use locked::Locked;
#[cfg(feature = "conformance")]
pub(crate) use locked::at_work;
pub(crate) use member::{KernelState, Member};
pub(crate) use parent::parent_and_start;
pub use run::Run;
pub(crate) use server::Server;
pub(crate) use shared::Shared;
