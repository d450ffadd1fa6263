//! One event: when, who, what.

use std::fmt;
use std::sync::Arc;

use agent_stub::script::Stream;
use agent_stub::{Quoted, Signal};

use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// Whom an event is about.
///
/// Prints as `worker#2`, `worker#2/helper` or `subject`. A name that is empty or has anything but
/// `A-Z a-z 0-9 . _ -` in it prints in double quotes.
///
/// ```
/// use supervise_harness::Who;
///
/// assert_eq!(Who::run("worker", 2).to_string(), "worker#2");
/// assert_eq!(Who::descendant("my worker", 2, "helper").to_string(), r##""my worker"#2/helper"##);
/// assert_eq!(Who::Subject.to_string(), "subject");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// One life of an agent, or a process that it started.
    Run {
        /// The agent's name.
        agent: Arc<str>,
        /// Which of the agent's lives, from 1.
        run: u32,
        /// The descendant's name; `None` is the agent itself.
        descendant: Option<Arc<str>>,
    },
    /// What is under test.
    Subject,
}

impl Who {
    /// The agent itself, in its `run`-th life.
    pub fn run(agent: impl Into<Arc<str>>, run: u32) -> Who {
        Who::Run {
            agent: agent.into(),
            run,
            descendant: None,
        }
    }

    /// The descendant `name` of the agent's `run`-th life.
    pub fn descendant(agent: impl Into<Arc<str>>, run: u32, name: impl Into<Arc<str>>) -> Who {
        Who::Run {
            agent: agent.into(),
            run,
            descendant: Some(name.into()),
        }
    }

    /// The agent's name, of its descendants too; `None` for the subject.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        match self {
            Who::Run { agent, .. } => Some(agent),
            Who::Subject => None,
        }
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Run {
                agent,
                run,
                descendant,
            } => {
                write!(f, "{}#{run}", Name(agent))?;
                descendant
                    .as_ref()
                    .map_or(Ok(()), |name| write!(f, "/{}", Name(name)))
            }
            Who::Subject => f.write_str(SUBJECT),
        }
    }
}

/// How the subject prints.
pub(super) const SUBJECT: &str = "subject";

/// Whether a name may have this in it and print without quotes.
pub(super) fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A name, quoted where it has to be.
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
/// Prints as in a [`Timeline`](crate::Timeline), without the padding.
///
/// ```
/// use supervise_harness::{ExitStatus, Signal, What};
///
/// let killed = ExitStatus::Signaled { signal: Signal::SEGV, core_dumped: true };
/// assert_eq!(What::Exit { status: Some(killed) }.to_string(), "exit  signal=SIGSEGV core");
/// assert_eq!(What::Start.to_string(), "start");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum What {
    /// It was started: `start`.
    Start,
    /// It said that it is ready: `ready`.
    Ready,
    /// It said that it is alive: `beat`.
    Beat,
    /// A trapped signal arrived: `signal  SIGTERM count=2`.
    Signal {
        /// The signal.
        signal: Signal,
        /// The how-many-th of its kind in this run, from 1.
        count: u64,
    },
    /// It was stopped, and does nothing: `frozen`.
    Frozen,
    /// It goes on: `thawed`.
    Thawed,
    /// It came to a gate: `gate  "name"`.
    Gate {
        /// The gate's name.
        name: String,
    },
    /// It got an exclusive lock: `locked  "path"`.
    Locked {
        /// The file it locked.
        path: String,
    },
    /// It wrote: `wrote  stdout bytes=64`.
    Wrote {
        /// The stream.
        stream: Stream,
        /// How many bytes.
        bytes: u64,
    },
    /// It cannot go on until somebody reads: `blocked  stdout`.
    Blocked {
        /// The stream.
        stream: Stream,
    },
    /// It ended: `exit  code=1`, `exit  signal=SIGSEGV core` or `exit  status=?`.
    Exit {
        /// How; `None` where nobody could tell.
        status: Option<ExitStatus>,
    },
    /// Its parent took its status, and the process is gone: `reap`. In virtual time a run that is no child of the
    /// test's process, as behind a shell, has it where its parent lived or exited. Where the parent was ended by a signal
    /// with it, or had gone before it, init reaps it, when it pleases, and the timeline does not have that.
    Reap,
    /// The stub could not do what it was told: `error  "text"`.
    Error {
        /// The stub's words.
        text: String,
    },
    /// The subject's own remark: `note  "text"`.
    Note {
        /// The subject's words.
        text: String,
    },
    /// What the harness found, such as a leak or an unreaped zombie: `finding  "text"`.
    Finding {
        /// The harness's words.
        text: String,
    },
}

impl What {
    /// The word that it prints as, before any details.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            What::Start => "start",
            What::Ready => "ready",
            What::Beat => "beat",
            What::Signal { .. } => "signal",
            What::Frozen => "frozen",
            What::Thawed => "thawed",
            What::Gate { .. } => "gate",
            What::Locked { .. } => "locked",
            What::Wrote { .. } => "wrote",
            What::Blocked { .. } => "blocked",
            What::Exit { .. } => "exit",
            What::Reap => "reap",
            What::Error { .. } => "error",
            What::Note { .. } => "note",
            What::Finding { .. } => "finding",
        }
    }

    /// What follows the word; empty where nothing does.
    pub(crate) fn details(&self) -> String {
        match self {
            What::Start | What::Ready | What::Beat | What::Frozen | What::Thawed | What::Reap => {
                String::new()
            }
            What::Signal { signal, count } => format!("{signal} count={count}"),
            What::Wrote { stream, bytes } => format!("{stream} bytes={bytes}"),
            What::Blocked { stream } => stream.to_string(),
            What::Exit { status: None } => "status=?".to_owned(),
            What::Exit {
                status: Some(ExitStatus::Exited { code }),
            } => format!("code={code}"),
            What::Exit {
                status:
                    Some(ExitStatus::Signaled {
                        signal,
                        core_dumped,
                    }),
            } => format!("signal={signal}{}", if *core_dumped { " core" } else { "" }),
            What::Gate { name: text }
            | What::Locked { path: text }
            | What::Error { text }
            | What::Note { text }
            | What::Finding { text } => Quoted::from(text.as_str()).to_string(),
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind())?;
        match self.details() {
            details if details.is_empty() => Ok(()),
            details => write!(f, "  {details}"),
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, by the timeline's clock.
    pub at: Timestamp,
    /// To whom.
    pub who: Who,
    /// What.
    pub what: What,
}

impl Event {
    /// What happened to whom, and when.
    #[must_use]
    pub fn new(at: Timestamp, who: Who, what: What) -> Event {
        Event { at, who, what }
    }
}
