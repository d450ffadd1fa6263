//! Timelines: what happened, in order.

// In the order of the data flow: a module imports only from modules above it.
mod event;

mod record;

mod text;

mod parse;

#[cfg(feature = "serde")]
mod json;

mod recorder;

pub use event::{Event, EventKind, EventSource};
pub use parse::TimelineError;
pub use record::{RunSpan, Timeline, TimelineClock};
pub(crate) use recorder::{Instant, Recorder};
