//! How a timeline prints.

use std::fmt;
use std::time::Duration;

use super::{Timeline, TimelineClock, Who};
use crate::timestamp::Timestamp;

/// The version of both written forms, as they are written.
pub(super) const VERSION: u32 = 2;

/// Whether a written form of that version can be read. Version 1 has the same lines; of what happened at one
/// instant it says nothing across agents.
pub(super) fn is_readable(version: u32) -> bool {
    (1..=VERSION).contains(&version)
}

/// The columns of the times and of the kinds, with the gap after them.
const TIME: usize = "+0.000  ".len();
const KIND: usize = "finding  ".len();

/// The text form, version 2: a line for the timeline, a line for each event, no end of line after
/// the last.
///
/// - On a virtual clock an event's line begins with how long after the line before it happened (the
///   first: after the clock's origin), in seconds: three digits after the point, more only where
///   there is more; an hour is `+3600.000`. So a changed delay changes its own line and no other.
///   On a real clock there are no times, and the text is the same where the order is.
/// - The columns of the times and of the kinds have a fixed width. That of the names is as wide as
///   the longest, with one digit for the run: only a longer name moves the other lines, not one more
///   run. What is longer takes of the gap first, down to one space, and then moves the rest of its
///   own line.
/// - Strings and odd names are in double quotes, as in scripts; see [`stub::Quoted`](agent_stub::Quoted).
impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timeline v{VERSION}  clock={}", self.clock)?;
        let names = self.events.iter().map(|event| name_width(&event.who));
        let column = names.max().unwrap_or(0) + 2;
        let mut before = Timestamp::ORIGIN;
        for event in &self.events {
            f.write_str("\n")?;
            if self.clock == TimelineClock::Virtual {
                cell(f, &delta(event.at - before), TIME)?;
                before = event.at;
            }
            cell(f, &event.who.to_string(), column)?;
            match event.what.details() {
                details if details.is_empty() => f.write_str(event.what.kind())?,
                details => {
                    cell(f, event.what.kind(), KIND)?;
                    f.write_str(&details)?;
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for TimelineClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TimelineClock::Virtual => "virtual",
            TimelineClock::Real => "real",
        })
    }
}

/// How wide the name is in characters, were its run of one digit.
fn name_width(who: &Who) -> usize {
    let all = who.to_string().chars().count();
    match who {
        Who::Run { run, .. } => all + 1 - run.to_string().len(),
        Who::Subject => all,
    }
}

/// Text that fills its column and is followed by one space at least.
fn cell(f: &mut fmt::Formatter<'_>, text: &str, column: usize) -> fmt::Result {
    write!(f, "{text:<width$} ", width = column - 1)
}

/// As a [`Timestamp`] prints, between a plus and nothing.
fn delta(since: Duration) -> String {
    let at = (Timestamp::ORIGIN + since).to_string();
    format!("+{}", at.trim_end_matches('s'))
}
