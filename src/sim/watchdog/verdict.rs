//! Why a sim was ended.

use std::time::{Duration, Instant};

use crate::timeline::Timeline;

/// Why a sim was ended.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) text: String,
    /// What had happened by then.
    pub(crate) timeline: Timeline,
    pub(crate) given: Instant,
    /// When the verdict was given, by the watchdog's clock.
    pub(super) at: Duration,
    /// Whether the code under test held the thread.
    pub(super) is_held: bool,
}
