//! A script and its statements: what they consist of, and how they print.

use std::fmt;
use std::time::Duration;

use super::units::{Size, Time};
use crate::quoted::Quoted;
use crate::signal::Signal;

/// A sequence of statements, one after the other.
///
/// Statements are separated by `;` or a line end; `#` starts a comment. Prints on one line, and
/// what it prints parses to the same script.
///
/// ```
/// use agent_stub::script::Script;
///
/// let script: Script = "on TERM { run 2s; exit 0 }\nready; stay".parse().unwrap();
/// assert_eq!(script.to_string(), "on SIGTERM { run 2s; exit 0 }; ready; stay");
///
/// let error = "run 200ms; exit 300".parse::<Script>().unwrap_err();
/// assert_eq!(error.to_string(), "line 1, column 17: expected an exit code from 0 to 255, found `300`");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Script(pub Vec<Statement>);

/// One step of a script. [`TABLE`](super::TABLE) says what each does.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Statement {
    /// `run 200ms`: stays up that long.
    Run(Duration),
    /// `stay`: stays up until told otherwise or killed.
    Stay,
    /// `exit 3`: exits with that code.
    Exit(u8),
    /// `die SIGSEGV`: dies by that signal; with `core`, leaves core dumps to the system's settings.
    Die {
        /// The signal to die of: one whose default action ends a process.
        signal: Signal,
        /// Whether a core dump may be written.
        core: bool,
    },
    /// `freeze`: stops itself with SIGSTOP.
    Freeze,
    /// `on SIGTERM …`: what to do when that signal comes.
    On(Signal, Response),
    /// `block SIGTERM`: adds the signal to the blocked mask.
    Block(Signal),
    /// `unblock SIGTERM`: takes the signal out of the blocked mask.
    Unblock(Signal),
    /// `start NAME … { … }`: starts a descendant.
    Start(Descendant),
    /// `write …`: writes to a stream.
    Write(Stream, Content),
    /// `close stdout`: closes a stream.
    Close(Stream),
    /// `ready …`: announces readiness.
    Ready(Channel),
    /// `beat …`: sends one heartbeat.
    Beat(Channel),
    /// `lock PATH`: takes an exclusive lock and holds it until the end.
    Lock(Quoted),
    /// `gate NAME` or `gate file PATH`: waits until the gate is opened.
    Gate(Gate),
    /// `hygiene …`: reports what it inherited.
    Hygiene(Destination),
    /// `repeat 3 { … }`: runs the block that often.
    Repeat(u32, Script),
    /// `forever { … }`: runs the block until something ends the process.
    Forever(Script),
    /// `first 3 PATH { … }`: runs the block only in the first runs, counted in the file.
    First {
        /// In how many runs.
        runs: u32,
        /// The file that holds the count.
        counter: Quoted,
        /// What to run.
        script: Script,
    },
}

/// What a signal does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// `ignore`: the disposition is SIG_IGN.
    Ignore,
    /// `default`: the disposition is SIG_DFL.
    Default,
    /// `count`: trapped, counted, reported; nothing else.
    Count,
    /// `{ … }`: trapped, counted, reported; then the block runs, before whatever was going on.
    Handle(Script),
}

/// A descendant: another process of the same program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descendant {
    /// Its name.
    pub name: Quoted,
    /// Which process group and session it is in.
    pub placement: Placement,
    /// What becomes of its standard streams.
    pub output: Output,
    /// What it does.
    pub script: Script,
}

/// Which process group and session a descendant is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Placement {
    /// Its parent's.
    #[default]
    SameGroup,
    /// A group of its own.
    OwnGroup,
    /// A session of its own.
    OwnSession,
    /// A session of its own, and its parent gone: the daemon's double fork.
    DoubleFork,
}

/// What becomes of a descendant's standard streams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Output {
    /// It holds its parent's.
    #[default]
    Hold,
    /// They are /dev/null.
    Quiet,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Descriptor 0.
    Stdin,
    /// Descriptor 1.
    Stdout,
    /// Descriptor 2.
    Stderr,
}

impl Stream {
    /// The stream's descriptor.
    #[must_use]
    pub fn descriptor(self) -> i32 {
        match self {
            Stream::Stdin => 0,
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }
}

/// What to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// These bytes, as they are.
    Text(Quoted),
    /// That many bytes of numbered 64-byte lines, so that what is lost can be told.
    Fill(u64),
}

/// How readiness and heartbeats are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// A message on the control connection.
    Control,
    /// A newline on a descriptor, as s6 has it.
    Fd(u16),
    /// A datagram to `$NOTIFY_SOCKET`, as systemd has it.
    Notify,
    /// A line added to a file.
    File(Quoted),
}

/// What a script waits at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gate {
    /// A name that the control connection opens.
    Control(Quoted),
    /// A file that comes to exist.
    File(Quoted),
}

/// Where the hygiene report goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// Messages on the control connection, or lines on standard output without one.
    Control,
    /// Lines on standard output.
    Stdout,
    /// Lines in a file.
    File(Quoted),
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, statement) in self.0.iter().enumerate() {
            write!(f, "{}{statement}", if n == 0 { "" } else { "; " })?;
        }
        Ok(())
    }
}

/// A script in braces.
struct Braced<'a>(&'a Script);

impl fmt::Display for Braced<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.0.is_empty() {
            f.write_str("{ }")
        } else {
            write!(f, "{{ {} }}", self.0)
        }
    }
}

impl fmt::Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Statement::Run(time) => write!(f, "run {}", Time(*time)),
            Statement::Stay => f.write_str("stay"),
            Statement::Exit(code) => write!(f, "exit {code}"),
            Statement::Die { signal, core } => {
                write!(f, "die {signal}{}", if *core { " core" } else { "" })
            }
            Statement::Freeze => f.write_str("freeze"),
            Statement::On(signal, response) => write!(f, "on {signal} {response}"),
            Statement::Block(signal) => write!(f, "block {signal}"),
            Statement::Unblock(signal) => write!(f, "unblock {signal}"),
            Statement::Start(Descendant {
                name,
                placement,
                output,
                script,
            }) => {
                write!(f, "start {name} {placement} {output} {}", Braced(script))
            }
            Statement::Write(Stream::Stdout, content) => write!(f, "write {content}"),
            Statement::Write(stream, content) => write!(f, "write {stream} {content}"),
            Statement::Close(stream) => write!(f, "close {stream}"),
            Statement::Ready(channel) => write!(f, "ready{channel}"),
            Statement::Beat(channel) => write!(f, "beat{channel}"),
            Statement::Lock(path) => write!(f, "lock {path}"),
            Statement::Gate(Gate::Control(name)) => write!(f, "gate {name}"),
            Statement::Gate(Gate::File(path)) => write!(f, "gate file {path}"),
            Statement::Hygiene(Destination::Control) => f.write_str("hygiene"),
            Statement::Hygiene(Destination::Stdout) => f.write_str("hygiene stdout"),
            Statement::Hygiene(Destination::File(path)) => write!(f, "hygiene file {path}"),
            Statement::Repeat(times, script) => write!(f, "repeat {times} {}", Braced(script)),
            Statement::Forever(script) => write!(f, "forever {}", Braced(script)),
            Statement::First {
                runs,
                counter,
                script,
            } => write!(f, "first {runs} {counter} {}", Braced(script)),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Response::Ignore => f.write_str("ignore"),
            Response::Default => f.write_str("default"),
            Response::Count => f.write_str("count"),
            Response::Handle(script) => write!(f, "{}", Braced(script)),
        }
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Placement::SameGroup => "same-group",
            Placement::OwnGroup => "own-group",
            Placement::OwnSession => "own-session",
            Placement::DoubleFork => "double-fork",
        })
    }
}

impl fmt::Display for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Output::Hold => "hold",
            Output::Quiet => "quiet",
        })
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stream::Stdin => "stdin",
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        })
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Text(text) => write!(f, "{text}"),
            Content::Fill(bytes) => write!(f, "{}", Size(*bytes)),
        }
    }
}

/// With the space before it; nothing for the control connection, which is what no word means.
impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Channel::Control => Ok(()),
            Channel::Fd(descriptor) => write!(f, " fd {descriptor}"),
            Channel::Notify => f.write_str(" notify"),
            Channel::File(path) => write!(f, " file {path}"),
        }
    }
}
