//! How the stub was started: its arguments and its `SUPERVISE_AGENT_*` environment.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::time::Duration;

use crate::protocol::Lineage;
use crate::quoted::Quoted;
use crate::script::{Script, Statement};
use crate::variables::VARIABLES;

/// How long a stub lives if nobody says otherwise: 60 s of real time.
const LIFETIME: Duration = Duration::from_secs(60);

/// Who tells the stub what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// The process at the other end of an inherited descriptor, which is a connected stream socket.
    Descriptor(i32),
    /// The process that listens on this stream socket: a path or, after `@`, an abstract name.
    Address(OsString),
    /// Nobody, but the stub exits when the socket on this descriptor ends.
    Lifeline(i32),
    /// Nobody.
    Alone,
}

/// The clock that says when the waits of a script are over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClockChoice {
    /// Real time.
    Real,
    /// The harness's clock: the stub says `wait`, and the harness answers `go`.
    Harness,
}

/// How the stub was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(crate) control: Control,
    pub(crate) clock: ClockChoice,
    pub(crate) agent: Quoted,
    pub(crate) descendant: Option<Lineage>,
    pub(crate) lifetime: Duration,
    pub(crate) script: Option<Script>,
    /// The frozen process that this process ends, if it is a guard.
    pub(crate) guarded: Option<u32>,
    /// The `SUPERVISE_*` variables that were set and that nobody knows.
    pub(crate) unknown: Vec<String>,
}

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Request {
    Run(Box<Options>),
    Help,
    Version,
}

/// Why the stub cannot start: a bad option or variable.
#[derive(Debug)]
pub(crate) struct BadOption(String);

impl fmt::Display for BadOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads the arguments, without the program's name, and the environment. An argument beats its
/// variable.
pub(crate) fn read(
    args: impl Iterator<Item = OsString>,
    vars: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Request, BadOption> {
    let mut values: BTreeMap<&'static str, (String, OsString)> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (key, value) in vars {
        let key = &*key.to_string_lossy();
        if !key.starts_with("SUPERVISE_") {
            continue;
        }
        if !VARIABLES.contains(&key) {
            unknown.push(key.to_owned());
        } else if let Some(option) = OPTIONS.iter().find(|(_, variable)| *variable == Some(key)) {
            values.insert(option.0, (key.to_owned(), value));
        }
    }
    unknown.sort();

    let mut args = args;
    let mut given: Vec<&'static str> = Vec::new();
    while let Some(arg) = args.next() {
        let text = arg.to_string_lossy();
        match &*text {
            "--help" | "-h" => return Ok(Request::Help),
            "--version" | "-V" => return Ok(Request::Version),
            _ => {}
        }
        let bytes = arg.as_bytes();
        let (name, inline) = match bytes.iter().position(|b| *b == b'=') {
            Some(at) => (
                &bytes[..at],
                Some(OsString::from_vec(bytes[at + 1..].to_vec())),
            ),
            None => (bytes, None),
        };
        let Some((option, _)) = OPTIONS.iter().find(|(option, _)| option.as_bytes() == name) else {
            return Err(BadOption(format!(
                "unknown argument `{text}`: expected an option; --help lists them"
            )));
        };
        let value = match inline.or_else(|| args.next()) {
            Some(value) => value,
            None => return Err(BadOption(format!("{option}: expected a value after it"))),
        };
        if given.contains(option) {
            return Err(BadOption(format!("{option}: given twice")));
        }
        given.push(option);
        values.insert(option, ((*option).to_owned(), value));
    }
    let control = if given.contains(&"--fd") && given.contains(&"--control") {
        return Err(BadOption(
            "--fd and --control: expected one of them".to_owned(),
        ));
    } else if given.contains(&"--fd") {
        // `--fd` as an argument beats the variable of `--control`.
        values.remove("--control");
        control(&values)?
    } else {
        control(&values)?
    };
    let script = match values.get("--script") {
        None => None,
        Some((source, text)) => {
            let text = utf8(source, text)?;
            Some(
                text.parse::<Script>()
                    .map_err(|error| BadOption(format!("{source}: {error}")))?,
            )
        }
    };
    Ok(Request::Run(Box::new(Options {
        control,
        clock: match values.get("--clock") {
            None => ClockChoice::Real,
            Some((source, value)) => match value.to_str() {
                Some("real") => ClockChoice::Real,
                Some("harness") => ClockChoice::Harness,
                _ => return Err(bad(source, value, "real or harness")),
            },
        },
        agent: values.get("--id").map_or_else(
            || Quoted::from("agent"),
            |(_, id)| Quoted(id.as_bytes().to_vec()),
        ),
        descendant: match values.get("--descendant") {
            None => None,
            Some((source, value)) => Some(lineage(source, value)?),
        },
        lifetime: match values.get("--lifetime") {
            None => LIFETIME,
            Some((source, value)) => lifetime(source, value)?,
        },
        script,
        guarded: match values.get("--guard") {
            None => None,
            Some((source, value)) => match value.to_str().and_then(|v| v.parse().ok()) {
                Some(pid) => Some(pid),
                None => return Err(bad(source, value, "a process id")),
            },
        },
        unknown,
    })))
}

/// Each option, and the variable that says the same, if there is one.
const OPTIONS: &[(&str, Option<&str>)] = &[
    ("--script", None),
    ("--control", Some("SUPERVISE_AGENT_CONTROL")),
    ("--fd", Some("SUPERVISE_AGENT_FD")),
    ("--lifeline", None),
    ("--clock", Some("SUPERVISE_AGENT_CLOCK")),
    ("--id", Some("SUPERVISE_AGENT_ID")),
    ("--lifetime", Some("SUPERVISE_AGENT_LIFETIME")),
    ("--descendant", None),
    ("--guard", None),
];

fn bad(source: &str, value: &OsStr, expected: &str) -> BadOption {
    BadOption(format!(
        "{source}: expected {expected}, found `{}`",
        value.to_string_lossy()
    ))
}

fn utf8<'a>(source: &str, value: &'a OsStr) -> Result<&'a str, BadOption> {
    value.to_str().ok_or_else(|| bad(source, value, "UTF-8"))
}

fn control(values: &BTreeMap<&'static str, (String, OsString)>) -> Result<Control, BadOption> {
    let descriptor = |(source, value): &(String, OsString)| {
        let number = value
            .to_str()
            .and_then(|v| v.parse::<i32>().ok())
            // No standard stream: a script may close it, and a `quiet` descendant does not inherit
            // it.
            .filter(|n| *n > 2);
        number.ok_or_else(|| bad(source, value, "the number of an open descriptor above 2"))
    };
    if let Some(value) = values.get("--lifeline") {
        return Ok(Control::Lifeline(descriptor(value)?));
    }
    match (values.get("--control"), values.get("--fd")) {
        (Some((source, address)), _) if address.is_empty() => {
            Err(bad(source, address, "a path, or @ and an abstract name"))
        }
        (Some((_, address)), _) => Ok(Control::Address(address.clone())),
        (None, Some(value)) => Ok(Control::Descriptor(descriptor(value)?)),
        (None, None) => Ok(Control::Alone),
    }
}

/// Parses the value of `--descendant`, as [`descendant`](crate::descendant) writes it: the
/// starter's process id, the count and the name.
fn lineage(source: &str, value: &OsStr) -> Result<Lineage, BadOption> {
    let mut parts = value.as_bytes().splitn(3, |byte| *byte == b':');
    let mut number = || std::str::from_utf8(parts.next()?).ok()?.parse().ok();
    let (starter, nth) = (number(), number());
    match (starter, nth, parts.next()) {
        (Some(starter), Some(nth), Some(name)) => Ok(Lineage {
            name: Quoted(name.to_vec()),
            starter,
            nth,
        }),
        _ => Err(bad(
            source,
            value,
            "a process id, a count and a name, such as 4711:1:helper",
        )),
    }
}

/// Parses a lifetime, which is written like the time of a `run` statement.
fn lifetime(source: &str, value: &OsStr) -> Result<Duration, BadOption> {
    let script = format!("run {}", utf8(source, value)?).parse::<Script>();
    match script.as_ref().map(|script| script.0.as_slice()) {
        Ok([Statement::Run(time)]) if !time.is_zero() => Ok(*time),
        _ => Err(bad(source, value, "a time such as 60s, more than none")),
    }
}
