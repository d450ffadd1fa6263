//! One event: when, who, what.

use std::fmt;
use std::sync::Arc;

use agent_stub::script::Stream;
use agent_stub::{Quoted, Signal};

use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// Whom an event is about: a run of an agent, a descendant of a run, or the subject.
///
/// Prints as `worker#2`, `worker#2/helper` or `subject`. A name prints in double quotes if it is
/// empty or has a character other than `A-Z a-z 0-9 . _ -`.
///
/// ```
/// use supervise_harness::EventSource;
///
/// assert_eq!(EventSource::run("worker", 2).to_string(), "worker#2");
/// assert_eq!(EventSource::descendant("my worker", 2, "helper").to_string(), r##""my worker"#2/helper"##);
/// assert_eq!(EventSource::Subject.to_string(), "subject");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventSource {
    /// One run of an agent, or a descendant of this run.
    Run {
        /// The agent's name.
        agent: Arc<str>,
        /// The number of the agent's run, from 1.
        run: u32,
        /// The descendant's name; `None` means the agent itself.
        descendant: Option<Arc<str>>,
    },
    /// The code under test.
    Subject,
}

impl EventSource {
    /// Names the agent itself, in its run number `run`.
    pub fn run(agent: impl Into<Arc<str>>, run: u32) -> EventSource {
        EventSource::Run {
            agent: agent.into(),
            run,
            descendant: None,
        }
    }

    /// Names the descendant `name` of the agent's run number `run`.
    pub fn descendant(
        agent: impl Into<Arc<str>>,
        run: u32,
        name: impl Into<Arc<str>>,
    ) -> EventSource {
        EventSource::Run {
            agent: agent.into(),
            run,
            descendant: Some(name.into()),
        }
    }

    /// The agent's name. For a descendant it is the name of the agent whose run it belongs to. `None`
    /// for the subject.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        match self {
            EventSource::Run { agent, .. } => Some(agent),
            EventSource::Subject => None,
        }
    }
}

impl fmt::Display for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventSource::Run {
                agent,
                run,
                descendant,
            } => {
                write!(f, "{}#{run}", Name(agent))?;
                descendant
                    .as_ref()
                    .map_or(Ok(()), |name| write!(f, "/{}", Name(name)))
            }
            EventSource::Subject => f.write_str(SUBJECT),
        }
    }
}

/// The text that the subject prints as.
pub(super) const SUBJECT: &str = "subject";

/// Whether a name with this character can print without quotes.
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A name that prints in quotes if it needs them.
struct Name<'a>(&'a str);

impl fmt::Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.0.is_empty() && self.0.chars().all(is_plain) {
            f.write_str(self.0)
        } else {
            Quoted::from(self.0).fmt(f)
        }
    }
}

/// What happened.
///
/// Prints as it does in a [`Timeline`](crate::Timeline), but without the padding.
///
/// ```
/// use supervise_harness::{ExitStatus, Signal, EventKind};
///
/// let killed = ExitStatus::Signaled { signal: Signal::SEGV, core_dumped: true };
/// assert_eq!(EventKind::Exit { status: Some(killed) }.to_string(), "exit  signal=SIGSEGV core");
/// assert_eq!(EventKind::Start.to_string(), "start");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventKind {
    /// The process was started: `start`.
    Start,
    /// The process said that it is ready: `ready`.
    Ready,
    /// The process said that it is alive: `beat`.
    Beat,
    /// A trapped signal arrived: `signal  SIGTERM count=2`.
    Signal {
        /// The signal.
        signal: Signal,
        /// How often this signal has arrived in this run, this time included.
        count: u64,
    },
    /// The process was stopped, and does nothing: `frozen`.
    Frozen,
    /// The process continues after it was frozen: `thawed`.
    Thawed,
    /// The process reached a gate: `gate  "name"`.
    Gate {
        /// The gate's name.
        name: String,
    },
    /// The process got an exclusive lock: `locked  "path"`.
    Locked {
        /// The file that it locked.
        path: String,
    },
    /// The process wrote to a stream: `wrote  stdout bytes=64`.
    Wrote {
        /// The stream.
        stream: Stream,
        /// How many bytes it wrote.
        bytes: u64,
    },
    /// The process cannot go on until somebody reads from the stream: `blocked  stdout`.
    Blocked {
        /// The stream.
        stream: Stream,
    },
    /// The process ended: `exit  code=1`, `exit  signal=SIGSEGV core` or `exit  status=?`.
    Exit {
        /// How the process ended; `None` if nobody could tell.
        status: Option<ExitStatus>,
    },
    /// The parent took the status of a run, and the process is gone: `reap`.
    ///
    /// In virtual time, the parent may be another process than the test's, such as a shell. The
    /// timeline then has the reap if that parent was still alive or had exited by itself. It does not
    /// have the reap in these cases:
    /// - A signal ended the parent together with the run, or the parent was gone before. Then init
    ///   reaps the run, at a time that nobody controls.
    /// - The parent ended too, and it was last seen in a read, as a shell in a loop of `read`. Then it is
    ///   uncertain whether the parent or init reaped the run.
    Reap,
    /// The stub could not do what it was told: `error  "text"`.
    Error {
        /// The stub's message.
        text: String,
    },
    /// A remark that the test wrote into the timeline, or that a followed supervisor made:
    /// `note  "text"`.
    Note {
        /// The text of the remark.
        text: String,
    },
    /// A problem that the harness found, such as a leak or an unreaped zombie: `finding  "text"`.
    Finding {
        /// The harness's message.
        text: String,
    },
}

impl EventKind {
    /// The word that an event of this kind prints as, before any details.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            EventKind::Start => "start",
            EventKind::Ready => "ready",
            EventKind::Beat => "beat",
            EventKind::Signal { .. } => "signal",
            EventKind::Frozen => "frozen",
            EventKind::Thawed => "thawed",
            EventKind::Gate { .. } => "gate",
            EventKind::Locked { .. } => "locked",
            EventKind::Wrote { .. } => "wrote",
            EventKind::Blocked { .. } => "blocked",
            EventKind::Exit { .. } => "exit",
            EventKind::Reap => "reap",
            EventKind::Error { .. } => "error",
            EventKind::Note { .. } => "note",
            EventKind::Finding { .. } => "finding",
        }
    }

    /// The text that follows the word; empty if nothing does.
    pub(crate) fn details(&self) -> String {
        match self {
            EventKind::Start
            | EventKind::Ready
            | EventKind::Beat
            | EventKind::Frozen
            | EventKind::Thawed
            | EventKind::Reap => String::new(),
            EventKind::Signal { signal, count } => format!("{signal} count={count}"),
            EventKind::Wrote { stream, bytes } => format!("{stream} bytes={bytes}"),
            EventKind::Blocked { stream } => stream.to_string(),
            EventKind::Exit { status: None } => "status=?".to_owned(),
            EventKind::Exit {
                status: Some(ExitStatus::Exited { code }),
            } => format!("code={code}"),
            EventKind::Exit {
                status:
                    Some(ExitStatus::Signaled {
                        signal,
                        core_dumped,
                    }),
            } => format!("signal={signal}{}", if *core_dumped { " core" } else { "" }),
            EventKind::Gate { name: text }
            | EventKind::Locked { path: text }
            | EventKind::Error { text }
            | EventKind::Note { text }
            | EventKind::Finding { text } => Quoted::from(text.as_str()).to_string(),
        }
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self.details() {
            details if details.is_empty() => Ok(()),
            details => write!(f, "  {details}"),
        }
    }
}

/// One event: what happened, to whom, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When it happened, by the timeline's clock.
    pub at: Timestamp,
    /// To whom it happened.
    pub who: EventSource,
    /// What happened.
    pub what: EventKind,
}

impl Event {
    /// Makes an event: `what` happened to `who` at `at`.
    #[must_use]
    pub fn new(at: Timestamp, who: EventSource, what: EventKind) -> Event {
        Event { at, who, what }
    }
}
