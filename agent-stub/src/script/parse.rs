//! From text to [`Script`].

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::length::{MAX_ARGUMENT, MAX_NAME, MAX_SCRIPT, printed};
use super::statement::{
    Channel, Content, Descendant, Destination, Gate, Output, Placement, Response, Script,
    Statement, Stream,
};
use super::units::{SIZE_UNITS, TIME_UNITS};
use crate::quoted::{self, Quoted};
use crate::signal::Signal;

/// How deep blocks may stand in blocks: far more than anybody writes, far less than the stack holds.
const MAX_DEPTH: usize = 32;

/// Where a script is wrong and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScriptError {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
    /// What would have been right there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScriptError {
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

impl std::error::Error for ScriptError {}

#[derive(Clone, Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Text(Quoted),
    Open,
    Close,
    /// `;` or a line end.
    Separator,
    End,
}

impl fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A word may be as long as a line; an error need not be.
            Token::Word(word) => match word.char_indices().nth(40) {
                Some((end, _)) => write!(f, "`{}…`", &word[..end]),
                None => write!(f, "`{word}`"),
            },
            Token::Text(_) => f.write_str("a string"),
            Token::Open => f.write_str("`{`"),
            Token::Close => f.write_str("`}`"),
            Token::Separator => f.write_str("the end of the statement"),
            Token::End => f.write_str("the end of the script"),
        }
    }
}

struct Parser<'a> {
    text: &'a str,
    /// Where the next token is looked for.
    at: usize,
    /// The next token and where it starts.
    next: Token<'a>,
    start: usize,
    depth: usize,
}

type Result<T> = std::result::Result<T, ScriptError>;

impl FromStr for Script {
    type Err = ScriptError;

    fn from_str(text: &str) -> std::result::Result<Script, ScriptError> {
        script(text)
    }
}

fn script(text: &str) -> Result<Script> {
    let mut parser = Parser {
        text,
        at: 0,
        next: Token::End,
        start: 0,
        depth: 0,
    };
    parser.advance()?;
    let script = parser.statements()?;
    match parser.next {
        Token::End => {}
        _ => return Err(parser.expected("a statement")),
    }
    match printed(&script) {
        ..=MAX_SCRIPT => Ok(script),
        length => Err(parser.error_at(
            0,
            format!(
                "a script of at most {MAX_SCRIPT} bytes as it prints (a long output is written by its size, as in \
                 `write 1MiB`)"
            ),
            format!("one of {length}"),
        )),
    }
}

/// The offset, or the beginning of the character in whose middle it is. The method of `str` needs Rust 1.91.
fn floor_char_boundary(text: &str, offset: usize) -> usize {
    let offset = offset.min(text.len());
    (0..=offset)
        .rfind(|place| text.is_char_boundary(*place))
        .unwrap_or(0)
}

impl<'a> Parser<'a> {
    fn error_at(&self, offset: usize, expected: impl Into<String>, found: String) -> ScriptError {
        let before = &self.text[..floor_char_boundary(self.text, offset)];
        let line_start = before.rfind('\n').map_or(0, |n| n + 1);
        ScriptError {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            expected: expected.into(),
            found,
        }
    }

    /// The error that the next token is not what was expected.
    fn expected(&self, what: impl Into<String>) -> ScriptError {
        self.error_at(self.start, what, self.next.to_string())
    }

    /// Reads the token after the next one, and returns the next one.
    fn advance(&mut self) -> Result<Token<'a>> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\t' | b'\r') => self.at += 1,
                Some(b'#') => {
                    self.at = self.text[self.at..]
                        .find('\n')
                        .map_or(bytes.len(), |n| self.at + n);
                }
                _ => break,
            }
        }
        self.start = self.at;
        let (token, length) = match bytes.get(self.at) {
            None => (Token::End, 0),
            Some(b';' | b'\n') => (Token::Separator, 1),
            Some(b'{') => (Token::Open, 1),
            Some(b'}') => (Token::Close, 1),
            Some(b'"') => {
                let (text, length) = quoted::read(&self.text[self.at..]).map_err(|bad| {
                    let offset = self.at + bad.offset;
                    let found = match self.text[floor_char_boundary(self.text, offset)..]
                        .chars()
                        .next()
                    {
                        None => "the end of the script".to_owned(),
                        Some('\n') => "the end of the line".to_owned(),
                        Some(c) => format!("`{}`", c.escape_debug()),
                    };
                    self.error_at(offset, bad.expected, found)
                })?;
                (Token::Text(text), length)
            }
            Some(_) => {
                let rest = &self.text[self.at..];
                let end = rest
                    .find([' ', '\t', '\r', '\n', ';', '{', '}', '"', '#'])
                    .unwrap_or(rest.len());
                // Nobody sees them in a text, or in what quotes it.
                if let Some((at, c)) = rest[..end].char_indices().find(|(_, c)| c.is_control()) {
                    return Err(self.error_at(
                        self.at + at,
                        "a word without control characters, which names have in double quotes only",
                        format!("`{}`", c.escape_debug()),
                    ));
                }
                (Token::Word(&rest[..end]), end)
            }
        };
        self.at += length;
        Ok(std::mem::replace(&mut self.next, token))
    }

    fn statements(&mut self) -> Result<Script> {
        let mut statements = Vec::new();
        loop {
            while self.next == Token::Separator {
                self.advance()?;
            }
            if matches!(self.next, Token::End | Token::Close) {
                return Ok(Script(statements));
            }
            statements.push(self.statement()?);
            if !matches!(self.next, Token::Separator | Token::End | Token::Close) {
                return Err(self.expected("`;` or a line end after the statement"));
            }
        }
    }

    fn block(&mut self) -> Result<Script> {
        if self.next != Token::Open {
            return Err(self.expected("a block in braces"));
        }
        if self.depth == MAX_DEPTH {
            return Err(self.expected(format!("at most {MAX_DEPTH} blocks in one another")));
        }
        self.depth += 1;
        self.advance()?;
        let script = self.statements()?;
        if self.next != Token::Close {
            return Err(self.expected("a closing `}`"));
        }
        self.advance()?;
        self.depth -= 1;
        Ok(script)
    }

    fn statement(&mut self) -> Result<Statement> {
        const EXPECTED: &str = "a statement (run, stay, exit, die, freeze, on, block, unblock, start, write, close, \
                                ready, beat, lock, gate, hygiene, repeat, forever or first)";
        let Token::Word(verb) = self.next else {
            return Err(self.expected(EXPECTED));
        };
        // The verb is looked at before it is taken, so that an unknown one is pointed at.
        let known = [
            "run", "stay", "exit", "die", "freeze", "on", "block", "unblock", "start", "write",
            "close", "ready", "beat", "lock", "gate", "hygiene", "repeat", "forever", "first",
        ];
        if !known.contains(&verb) {
            return Err(self.expected(EXPECTED));
        }
        self.advance()?;
        Ok(match verb {
            "run" => Statement::Run(self.time()?),
            "stay" => Statement::Stay,
            "exit" => Statement::Exit(self.number("an exit code from 0 to 255")?),
            "die" => self.die()?,
            "freeze" => Statement::Freeze,
            "on" => Statement::On(self.catchable()?, self.response()?),
            "block" => Statement::Block(self.catchable()?),
            "unblock" => Statement::Unblock(self.catchable()?),
            "start" => Statement::Start(self.descendant()?),
            "write" => self.write()?,
            "close" => match self.stream()? {
                Some(stream) => Statement::Close(stream),
                None => return Err(self.expected("stdin, stdout or stderr")),
            },
            "ready" => Statement::Ready(self.channel()?),
            "beat" => Statement::Beat(self.channel()?),
            "lock" => Statement::Lock(self.name("the path of a file to lock")?),
            "gate" => Statement::Gate(match self.take_word("file")? {
                true => Gate::File(self.name("the path of a file to wait for")?),
                false => Gate::Control(self.name("the name of a gate, or `file PATH`")?),
            }),
            "hygiene" => Statement::Hygiene(if self.take_word("stdout")? {
                Destination::Stdout
            } else if self.take_word("file")? {
                Destination::File(self.name("the path of a file to write")?)
            } else {
                Destination::Control
            }),
            "repeat" => Statement::Repeat(
                self.number("how often, from 0 to 4294967295")?,
                self.block()?,
            ),
            "forever" => Statement::Forever(self.block()?),
            _ => Statement::First {
                runs: self.number("in how many runs, from 0 to 4294967295")?,
                counter: self.name("the path of the file that counts the runs")?,
                script: self.block()?,
            },
        })
    }

    /// Takes the next token if it is this word.
    fn take_word(&mut self, word: &str) -> Result<bool> {
        let there = self.next == Token::Word(word);
        if there {
            self.advance()?;
        }
        Ok(there)
    }

    fn number<N: FromStr>(&mut self, expected: &str) -> Result<N> {
        match self.next {
            // `parse` would take a sign too, and what prints has none.
            Token::Word(word) if word.bytes().all(|b| b.is_ascii_digit()) => {
                let number = word.parse().map_err(|_| self.expected(expected))?;
                self.advance()?;
                Ok(number)
            }
            _ => Err(self.expected(expected)),
        }
    }

    /// A whole number and its unit.
    fn measured(&self, units: &[(&str, u64)]) -> Option<u64> {
        let Token::Word(word) = self.next else {
            return None;
        };
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = word.split_at(digits);
        let (_, size) = units.iter().find(|(name, _)| *name == unit)?;
        number.parse::<u64>().ok()?.checked_mul(*size)
    }

    fn time(&mut self) -> Result<Duration> {
        match self.measured(TIME_UNITS) {
            Some(nanos) => {
                self.advance()?;
                Ok(Duration::from_nanos(nanos))
            }
            None => Err(self.expected(
                "a time such as 200ms (a whole number of ns, us, ms, s, m or h, below 584 years)",
            )),
        }
    }

    fn signal(&mut self, expected: &str, good: impl Fn(Signal) -> bool) -> Result<Signal> {
        let Token::Word(word) = self.next else {
            return Err(self.expected(expected));
        };
        match word.parse::<Signal>() {
            Ok(signal) if good(signal) => {
                self.advance()?;
                Ok(signal)
            }
            _ => Err(self.expected(expected)),
        }
    }

    fn catchable(&mut self) -> Result<Signal> {
        self.signal(
            "a signal that can be trapped, such as SIGTERM",
            Signal::is_catchable,
        )
    }

    fn die(&mut self) -> Result<Statement> {
        let signal = self.signal(
            "a signal that kills by default, such as SIGSEGV",
            Signal::is_deadly,
        )?;
        Ok(Statement::Die {
            signal,
            core: self.take_word("core")?,
        })
    }

    fn response(&mut self) -> Result<Response> {
        if self.next == Token::Open {
            return Ok(Response::Handle(self.block()?));
        }
        let response = match self.next {
            Token::Word("ignore") => Response::Ignore,
            Token::Word("default") => Response::Default,
            Token::Word("count") => Response::Count,
            _ => return Err(self.expected("ignore, default, count or a block in braces")),
        };
        self.advance()?;
        Ok(response)
    }

    /// A name or a path: a word or a string, without a NUL byte, which no path can hold, and no longer
    /// than a path can be.
    fn name(&mut self, expected: &str) -> Result<Quoted> {
        let name = match &self.next {
            Token::Word(word) => Quoted::from(*word),
            Token::Text(text) => text.clone(),
            _ => return Err(self.expected(expected)),
        };
        if name.0.is_empty() || name.0.contains(&0) {
            return Err(self.expected(format!("{expected}, not empty and without a NUL byte")));
        }
        if name.0.len() > MAX_NAME {
            return Err(self.expected(format!("{expected}, of at most {MAX_NAME} bytes")));
        }
        self.advance()?;
        Ok(name)
    }

    fn descendant(&mut self) -> Result<Descendant> {
        let name = self.name("the name of the descendant")?;
        let (mut placement, mut output) = (None, None);
        loop {
            match self.next {
                Token::Word("same-group") if placement.is_none() => {
                    placement = Some(Placement::SameGroup);
                }
                Token::Word("own-group") if placement.is_none() => {
                    placement = Some(Placement::OwnGroup);
                }
                Token::Word("own-session") if placement.is_none() => {
                    placement = Some(Placement::OwnSession);
                }
                Token::Word("double-fork") if placement.is_none() => {
                    placement = Some(Placement::DoubleFork);
                }
                Token::Word("hold") if output.is_none() => output = Some(Output::Hold),
                Token::Word("quiet") if output.is_none() => output = Some(Output::Quiet),
                Token::Open => break,
                _ => {
                    return Err(self.expected(
                        "a block in braces, after at most one of same-group, own-group, own-session, double-fork and \
                         one of hold, quiet",
                    ));
                }
            }
            self.advance()?;
        }
        let start = self.start;
        let script = self.block()?;
        let length = printed(&script);
        if length > MAX_ARGUMENT {
            return Err(self.error_at(
                start,
                format!(
                    "a block of at most {MAX_ARGUMENT} bytes as it prints, since it is an argument of a process"
                ),
                format!("one of {length}"),
            ));
        }
        let (placement, output) = (placement.unwrap_or_default(), output.unwrap_or_default());
        Ok(Descendant {
            name,
            placement,
            output,
            script,
        })
    }

    fn stream(&mut self) -> Result<Option<Stream>> {
        let stream = match self.next {
            Token::Word("stdin") => Stream::Stdin,
            Token::Word("stdout") => Stream::Stdout,
            Token::Word("stderr") => Stream::Stderr,
            _ => return Ok(None),
        };
        self.advance()?;
        Ok(Some(stream))
    }

    fn write(&mut self) -> Result<Statement> {
        const EXPECTED: &str = "a string in double quotes, or a size such as 1MiB (a whole number of B, KiB, MiB or GiB)";
        if self.next == Token::Word("stdin") {
            return Err(self.expected("stdout or stderr"));
        }
        let stream = self.stream()?.unwrap_or(Stream::Stdout);
        let content = match (&self.next, self.measured(SIZE_UNITS)) {
            (_, Some(bytes)) => Content::Fill(bytes),
            (Token::Text(text), None) => Content::Text(text.clone()),
            _ => return Err(self.expected(EXPECTED)),
        };
        self.advance()?;
        Ok(Statement::Write(stream, content))
    }

    fn channel(&mut self) -> Result<Channel> {
        Ok(if self.take_word("fd")? {
            Channel::Fd(self.number("a descriptor from 0 to 65535")?)
        } else if self.take_word("notify")? {
            Channel::Notify
        } else if self.take_word("file")? {
            Channel::File(self.name("the path of a file to write")?)
        } else {
            Channel::Control
        })
    }
}
