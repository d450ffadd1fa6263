//! What each connection has said, counted against the limits of the server.

use std::collections::{BTreeSet, HashMap};

use crate::timestamp::Timestamp;

/// What each connection has said, and which processes were refused.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// What each member has said at its last instant, by member.
    pub(super) members: HashMap<usize, Spent>,
    /// How many lines each member has said in all, by member.
    pub(super) lines: HashMap<usize, u64>,
    /// The text about the limit that was exceeded, if one was.
    pub(super) excess: Option<String>,
    /// The instant of the last end, and how many processes have ended at it.
    pub(super) ends: (Timestamp, u64),
    /// Processes that were refused. Only the first are named.
    pub(super) refused: BTreeSet<u32>,
    /// The limit on this process's descriptors, and how many members were alive, when no descriptor was left.
    pub(super) lack: Option<(u64, u64)>,
}

/// What a connection has said at one instant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Spent {
    pub(super) since: Timestamp,
    pub(super) lines: usize,
    /// How many bytes it had said before that instant.
    pub(super) before: u64,
}
