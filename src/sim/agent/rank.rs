//! The order of the processes of a sim.

/// Where a process stands among those of the sim: by agent, by run, and then by who started whom. This
/// order comes from the script and the code under test, never from which process was faster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    /// The agent's place.
    pub(crate) agent: usize,
    pub(crate) run: u32,
    /// For which time each of its ancestors, from the run on, started a process. `[2, 1]` is the first
    /// process that was started by the second process that the run started. Empty for the run itself.
    pub(crate) path: Vec<u32>,
}
