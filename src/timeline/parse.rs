//! Parses the text that a timeline prints.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use agent_stub::Signal;
use agent_stub::script::Stream;

use super::event::{Event, EventKind, EventSource};
use super::event::{SUBJECT, is_plain};
use super::record::{Timeline, TimelineClock};
use super::text::is_readable;
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// Why a text is not a timeline: where, what was expected there, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TimelineError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What was expected there.
    pub expected: &'static str,
    /// What was found there: a quote from the text, or a description.
    pub found: String,
}

impl fmt::Display for TimelineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TimelineError {
            line,
            column,
            expected,
            found,
        } = self;
        write!(
            f,
            "line {line}, column {column}: expected {expected}, found {found}"
        )
    }
}

impl std::error::Error for TimelineError {}

type Result<T> = std::result::Result<T, TimelineError>;

/// Reads the text that a timeline prints. The widths of gaps do not matter, and empty lines are skipped.
///
/// A timeline on a virtual clock that was printed and read back is the same. On a real clock the text
/// has no times, and every event gets the time [`Timestamp::ORIGIN`].
///
/// # Errors
///
/// [`TimelineError`] with the first line and column at which the text is not valid in version 1 or 2.
///
/// ```
/// use supervise_harness::Timeline;
///
/// let timeline: Timeline = "timeline v2  clock=virtual
/// +0.000  worker#1  start
/// +0.200  worker#1  exit     code=1"
///     .parse()?;
/// assert_eq!(timeline.starts("worker"), 1);
///
/// let error = "timeline v2  clock=virtual\n+0.000  worker  start".parse::<Timeline>().unwrap_err();
/// assert_eq!((error.line, error.column), (2, 15));
/// assert_eq!(error.expected, "`#` and the number of the run");
/// # Ok::<(), supervise_harness::TimelineError>(())
/// ```
impl FromStr for Timeline {
    type Err = TimelineError;

    fn from_str(text: &str) -> Result<Timeline> {
        let mut lines = text.lines().enumerate().map(|(index, text)| Line {
            number: index + 1,
            text,
            at: 0,
        });
        let blank = Line {
            number: 1,
            text: "",
            at: 0,
        };
        let mut header = lines.find(|line| !line.is_blank()).unwrap_or(blank);
        let clock = header.header()?;
        let mut now = Duration::ZERO;
        let mut events = Vec::new();
        for mut line in lines.filter(|line| !line.is_blank()) {
            line.gap();
            if clock == TimelineClock::Virtual {
                now = line.time_after(now)?;
            }
            let who = line.who()?;
            line.some_gap()?;
            let what = line.what()?;
            line.end()?;
            events.push(Event::new(Timestamp::ORIGIN + now, who, what));
        }
        Ok(Timeline::new(clock, events))
    }
}

/// One line, which is read from left to right.
struct Line<'a> {
    number: usize,
    text: &'a str,
    /// How many bytes were read. It is always between two characters.
    at: usize,
}

impl<'a> Line<'a> {
    fn is_blank(&self) -> bool {
        self.text.chars().all(is_gap)
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Returns an error at a byte offset, which may be in the middle of a character.
    fn error_at<T>(&self, offset: usize, expected: &'static str) -> Result<T> {
        let offset = floor_char_boundary(self.text, offset);
        let word = self.text[offset..].split(is_gap).next().unwrap_or_default();
        Err(TimelineError {
            line: self.number,
            column: self.text[..offset].chars().count() + 1,
            expected,
            found: match (word, &self.text[offset..]) {
                (_, "") => "the end of the line".to_owned(),
                ("", _) => "a space".to_owned(),
                // 40 characters are enough to recognize the word.
                _ => format!("`{}`", word.chars().take(40).collect::<String>()),
            },
        })
    }

    fn error<T>(&self, expected: &'static str) -> Result<T> {
        self.error_at(self.at, expected)
    }

    /// Takes the longest prefix of the rest that has only wanted characters.
    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let rest = self.rest();
        let length = rest.find(|c| !wanted(c)).unwrap_or(rest.len());
        self.at += length;
        &rest[..length]
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        if found {
            self.at += text.len();
        }
        found
    }

    fn gap(&mut self) {
        self.take_while(is_gap);
    }

    fn some_gap(&mut self) -> Result<()> {
        match self.take_while(is_gap) {
            "" => self.error("a space"),
            _ => Ok(()),
        }
    }

    fn end(&mut self) -> Result<()> {
        self.gap();
        match self.rest() {
            "" => Ok(()),
            _ => self.error("the end of the line"),
        }
    }

    /// Takes the longest prefix of these characters and parses it as a `T`.
    fn value<T: FromStr>(
        &mut self,
        characters: impl Fn(char) -> bool,
        expected: &'static str,
    ) -> Result<T> {
        let start = self.at;
        match self.take_while(characters).parse() {
            Ok(value) => Ok(value),
            Err(_) => self.error_at(start, expected),
        }
    }

    fn number<T: FromStr>(&mut self, expected: &'static str) -> Result<T> {
        self.value(|c| c.is_ascii_digit(), expected)
    }

    /// Takes `key`, such as `count=`. The error says that it was expected.
    fn key(&mut self, key: &'static str) -> Result<()> {
        match self.take(key) {
            true => Ok(()),
            false => self.error(key),
        }
    }

    fn header(&mut self) -> Result<TimelineClock> {
        self.gap();
        if !self.take("timeline") {
            return self.error("`timeline v2  clock=virtual` or `timeline v2  clock=real`");
        }
        self.some_gap()?;
        let version = self.at;
        if !self.take("v") || !is_readable(self.number("version `v1` or `v2`")?) {
            return self.error_at(version, "version `v1` or `v2`");
        }
        self.some_gap()?;
        self.key("clock=")?;
        let name = self.at;
        let clock = match self.take_while(|c| !is_gap(c)) {
            "virtual" => TimelineClock::Virtual,
            "real" => TimelineClock::Real,
            _ => return self.error_at(name, "`virtual` or `real`"),
        };
        self.end()?;
        Ok(clock)
    }

    /// Takes a time difference such as `+1.250`, and returns the time that long after `before`.
    fn time_after(&mut self, before: Duration) -> Result<Duration> {
        const EXPECTED: &str = "a time since the line before, such as `+0.200`";
        let start = self.at;
        if !self.take("+") {
            return self.error(EXPECTED);
        }
        let seconds = self.number(EXPECTED)?;
        let mut nanos = 0;
        if self.take(".") {
            let fraction = self.at;
            let digits = self.take_while(|c| c.is_ascii_digit());
            nanos = match format!("{digits:0<9}").parse() {
                Ok(nanos) if (1..=9).contains(&digits.len()) => nanos,
                _ => return self.error_at(fraction, "one to nine digits"),
            };
        }
        self.some_gap()?;
        match before.checked_add(Duration::new(seconds, nanos)) {
            Some(now) => Ok(now),
            None => self.error_at(start, "a time that is not past the end of all time"),
        }
    }

    fn who(&mut self) -> Result<EventSource> {
        const EXPECTED: &str =
            "whom it is about, such as `worker#1`, `worker#1/helper` or `subject`";
        const RUN: &str = "`#` and the number of the run";
        let start = self.at;
        let quoted = self.rest().starts_with('"');
        let agent = self.name(EXPECTED)?;
        if !self.take("#") {
            if *agent == *SUBJECT && !quoted && self.rest().starts_with(is_gap) {
                return Ok(EventSource::Subject);
            }
            return match self.at {
                at if at == start => self.error(EXPECTED),
                _ => self.error(RUN),
            };
        }
        let run = self.number("the number of the run")?;
        Ok(match self.take("/") {
            true => EventSource::descendant(agent, run, self.name("the name of a descendant")?),
            false => EventSource::run(agent, run),
        })
    }

    fn name(&mut self, expected: &'static str) -> Result<Arc<str>> {
        if self.rest().starts_with('"') {
            return Ok(self.quoted()?.into());
        }
        match self.take_while(is_plain) {
            "" => self.error(expected),
            name => Ok(name.into()),
        }
    }

    fn what(&mut self) -> Result<EventKind> {
        let start = self.at;
        let kind = self.take_while(|c| !is_gap(c));
        let bare = match kind {
            "start" => Some(EventKind::Start),
            "ready" => Some(EventKind::Ready),
            "beat" => Some(EventKind::Beat),
            "frozen" => Some(EventKind::Frozen),
            "thawed" => Some(EventKind::Thawed),
            "reap" => Some(EventKind::Reap),
            _ => None,
        };
        if let Some(what) = bare {
            return Ok(what);
        }
        self.gap();
        Ok(match kind {
            "signal" => {
                let signal = self.signal()?;
                self.some_gap()?;
                self.key("count=")?;
                let count = self.number("a number")?;
                EventKind::Signal { signal, count }
            }
            "wrote" => {
                let stream = self.stream()?;
                self.some_gap()?;
                self.key("bytes=")?;
                let bytes = self.number("a number of bytes")?;
                EventKind::Wrote { stream, bytes }
            }
            "blocked" => EventKind::Blocked {
                stream: self.stream()?,
            },
            "exit" => EventKind::Exit {
                status: self.status()?,
            },
            "gate" => EventKind::Gate {
                name: self.quoted()?,
            },
            "locked" => EventKind::Locked {
                path: self.quoted()?,
            },
            "error" => EventKind::Error {
                text: self.quoted()?,
            },
            "note" => EventKind::Note {
                text: self.quoted()?,
            },
            "finding" => EventKind::Finding {
                text: self.quoted()?,
            },
            _ => return self.error_at(start, "what happened, such as `start` or `exit`"),
        })
    }

    fn signal(&mut self) -> Result<Signal> {
        self.value(
            |c| c.is_ascii_alphanumeric() || c == '+',
            "a signal, such as `SIGTERM`",
        )
    }

    fn stream(&mut self) -> Result<Stream> {
        let start = self.at;
        match self.take_while(|c| !is_gap(c)) {
            "stdin" => Ok(Stream::Stdin),
            "stdout" => Ok(Stream::Stdout),
            "stderr" => Ok(Stream::Stderr),
            _ => self.error_at(start, "`stdin`, `stdout` or `stderr`"),
        }
    }

    fn status(&mut self) -> Result<Option<ExitStatus>> {
        if self.take("status=?") {
            return Ok(None);
        }
        if self.take("code=") {
            let characters = |c: char| c.is_ascii_digit() || c == '-';
            let code = self.value(characters, "an exit code")?;
            return Ok(Some(ExitStatus::Exited { code }));
        }
        if !self.take("signal=") {
            return self.error("`code=`, `signal=` or `status=?`");
        }
        let signal = self.signal()?;
        let core_dumped = !self.take_while(is_gap).is_empty() && self.take("core");
        Ok(Some(ExitStatus::Signaled {
            signal,
            core_dumped,
        }))
    }

    /// Takes a string in double quotes, as [`agent_stub::Quoted`] prints valid UTF-8.
    fn quoted(&mut self) -> Result<String> {
        if !self.take("\"") {
            return self.error("a string in double quotes");
        }
        let mut text = String::new();
        loop {
            let escape = self.at;
            match self.rest().chars().next() {
                None => return self.error("a closing `\"`"),
                Some('"') => break,
                Some('\\') => {
                    let (c, length) = match self.text.as_bytes().get(escape + 1) {
                        Some(b'n') => ('\n', 2),
                        Some(b't') => ('\t', 2),
                        Some(b'r') => ('\r', 2),
                        Some(b'\\') => ('\\', 2),
                        Some(b'"') => ('"', 2),
                        Some(b'x') => {
                            let digits = self.text.get(escape + 2..escape + 4);
                            let plain = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
                            match plain.map(|digits| u8::from_str_radix(digits, 16)) {
                                Some(Ok(byte)) if byte.is_ascii() => (char::from(byte), 4),
                                _ => return self.error("`\\x` and 00 to 7f"),
                            }
                        }
                        _ => return self.error(r#"one of the escapes \n \t \r \\ \" \xNN"#),
                    };
                    text.push(c);
                    self.at += length;
                }
                Some(c) => {
                    text.push(c);
                    self.at += c.len_utf8();
                }
            }
        }
        self.at += 1;
        Ok(text)
    }
}

fn is_gap(c: char) -> bool {
    matches!(c, ' ' | '\t')
}
/// The offset, or the beginning of the character in whose middle it is.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    (0..=offset)
        .rfind(|place| text.is_char_boundary(*place))
        .unwrap_or(0)
}
