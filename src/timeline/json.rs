//! The form of a timeline for machines, such as JSON.

use agent_stub::Signal;
use agent_stub::script::Stream;
use serde::de::Error as _;
use serde::ser::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use std::time::Duration;

use super::event::{Event, EventKind, EventSource};
use super::record::{Timeline, TimelineClock};
use super::text::{VERSION, is_readable};
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// A timeline as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    version: u32,
    clock: String,
    events: Vec<Row>,
}

/// An event as it is written: flat, with a field name for each value.
#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Row {
    #[serde(skip_serializing_if = "Option::is_none")]
    at_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    subject: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    descendant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    core: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// The value of `status` in an exit that has neither a code nor a signal.
const UNKNOWN: &str = "unknown";

/// Writes version 2: `{"version":2,"clock":"virtual","events":[…]}`. Each event is flat:
/// `{"at_ns":200000000,"agent":"worker","run":1,"kind":"exit","code":1}`.
///
/// - `at_ns` is the time in nanoseconds after the clock's origin. It is there on a real clock too.
/// - An event of a descendant has `descendant` as well. An event of the subject has `"subject":true`
///   instead of `agent` and `run`.
/// - `kind` is [`EventKind::kind`].
/// - An exit has `code`, or `signal` and `core`, or `"status":"unknown"`.
/// - Any other event has the fields of its [`EventKind`], under the same names. Signals are names, such as
///   `SIGTERM`.
///
/// # Errors
///
/// If a time is more than 584 years after the origin: 64 bits of nanoseconds cannot hold it.
///
/// ```
/// use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
///
/// let start = Event::new(Timestamp::ORIGIN, EventSource::run("worker", 1), EventKind::Start);
/// let json = serde_json::to_string(&Timeline::new(TimelineClock::Virtual, [start]))?;
/// assert_eq!(
///     json,
///     r#"{"version":2,"clock":"virtual","events":[{"at_ns":0,"agent":"worker","run":1,"kind":"start"}]}"#
/// );
/// # Ok::<(), serde_json::Error>(())
/// ```
impl Serialize for Timeline {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let rows = self.events.iter().enumerate().map(|(index, event)| {
            Row::of(event).ok_or_else(|| {
                let at = event.at;
                S::Error::custom(format_args!("events[{index}]: {at} is past 584 years"))
            })
        });
        let written = Written {
            version: VERSION,
            clock: self.clock.to_string(),
            events: rows.collect::<Result<_, _>>()?,
        };
        written.serialize(serializer)
    }
}

/// Reads the form that a timeline serializes to, and orders the events as [`Timeline::new`] does.
///
/// # Errors
///
/// The error names the event by its index and the field by its name. These are errors:
/// - a version other than 1 or 2;
/// - a field that is missing or unknown;
/// - a field that does not go with the other fields of its event;
/// - an invalid value.
impl<'de> Deserialize<'de> for Timeline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Timeline, D::Error> {
        let written = Written::deserialize(deserializer)?;
        if !is_readable(written.version) {
            return Err(D::Error::custom(format_args!(
                "version is {}: expected 1 or {VERSION}",
                written.version
            )));
        }
        let clock = match written.clock.as_str() {
            "virtual" => TimelineClock::Virtual,
            "real" => TimelineClock::Real,
            other => {
                return Err(D::Error::custom(format_args!(
                    "clock is `{other}`: expected `virtual` or `real`"
                )));
            }
        };
        let events = written.events.into_iter().enumerate().map(|(index, row)| {
            row.event()
                .map_err(|error| D::Error::custom(format_args!("events[{index}]: {error}")))
        });
        Ok(Timeline::new(clock, events.collect::<Result<Vec<_>, _>>()?))
    }
}

impl Row {
    /// Makes the row for an event. `None` if its time needs more than 64 bits of nanoseconds.
    fn of(event: &Event) -> Option<Row> {
        let mut row = Row {
            at_ns: Some(u64::try_from(event.at.since_origin().as_nanos()).ok()?),
            kind: Some(event.what.kind().to_owned()),
            ..Row::default()
        };
        match &event.who {
            EventSource::Run {
                agent,
                run,
                descendant,
            } => {
                row.agent = Some(agent.to_string());
                row.run = Some(*run);
                row.descendant = descendant.as_ref().map(ToString::to_string);
            }
            EventSource::Subject => row.subject = Some(true),
        }
        match &event.what {
            EventKind::Start
            | EventKind::Ready
            | EventKind::Beat
            | EventKind::Frozen
            | EventKind::Thawed
            | EventKind::Reap => {}
            EventKind::Signal { signal, count } => {
                row.signal = Some(signal.to_string());
                row.count = Some(*count);
            }
            EventKind::Gate { name } => row.name = Some(name.clone()),
            EventKind::Locked { path } => row.path = Some(path.clone()),
            EventKind::Wrote { stream, bytes } => {
                row.stream = Some(stream.to_string());
                row.bytes = Some(*bytes);
            }
            EventKind::Blocked { stream } => row.stream = Some(stream.to_string()),
            EventKind::Exit { status: None } => row.status = Some(UNKNOWN.to_owned()),
            EventKind::Exit {
                status: Some(ExitStatus::Exited { code }),
            } => row.code = Some(*code),
            EventKind::Exit {
                status:
                    Some(ExitStatus::Signaled {
                        signal,
                        core_dumped,
                    }),
            } => {
                row.signal = Some(signal.to_string());
                row.core = Some(*core_dumped);
            }
            EventKind::Error { text } | EventKind::Note { text } | EventKind::Finding { text } => {
                row.text = Some(text.clone());
            }
        }
        Some(row)
    }

    fn event(mut self) -> Result<Event, String> {
        let at = Timestamp::ORIGIN + Duration::from_nanos(need(self.at_ns.take(), "at_ns")?);
        let who = self.who()?;
        let kind = need(self.kind.take(), "kind")?;
        let what = self.what(&kind)?;
        // A field that is still there belongs to another kind of event.
        match self {
            row if row == Row::default() => Ok(Event::new(at, who, what)),
            row => Err(format!(
                "`{}` does not belong to `{kind}`",
                row.first_field()
            )),
        }
    }

    fn who(&mut self) -> Result<EventSource, String> {
        match self.subject.take() {
            None => {}
            Some(true)
                if self.agent.is_some() || self.run.is_some() || self.descendant.is_some() =>
            {
                return Err("`subject` does not go with `agent`, `run` or `descendant`".to_owned());
            }
            Some(true) => return Ok(EventSource::Subject),
            Some(false) => {
                return Err("`subject` is false: expected true, or no such field".to_owned());
            }
        }
        let agent = need(self.agent.take(), "agent")?;
        let run = need(self.run.take(), "run")?;
        Ok(match self.descendant.take() {
            Some(name) => EventSource::descendant(agent, run, name),
            None => EventSource::run(agent, run),
        })
    }

    fn what(&mut self, kind: &str) -> Result<EventKind, String> {
        Ok(match kind {
            "start" => EventKind::Start,
            "ready" => EventKind::Ready,
            "beat" => EventKind::Beat,
            "frozen" => EventKind::Frozen,
            "thawed" => EventKind::Thawed,
            "reap" => EventKind::Reap,
            "signal" => EventKind::Signal {
                signal: self.signal()?,
                count: need(self.count.take(), "count")?,
            },
            "gate" => EventKind::Gate {
                name: need(self.name.take(), "name")?,
            },
            "locked" => EventKind::Locked {
                path: need(self.path.take(), "path")?,
            },
            "wrote" => EventKind::Wrote {
                stream: self.stream()?,
                bytes: need(self.bytes.take(), "bytes")?,
            },
            "blocked" => EventKind::Blocked {
                stream: self.stream()?,
            },
            "exit" => EventKind::Exit {
                status: self.status()?,
            },
            "error" => EventKind::Error {
                text: need(self.text.take(), "text")?,
            },
            "note" => EventKind::Note {
                text: need(self.text.take(), "text")?,
            },
            "finding" => EventKind::Finding {
                text: need(self.text.take(), "text")?,
            },
            other => return Err(format!("`kind` is `{other}`: expected one such as `start`")),
        })
    }

    fn status(&mut self) -> Result<Option<ExitStatus>, String> {
        if let Some(code) = self.code.take() {
            return Ok(Some(ExitStatus::Exited { code }));
        }
        if self.signal.is_some() {
            return Ok(Some(ExitStatus::Signaled {
                signal: self.signal()?,
                core_dumped: need(self.core.take(), "core")?,
            }));
        }
        match self.status.take() {
            Some(status) if status == UNKNOWN => Ok(None),
            Some(status) => Err(format!("`status` is `{status}`: expected `{UNKNOWN}`")),
            None => Err("none of `code`, `signal` and `status` is there".to_owned()),
        }
    }

    fn signal(&mut self) -> Result<Signal, String> {
        let name = need(self.signal.take(), "signal")?;
        name.parse().map_err(|error| format!("`signal`: {error}"))
    }

    fn stream(&mut self) -> Result<Stream, String> {
        match need(self.stream.take(), "stream")?.as_str() {
            "stdin" => Ok(Stream::Stdin),
            "stdout" => Ok(Stream::Stdout),
            "stderr" => Ok(Stream::Stderr),
            other => Err(format!(
                "`stream` is `{other}`: expected `stdin`, `stdout` or `stderr`"
            )),
        }
    }

    /// The name of the first field that is still there.
    fn first_field(&self) -> &'static str {
        let fields = [
            (self.code.is_some(), "code"),
            (self.signal.is_some(), "signal"),
            (self.core.is_some(), "core"),
            (self.status.is_some(), "status"),
            (self.count.is_some(), "count"),
            (self.stream.is_some(), "stream"),
            (self.bytes.is_some(), "bytes"),
            (self.name.is_some(), "name"),
            (self.path.is_some(), "path"),
            (self.text.is_some(), "text"),
        ];
        let present = fields.iter().find(|(there, _)| *there);
        present.map_or("a field", |(_, name)| name)
    }
}

fn need<T>(field: Option<T>, name: &str) -> Result<T, String> {
    field.ok_or_else(|| format!("`{name}` is missing"))
}
