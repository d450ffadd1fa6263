//! The control connection: one message a line, text, the same types for both directions.
//!
//! A connection carries [`Order`]s to the agent and [`Report`]s from it. Each is one line of UTF-8
//! that ends with `\n` and is at most [`MAX_LINE`] bytes long or, where it carries a script,
//! [`MAX_ORDER`]. A line that is too long, not UTF-8 or
//! no message is an error that both sides can name and survive; the agent answers it with an
//! [`Report::Error`] and goes on.

use std::fmt;
use std::str::FromStr;

use crate::hygiene::Finding;
use crate::line::Fields;
pub use crate::line::{Lines, MAX_LINE, MAX_ORDER, MessageError};
use crate::quoted::Quoted;
use crate::script::{Script, Stream};
use crate::signal::Signal;

/// The version that [`Report::Hello`] carries. Both sides speak one version only.
pub const VERSION: u32 = 2;

/// What the harness tells an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// `do SCRIPT`: obeyed at once, before whatever the agent is doing, which then goes on.
    Do(Script),
    /// `go 7`: the wait with that number is over, or the turn with that number is granted. By the
    /// harness's clock the agent has a turn from then on, until it acts or rests, as it has after
    /// every order but a ping.
    Go(u64),
    /// `open "name"`: lets one passage through that gate, now or when it comes to it.
    Open(Quoted),
    /// `ping 7`: to be answered once nothing is left to do but wait.
    Ping(u64),
}

/// What an agent tells the harness.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// The first line of a connection: who it is.
    Hello {
        /// The protocol's version.
        version: u32,
        /// The process.
        pid: u32,
        /// Its parent.
        ppid: u32,
        /// The agent's name.
        agent: Quoted,
        /// Which descendant it is, where it is one.
        descendant: Option<Lineage>,
    },
    /// It waits, by the harness's clock.
    Wait {
        /// The wait's number, for [`Order::Go`].
        id: u64,
        /// How long, in nanoseconds.
        nanos: u64,
    },
    /// By the harness's clock only: it asks for its turn. It does nothing that anybody else can see (a
    /// write, a word, an exit) before the harness says [`Order::Go`] with that number.
    Turn {
        /// The turn's number, drawn with those of the waits.
        id: u64,
        /// Whether a trapped signal is the reason, which comes before whatever else is due.
        signal: bool,
    },
    /// By the harness's clock only: it waits for that file, and looks again at each [`Order::Ping`],
    /// before it answers. Said again with each [`Report::Rest`] as long as it waits.
    Watching(Quoted),
    /// It has nothing to do until an order comes.
    Idle,
    /// By the harness's clock only: nothing is left to do but wait, after so many orders other than
    /// pings. Said again after whatever it does and says next.
    Rest(u64),
    /// It waits at a gate.
    Gate(Quoted),
    /// It cannot go on writing until somebody reads that stream. By the harness's clock it then asks for
    /// another turn.
    Blocked(Stream),
    /// By the harness's clock only: it is about to write so many bytes to the stream at once. Whoever reads them
    /// may end it before it can say that it wrote them.
    Writing(Stream, u64),
    /// It has written that many bytes to the stream.
    Wrote(Stream, u64),
    /// It took a trapped signal, for the n-th time; by the harness's clock, in a turn.
    Got(Signal, u64),
    /// It is ready.
    Ready,
    /// It is alive.
    Beat,
    /// It holds the lock on that file.
    Locked(Quoted),
    /// It started a descendant.
    Started {
        /// For which time it started one, from 1.
        nth: u32,
        /// The descendant's process; absent after a double fork, whose middle process is gone.
        pid: Option<u32>,
        /// The descendant's name.
        name: Quoted,
    },
    /// A descendant of its own ended and was reaped.
    Reaped {
        /// The descendant's process.
        pid: u32,
        /// How it ended, as wait(2) has it; absent where SIGCHLD is ignored, so that the kernel reaped
        /// it. Then this is said when something else wakes the agent.
        status: Option<i32>,
    },
    /// It stops itself.
    Freezing,
    /// It goes on after it was stopped.
    Thawed,
    /// It is about to exit with that code.
    Exiting(u8),
    /// It is about to die by that signal.
    Dying(Signal),
    /// One line of its hygiene report.
    Hygiene(Finding),
    /// The answer to [`Order::Ping`].
    Pong(u64),
    /// Something it was told could not be done.
    Error(Quoted),
}

/// Which descendant a process is: what whoever started it has told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// Its name.
    pub name: Quoted,
    /// The process that started it, as that process knows itself.
    pub starter: u32,
    /// For which time that process started one, from 1.
    pub nth: u32,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Order::Do(script) if script.0.is_empty() => f.write_str("do"),
            Order::Do(script) => write!(f, "do {script}"),
            Order::Go(id) => write!(f, "go {id}"),
            Order::Open(gate) => write!(f, "open {gate}"),
            Order::Ping(id) => write!(f, "ping {id}"),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Report::Hello {
                version,
                pid,
                ppid,
                agent,
                descendant,
            } => {
                write!(f, "hello {version} {pid} {ppid} {agent}")?;
                match descendant {
                    Some(Lineage { name, starter, nth }) => write!(f, " {name} {starter} {nth}"),
                    None => Ok(()),
                }
            }
            Report::Turn { id, signal: false } => write!(f, "turn {id}"),
            Report::Turn { id, signal: true } => write!(f, "turn {id} signal"),
            Report::Watching(path) => write!(f, "watching {path}"),
            Report::Wait { id, nanos } => write!(f, "wait {id} {nanos}"),
            Report::Idle => f.write_str("idle"),
            Report::Rest(orders) => write!(f, "rest {orders}"),
            Report::Gate(name) => write!(f, "gate {name}"),
            Report::Blocked(stream) => write!(f, "blocked {stream}"),
            Report::Writing(stream, bytes) => write!(f, "writing {stream} {bytes}"),
            Report::Wrote(stream, bytes) => write!(f, "wrote {stream} {bytes}"),
            Report::Got(signal, count) => write!(f, "got {signal} {count}"),
            Report::Ready => f.write_str("ready"),
            Report::Beat => f.write_str("beat"),
            Report::Locked(path) => write!(f, "locked {path}"),
            Report::Started { nth, pid, name } => {
                write!(f, "started {nth} {} {name}", OrDash(pid.as_ref()))
            }
            Report::Reaped { pid, status } => {
                write!(f, "reaped {pid} {}", OrDash(status.as_ref()))
            }
            Report::Freezing => f.write_str("freezing"),
            Report::Thawed => f.write_str("thawed"),
            Report::Exiting(code) => write!(f, "exiting {code}"),
            Report::Dying(signal) => write!(f, "dying {signal}"),
            Report::Hygiene(finding) => write!(f, "hygiene {finding}"),
            Report::Pong(id) => write!(f, "pong {id}"),
            Report::Error(text) => write!(f, "error {text}"),
        }
    }
}

/// A number, or a dash where there is none.
struct OrDash<'a, T>(Option<&'a T>);

impl<T: fmt::Display> fmt::Display for OrDash<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(number) => number.fmt(f),
            None => f.write_str("-"),
        }
    }
}

impl FromStr for Order {
    type Err = MessageError;

    fn from_str(line: &str) -> Result<Order, MessageError> {
        let mut fields = Fields::of(line);
        let order = match fields.word("do, go, open or ping")? {
            "do" => {
                return fields
                    .rest()
                    .parse()
                    .map(Order::Do)
                    .map_err(MessageError::Script);
            }
            "go" => Order::Go(fields.number("the number of a wait")?),
            "open" => Order::Open(fields.quoted("the name of a gate in double quotes")?),
            "ping" => Order::Ping(fields.number("the number of the ping")?),
            _ => return Err(fields.unexpected("do, go, open or ping")),
        };
        fields.end(order)
    }
}

impl FromStr for Report {
    type Err = MessageError;

    fn from_str(line: &str) -> Result<Report, MessageError> {
        const EXPECTED: &str = "a report, such as hello, wait or exiting";
        let mut fields = Fields::of(line);
        let report = match fields.word(EXPECTED)? {
            "hello" => Report::Hello {
                version: fields.number("a version")?,
                pid: fields.number("a process id")?,
                ppid: fields.number("a process id")?,
                agent: fields.quoted("an agent's name in double quotes")?,
                descendant: match fields.at_end() {
                    true => None,
                    false => Some(Lineage {
                        name: fields.quoted("a descendant's name in double quotes")?,
                        starter: fields.number("a process id")?,
                        nth: fields.number("a count")?,
                    }),
                },
            },
            "turn" => Report::Turn {
                id: fields.number("the number of a turn")?,
                signal: fields.take("signal"),
            },
            "watching" => Report::Watching(fields.quoted("a path in double quotes")?),
            "wait" => Report::Wait {
                id: fields.number("the number of a wait")?,
                nanos: fields.number("a number of nanoseconds")?,
            },
            "idle" => Report::Idle,
            "rest" => Report::Rest(fields.number("a number of orders")?),
            "gate" => Report::Gate(fields.quoted("the name of a gate in double quotes")?),
            "blocked" => Report::Blocked(fields.stream()?),
            "writing" => Report::Writing(fields.stream()?, fields.number("a number of bytes")?),
            "wrote" => Report::Wrote(fields.stream()?, fields.number("a number of bytes")?),
            "got" => Report::Got(fields.signal()?, fields.number("a count")?),
            "ready" => Report::Ready,
            "beat" => Report::Beat,
            "locked" => Report::Locked(fields.quoted("a path in double quotes")?),
            "started" => Report::Started {
                nth: fields.number("a count")?,
                pid: match fields.take("-") {
                    true => None,
                    false => Some(fields.number("a process id, or -")?),
                },
                name: fields.quoted("a descendant's name in double quotes")?,
            },
            "reaped" => Report::Reaped {
                pid: fields.number("a process id")?,
                status: match fields.take("-") {
                    true => None,
                    false => Some(fields.number("a status as wait(2) has it, or -")?),
                },
            },
            "freezing" => Report::Freezing,
            "thawed" => Report::Thawed,
            "exiting" => Report::Exiting(fields.number("an exit code from 0 to 255")?),
            "dying" => Report::Dying(fields.signal()?),
            "hygiene" => Report::Hygiene(Finding::read(&mut fields)?),
            "pong" => Report::Pong(fields.number("the number of the ping")?),
            "error" => Report::Error(fields.quoted("a text in double quotes")?),
            _ => return Err(fields.unexpected(EXPECTED)),
        };
        fields.end(report)
    }
}
