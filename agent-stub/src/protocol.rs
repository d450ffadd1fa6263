//! The messages of the control connection: one message on each line, as text. Both directions use
//! the same types on both sides.
//!
//! A connection carries [`Order`]s to the agent and [`Report`]s from it. Each is one line of UTF-8
//! that ends with `\n`. It has at most [`MAX_LINE`] bytes or, if it carries a script,
//! [`MAX_ORDER`]. A line that is too long, not UTF-8 or no message is an error. Both sides can say
//! which one it is, and survive it. The agent answers such a line with a [`Report::Error`] and goes
//! on.

use std::fmt;
use std::str::FromStr;

use crate::hygiene::Finding;
#[allow(
    unused_imports,
    reason = "the program shares this module and does not use `MAX_ORDER` from here"
)]
pub use crate::limits::{MAX_LINE, MAX_ORDER};
use crate::line::Fields;
pub use crate::line::{Lines, MessageError};
use crate::quoted::Quoted;
use crate::script::{Script, Stream};
use crate::signal::Signal;

/// The version that [`Report::Hello`] carries. Both sides speak one version only.
pub const VERSION: u32 = 2;

/// What the harness tells an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// `do SCRIPT`: the agent runs the script at once. Whatever it is doing waits, and then goes
    /// on.
    Do(Script),
    /// `go 7`: the wait with that number is over, or the turn with that number is granted. By the
    /// harness's clock this order gives the agent a turn, as every order but a ping does. The turn
    /// lasts until the agent does something that others can see, or rests.
    Go(u64),
    /// `open "name"`: lets the agent pass that gate once, now or when its script comes to the gate.
    Open(Quoted),
    /// `ping 7`: the agent answers once it has nothing left to do but wait.
    Ping(u64),
}

/// What an agent tells the harness.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Report {
    /// The first line of a connection: which agent this is.
    Hello {
        /// The version of the protocol that the agent speaks.
        version: u32,
        /// The agent's process id.
        pid: u32,
        /// The process id of the agent's parent.
        ppid: u32,
        /// The agent's name.
        agent: Quoted,
        /// Which descendant this process is, if it is one.
        descendant: Option<Lineage>,
    },
    /// By the harness's clock only: the agent waits.
    Wait {
        /// The wait's number, for [`Order::Go`].
        id: u64,
        /// How long it waits, in nanoseconds.
        nanos: u64,
    },
    /// By the harness's clock only: the agent asks for a turn. It does nothing that anybody else
    /// can see (a write, a report such as `ready`, an exit) before the harness says [`Order::Go`]
    /// with this number.
    Turn {
        /// The turn's number. Turns and waits are numbered together.
        id: u64,
        /// Whether a trapped signal is the reason. The agent takes the signal before it does
        /// anything else.
        signal: bool,
    },
    /// By the harness's clock only: the agent waits for this file to appear or to be unlocked. It
    /// looks again at each [`Order::Ping`], before it answers. As long as it waits it says so
    /// before each [`Report::Rest`].
    Watching(Quoted),
    /// The agent has nothing to do until an order comes.
    Idle,
    /// By the harness's clock only: the agent has nothing left to do but wait. It has obeyed this
    /// many orders so far, not counting pings. It says so again after whatever it does and says
    /// next.
    Rest(u64),
    /// The agent waits at this gate.
    Gate(Quoted),
    /// The agent cannot go on writing until somebody reads this stream. By the harness's clock it
    /// then asks for another turn.
    Blocked(Stream),
    /// By the harness's clock only: the agent is about to write this many bytes to the stream at
    /// once. A process that reads them may kill the agent before it can say [`Report::Wrote`].
    Writing(Stream, u64),
    /// The agent has written this many bytes to the stream.
    Wrote(Stream, u64),
    /// The agent took this trapped signal, for the n-th time. By the harness's clock it takes
    /// signals in a turn only.
    Got(Signal, u64),
    /// The agent is ready.
    Ready,
    /// The agent is alive.
    Beat,
    /// The agent holds the lock on this file.
    Locked(Quoted),
    /// The agent started a descendant.
    Started {
        /// The descendant's number among those that the agent started, from 1.
        nth: u32,
        /// The descendant's process id. `None` after a double fork, since the process in the middle
        /// is gone.
        pid: Option<u32>,
        /// The descendant's name.
        name: Quoted,
    },
    /// A child of the agent ended, and the agent or the kernel reaped it.
    Reaped {
        /// The child's process id.
        pid: u32,
        /// How the child ended, as the number that wait(2) gives. `None` if SIGCHLD is ignored,
        /// since the kernel has then reaped the child. The agent then sends this report when
        /// something else wakes it.
        status: Option<i32>,
    },
    /// The agent is about to stop itself.
    Freezing,
    /// The agent goes on after it was stopped.
    Thawed,
    /// The agent is about to exit with this code.
    Exiting(u8),
    /// The agent is about to die by this signal.
    Dying(Signal),
    /// One line of the agent's hygiene report.
    Hygiene(Finding),
    /// The answer to the [`Order::Ping`] with this number.
    Pong(u64),
    /// Something could not be done or was not understood; this text says what.
    Error(Quoted),
}

/// Which descendant a process is, as the process that started it has told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The name that the script gives the descendant.
    pub name: Quoted,
    /// The process id of the process that started it, as that process knows it.
    pub starter: u32,
    /// The descendant's number among those that this process started, from 1.
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

/// Prints a number, or a dash if there is none.
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
