//! One line of the control connection: its fields, its errors, and cutting a stream into lines.

use std::fmt;
use std::str::FromStr;

use crate::limits::{MAX_LINE, MAX_ORDER};
use crate::quoted::{self, Quoted};
use crate::script::{ScriptError, Stream};
use crate::signal::Signal;

/// How a `do` order begins.
const DO: &[u8] = b"do ";

/// Why a line is not a valid message.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MessageError {
    /// The line is longer than the limit.
    Oversized {
        /// The limit in bytes, the line end included: [`MAX_ORDER`] for a `do` order, else
        /// [`MAX_LINE`].
        limit: usize,
    },
    /// The line is not UTF-8.
    NotUtf8 {
        /// The column of the first bad byte, in bytes from 1.
        column: usize,
    },
    /// The script of a `do` order is wrong. The error's columns count from the start of the script.
    Script(ScriptError),
    /// A field is missing or wrong.
    Unexpected {
        /// The column of the wrong text, in bytes from 1.
        column: usize,
        /// What is allowed at this column.
        expected: &'static str,
    },
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::Oversized { limit } => {
                write!(f, "the line is longer than {limit} bytes")
            }
            MessageError::NotUtf8 { column } => write!(f, "column {column}: expected UTF-8"),
            MessageError::Script(error) => write!(f, "in the script of `do`: {error}"),
            MessageError::Unexpected { column, expected } => {
                write!(f, "column {column}: expected {expected}")
            }
        }
    }
}

impl std::error::Error for MessageError {}

/// The fields of one line, separated by single spaces.
pub(crate) struct Fields<'a> {
    line: &'a str,
    /// Where the next field starts.
    at: usize,
    /// Where the field that was taken last starts. Errors name this place.
    last: usize,
}

impl<'a> Fields<'a> {
    pub(crate) fn of(line: &'a str) -> Fields<'a> {
        Fields {
            line,
            at: 0,
            last: 0,
        }
    }

    /// Returns the error which says that the field taken last is not what was expected.
    pub(crate) fn unexpected(&self, expected: &'static str) -> MessageError {
        MessageError::Unexpected {
            column: self.last + 1,
            expected,
        }
    }

    pub(crate) fn at_end(&self) -> bool {
        self.at >= self.line.len()
    }

    pub(crate) fn rest(&self) -> &'a str {
        self.line.get(self.at..).unwrap_or("")
    }

    /// Moves past a field of `length` bytes. A space or the end of the line must follow the field.
    fn pass(&mut self, length: usize, expected: &'static str) -> Result<(), MessageError> {
        self.last = self.at;
        match self.line.as_bytes().get(self.at + length) {
            None => self.at = self.line.len(),
            // A space at the very end would be an empty field.
            Some(b' ') if self.at + length + 1 < self.line.len() => self.at += length + 1,
            Some(_) => {
                return Err(MessageError::Unexpected {
                    column: self.at + length + 1,
                    expected: "one space between fields",
                });
            }
        }
        if length == 0 {
            Err(self.unexpected(expected))
        } else {
            Ok(())
        }
    }

    pub(crate) fn word(&mut self, expected: &'static str) -> Result<&'a str, MessageError> {
        let rest = self.rest();
        let word = &rest[..rest.find(' ').unwrap_or(rest.len())];
        self.pass(word.len(), expected)?;
        Ok(word)
    }

    /// Takes the next field if it is this word, and returns whether it was.
    pub(crate) fn take(&mut self, word: &str) -> bool {
        let mut ahead = Fields {
            line: self.line,
            at: self.at,
            last: self.last,
        };
        let there = ahead.word("") == Ok(word);
        if there {
            *self = ahead;
        }
        there
    }

    pub(crate) fn number<N: FromStr>(&mut self, expected: &'static str) -> Result<N, MessageError> {
        let word = self.word(expected)?;
        // `parse` would accept a sign, too, which no printed number has.
        match word.parse() {
            Ok(number) if word.bytes().all(|b| b.is_ascii_digit()) => Ok(number),
            _ => Err(self.unexpected(expected)),
        }
    }

    pub(crate) fn quoted(&mut self, expected: &'static str) -> Result<Quoted, MessageError> {
        match quoted::read(self.rest()) {
            Ok((text, length)) => self.pass(length, expected).map(|()| text),
            Err(bad) if bad.offset == 0 => Err(MessageError::Unexpected {
                column: self.at + 1,
                expected,
            }),
            Err(bad) => Err(MessageError::Unexpected {
                column: self.at + bad.offset + 1,
                expected: bad.expected,
            }),
        }
    }

    pub(crate) fn signal(&mut self) -> Result<Signal, MessageError> {
        const EXPECTED: &str = "a signal, such as SIGTERM";
        self.word(EXPECTED)?
            .parse()
            .map_err(|_| self.unexpected(EXPECTED))
    }

    pub(crate) fn stream(&mut self) -> Result<Stream, MessageError> {
        const EXPECTED: &str = "stdin, stdout or stderr";
        match self.word(EXPECTED)? {
            "stdin" => Ok(Stream::Stdin),
            "stdout" => Ok(Stream::Stdout),
            "stderr" => Ok(Stream::Stderr),
            _ => Err(self.unexpected(EXPECTED)),
        }
    }

    pub(crate) fn end<M>(mut self, message: M) -> Result<M, MessageError> {
        self.last = self.at;
        if self.at_end() {
            Ok(message)
        } else {
            Err(self.unexpected("the end of the line"))
        }
    }
}

/// Cuts a stream of bytes into lines. Reports an oversized line as an error and does not keep it.
#[derive(Debug, Default)]
pub struct Lines {
    buffer: Vec<u8>,
    /// Where the next line starts in the buffer.
    start: usize,
    /// How far the buffer was searched for a line end.
    searched: usize,
    /// Whether the next bytes belong to a line that is already known to be too long.
    skipping: bool,
}

impl Lines {
    /// Starts with no bytes.
    #[must_use]
    pub fn new() -> Lines {
        Lines::default()
    }

    /// Adds bytes that were received.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next whole line without its line end, or `None` if more bytes are needed first.
    /// A bad line is an error instead: [`MessageError::Oversized`] or [`MessageError::NotUtf8`].
    pub fn next_line(&mut self) -> Option<Result<String, MessageError>> {
        let (start, end) = loop {
            let found = self.buffer[self.searched..]
                .iter()
                .position(|b| *b == b'\n');
            let Some(length) = found else {
                self.searched = self.buffer.len();
                let limit = limit(&self.buffer[self.start..]);
                let oversized = self.unfinished() >= limit;
                if self.skipping || oversized {
                    self.buffer.clear();
                    (self.start, self.searched) = (0, 0);
                }
                // Report this once, and now: the end of the line may never come.
                let told = self.skipping;
                self.skipping |= oversized;
                return (oversized && !told).then_some(Err(MessageError::Oversized { limit }));
            };
            let (start, end) = (self.start, self.searched + length);
            (self.start, self.searched) = (end + 1, end + 1);
            // This was only the end of a line that was already reported.
            if !std::mem::take(&mut self.skipping) {
                break (start, end);
            }
        };
        let limit = limit(&self.buffer[start..end]);
        if end - start >= limit {
            return Some(Err(MessageError::Oversized { limit }));
        }
        Some(match std::str::from_utf8(&self.buffer[start..end]) {
            Ok(line) => Ok(line.to_owned()),
            Err(error) => Err(MessageError::NotUtf8 {
                column: error.valid_up_to() + 1,
            }),
        })
    }

    /// Returns how many bytes are held of a line that is not finished yet.
    #[must_use]
    pub fn unfinished(&self) -> usize {
        self.buffer.len() - self.start
    }
}

/// Returns the most bytes that a line with this beginning may have.
fn limit(line: &[u8]) -> usize {
    if line.starts_with(DO) {
        MAX_ORDER
    } else {
        MAX_LINE
    }
}
