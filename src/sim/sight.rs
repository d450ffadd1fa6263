//! What shows of a sim to the watchdog and to other sims.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

/// What others want to know about the gate: the watchdog, and the gates of other sims.
#[derive(Debug, Default)]
pub(crate) struct Sight {
    /// How often the runtime came to rest.
    pub(crate) parks: AtomicU64,
    /// Whether the runtime is at rest now.
    pub(crate) is_parked: AtomicBool,
    /// Whether the gate had nothing against time passing, the last time.
    pub(crate) is_open: AtomicBool,
    /// How often that was so.
    pub(crate) opens: AtomicU64,
    /// When that was so, the last time that it was.
    pub(crate) opened: Mutex<Option<Instant>>,
    /// Whether the sim is being ended: time passes no more.
    pub(crate) is_over: AtomicBool,
    /// Every child that had not said hello when the gate saw it.
    pub(crate) seen: Mutex<HashSet<u32>>,
    /// What the gate cannot see, and why.
    pub(crate) blind: Mutex<Option<String>>,
}
