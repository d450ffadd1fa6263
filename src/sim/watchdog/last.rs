//! What the watchdog saw at its last look, and when something last moved.

use std::time::{Duration, Instant};

use crate::sim::starved::Starved;
use crate::timestamp::Timestamp;

/// real-time: how much of the time between two looks counts, at most. In between, this process or the machine may have
/// been stopped, and the sim with it.
const COUNTED: Duration = Duration::from_millis(200);

/// What the watchdog saw when something last moved. The times are those of a clock of its own, which stands still while
/// this process is stopped.
#[derive(Debug)]
pub(super) struct Last {
    pub(super) clock: Duration,
    /// When that clock last went on.
    pub(super) looked: Instant,
    pub(super) progress: u64,
    /// How often the runtime had gone on without a sleep by then.
    pub(super) turns: u64,
    pub(super) at: Duration,
    /// How often the runtime had come to rest, at the last look, and since when it has not done so again.
    pub(super) rests: (u64, Duration),
    /// The sim's time at the last look, and since when the sim has had that time; `None` if from the beginning.
    pub(super) now: (Timestamp, Option<Duration>),
    /// How much had happened that is more than talk, at the last look, and since when no more of it has.
    pub(super) lives: (u64, Duration),
    /// In which sleep the sim's thread was at the last look, after how many rests, and since when.
    pub(super) sleep: Option<(String, u64, Duration)>,
    /// Since when there has been no descriptor for an agent that waits for one.
    pub(super) lacks: Option<Duration>,
    /// Whether the server's lock could not be had at the last look.
    pub(super) is_locked_out: bool,
    /// The processes that wait for a processor.
    pub(super) starved: Starved,
}

impl Last {
    /// Moves the clock on by the time since the last look, as far as that time counts. Returns the clock's time.
    pub(super) fn tick(&mut self) -> Duration {
        self.clock += self.looked.elapsed().min(COUNTED);
        self.looked = Instant::now();
        self.clock
    }
}
