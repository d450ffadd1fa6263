//! How a timeline prints.

use std::fmt;
use std::time::Duration;

use super::event::EventSource;
use super::record::{Timeline, TimelineClock};
use crate::timestamp::Timestamp;

/// The version that is written, both of the text and of the JSON.
pub(super) const VERSION: u32 = 2;

/// Whether this crate can read that version. Version 1 has the same lines, but the order of its events at one
/// instant says nothing about different agents.
pub(super) fn is_readable(version: u32) -> bool {
    (1..=VERSION).contains(&version)
}

/// The widths of the columns of times and of kinds, with the gap after them.
const TIME: usize = "+0.000  ".len();
const KIND: usize = "finding  ".len();

/// Prints the text form, version 2: one line for the timeline, then one line for each event. There is no
/// end of line after the last line.
///
/// - On a virtual clock, the line of an event begins with the time since the event before. For the first
///   event, it is the time since the clock's origin. The time is in seconds, with three digits after the
///   point, or more if they are needed; an hour is `+3600.000`. A changed delay therefore changes only its
///   own line.
/// - On a real clock there are no times. Timelines with the same events in the same order have the same text.
/// - The columns of times and of kinds have a fixed width. The column of names is as wide as the longest
///   name, counted with one digit for the run. Only a longer name moves the other lines; one more run does
///   not. A text that is too long first uses the gap after it, down to one space. Then it moves the rest of
///   its own line.
/// - Strings, and names with unusual characters, are in double quotes, as in scripts; see
///   [`stub::Quoted`](agent_stub::Quoted).
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

/// The width of the name in characters, counted as if its run number had one digit.
fn name_width(who: &EventSource) -> usize {
    let all = who.to_string().chars().count();
    match who {
        EventSource::Run { run, .. } => all + 1 - run.to_string().len(),
        EventSource::Subject => all,
    }
}

/// Writes the text, padded to its column, with at least one space after it.
fn cell(f: &mut fmt::Formatter<'_>, text: &str, column: usize) -> fmt::Result {
    write!(f, "{text:<width$} ", width = column - 1)
}

/// The time as a [`Timestamp`] prints it, with a plus before it and without the `s` at its end.
fn delta(since: Duration) -> String {
    let at = (Timestamp::ORIGIN + since).to_string();
    format!("+{}", at.trim_end_matches('s'))
}
