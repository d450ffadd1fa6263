//! An agent, as the server knows it.

use std::sync::Arc;

use crate::script::Script;

/// An agent: its script and its runs.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) name: Arc<str>,
    pub(crate) script: Script,
    /// How many run numbers were given out.
    pub(crate) numbers: u32,
    /// The members that are runs of this agent and have said hello, in the order in which they were taken in.
    pub(crate) runs: Vec<usize>,
    /// How many of these runs the test has taken with `Agent::started`.
    pub(crate) taken: usize,
}
