//! The messages to and from a process that serves a subject.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use agent_stub::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::conformance::subject::SubjectError;
use crate::rules::{Control, DelayCurve, Notice, RestReason, Service};
use crate::status::ExitStatus;
use crate::supervisor::RestartPolicy;

/// One message: a list of words of any bytes. On the socket it is the number of words, then for
/// each word its length and its bytes. The number and the lengths have 32 bits, little-endian.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Message(Vec<Vec<u8>>);

/// The most words of a message, and the most bytes of a word. A larger number means that the other
/// side sends something else.
const MOST: u32 = 1 << 20;

impl Message {
    pub(super) fn of(word: impl AsRef<[u8]>) -> Message {
        Message::default().and(word)
    }

    pub(super) fn and(mut self, word: impl AsRef<[u8]>) -> Message {
        self.0.push(word.as_ref().to_owned());
        self
    }

    fn number(self, number: impl Copy + ToString) -> Message {
        self.and(number.to_string())
    }

    fn os(self, key: &str, value: impl AsRef<OsStr>) -> Message {
        self.and(key).and(value.as_ref().as_bytes())
    }

    pub(super) async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let length = |length: usize| u32::try_from(length).map_err(io::Error::other);
        let mut bytes = length(self.0.len())?.to_le_bytes().to_vec();
        for word in &self.0 {
            bytes.extend(length(word.len())?.to_le_bytes());
            bytes.extend(word);
        }
        to.write_all(&bytes).await
    }

    /// Reads the next message. Returns an error at the end of the stream, too.
    pub(super) async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Message> {
        let mut words = Vec::new();
        for _ in 0..number(from).await? {
            let length = number(from).await?;
            let mut word = vec![0; usize::try_from(length).map_err(io::Error::other)?];
            from.read_exact(&mut word).await?;
            words.push(word);
        }
        Ok(Message(words))
    }

    pub(super) fn words(self) -> Words {
        Words(self.0.into_iter())
    }
}

async fn number(from: &mut (impl AsyncRead + Unpin)) -> io::Result<u32> {
    match from.read_u32_le().await? {
        number if number <= MOST => Ok(number),
        number => {
            let text = format!("it speaks another language: {number} words or bytes");
            Err(io::Error::new(io::ErrorKind::InvalidData, text))
        }
    }
}

/// The words of a message while they are read.
#[derive(Debug)]
pub(super) struct Words(std::vec::IntoIter<Vec<u8>>);

impl Words {
    pub(super) fn next(&mut self) -> Result<Vec<u8>, SubjectError> {
        let missing = || SubjectError::new("a message lacks a word");
        self.0.next().ok_or_else(missing)
    }

    pub(super) fn text(&mut self) -> Result<String, SubjectError> {
        Ok(String::from_utf8(self.next()?)?)
    }

    pub(super) fn number<T>(&mut self) -> Result<T, SubjectError>
    where
        T: std::str::FromStr<Err = std::num::ParseIntError>,
    {
        Ok(self.text()?.parse()?)
    }

    fn os(&mut self) -> Result<OsString, SubjectError> {
        Ok(OsString::from_vec(self.next()?))
    }

    fn time(&mut self) -> Result<Duration, SubjectError> {
        Ok(Duration::from_nanos(self.number()?))
    }

    fn is_over(&self) -> bool {
        self.0.as_slice().is_empty()
    }

    /// Reads the name of a call and returns the call.
    pub(super) fn control(&mut self) -> Result<Control, SubjectError> {
        let name = self.text()?;
        let all = [
            Control::Begin,
            Control::Stop,
            Control::Restart,
            Control::Start,
            Control::Reset,
            Control::Outcome,
        ];
        let found = all.into_iter().find(|control| control.to_string() == name);
        found.ok_or_else(|| SubjectError::new(format!("it cannot be told to `{name}`")))
    }
}

/// Returns the time in nanoseconds. A time that does not fit, which is longer than five centuries,
/// becomes the largest number.
fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl Message {
    /// Adds the settings of the service.
    pub(super) fn service(self, service: &Service) -> Message {
        let mut message = self
            .and("name")
            .and(&service.name)
            .os("program", &service.program);
        for arg in &service.args {
            message = message.os("arg", arg);
        }
        for (key, value) in &service.env {
            message = message.os("env", key).and(value.as_bytes());
        }
        for (key, path) in [
            ("current_dir", &service.current_dir),
            ("output", &service.output),
            ("state", &service.state),
        ] {
            if let Some(path) = path {
                message = message.os(key, path);
            }
        }
        let policy = match service.policy {
            RestartPolicy::Never => "never",
            RestartPolicy::OnFailure => "on-failure",
            RestartPolicy::Always => "always",
        };
        message
            .and("policy")
            .and(policy)
            .and("delays")
            .number(nanos(service.delays.initial))
            .number(service.delays.multiplier.to_bits())
            .number(nanos(service.delays.max))
            .and("stop_signal")
            .number(service.stop_signal.number())
            .and("grace")
            .number(nanos(service.grace))
            .and("seed")
            .number(service.seed)
    }

    /// Adds how the subject came to rest.
    pub(super) fn rest(self, rest: &RestReason) -> Message {
        match rest {
            RestReason::Finished { success } => self.and("finished").and(success.to_string()),
            RestReason::GaveUp { .. } => self.and("gave-up"),
            RestReason::Stopped => self.and("stopped"),
            RestReason::Failed(text) => self.and("failed").and(text),
        }
    }

    /// Adds what the subject says.
    pub(super) fn notice(self, notice: &Notice) -> Message {
        match notice {
            Notice::Up => self.and("up"),
            Notice::Ended(ExitStatus::Exited { code }) => self.and("exited").number(code),
            Notice::Ended(ExitStatus::Signaled {
                signal,
                core_dumped,
            }) => self
                .and("signaled")
                .number(signal.number())
                .and(core_dumped.to_string()),
            Notice::StartFailed(text) => self.and("start-failed").and(text),
            Notice::BackingOff(time) => self.and("backing-off").number(nanos(*time)),
            Notice::Resting(rest) => self.and("resting").rest(rest),
        }
    }
}

impl Words {
    pub(super) fn service(&mut self) -> Result<Service, SubjectError> {
        let mut service = Service::new("");
        while !self.is_over() {
            match self.text()?.as_str() {
                "name" => service.name = self.text()?,
                "program" => service.program = PathBuf::from(self.os()?),
                "arg" => service.args.push(self.os()?),
                "env" => service.env.push((self.os()?, self.os()?)),
                "current_dir" => service.current_dir = Some(PathBuf::from(self.os()?)),
                "output" => service.output = Some(PathBuf::from(self.os()?)),
                "state" => service.state = Some(PathBuf::from(self.os()?)),
                "policy" => {
                    service.policy = match self.text()?.as_str() {
                        "never" => RestartPolicy::Never,
                        "always" => RestartPolicy::Always,
                        _ => RestartPolicy::OnFailure,
                    }
                }
                "delays" => {
                    let initial = self.time()?;
                    let multiplier = f64::from_bits(self.number()?);
                    service.delays = DelayCurve::exponential(initial, multiplier, self.time()?);
                }
                "stop_signal" => service.stop_signal = Signal::from_number(self.number()?)?,
                "grace" => service.grace = self.time()?,
                "seed" => service.seed = self.number()?,
                other => {
                    let text = format!("a service has no `{other}`");
                    return Err(SubjectError::new(text));
                }
            }
        }
        Ok(service)
    }

    pub(super) fn rest(&mut self) -> Result<RestReason, SubjectError> {
        Ok(match self.text()?.as_str() {
            "finished" => RestReason::Finished {
                success: self.text()? == "true",
            },
            "gave-up" => RestReason::GaveUp {
                cause: None,
                restarts: None,
            },
            "stopped" => RestReason::Stopped,
            _ => RestReason::Failed(self.text()?),
        })
    }

    pub(super) fn notice(&mut self) -> Result<Notice, SubjectError> {
        Ok(match self.text()?.as_str() {
            "up" => Notice::Up,
            "exited" => Notice::Ended(ExitStatus::Exited {
                code: self.number()?,
            }),
            "signaled" => Notice::Ended(ExitStatus::Signaled {
                signal: Signal::from_number(self.number()?)?,
                core_dumped: self.text()? == "true",
            }),
            "start-failed" => Notice::StartFailed(self.text()?),
            "backing-off" => Notice::BackingOff(self.time()?),
            "resting" => Notice::Resting(self.rest()?),
            other => return Err(SubjectError::new(format!("it says `{other}`"))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_the_same_on_the_other_side() {
        let mut service = Service::new("worker");
        service.program = PathBuf::from("/bin/true");
        service.args = vec![OsString::from_vec(vec![0xff, b'\n']), OsString::new()];
        service.env = vec![("A".into(), "b=c".into())];
        service.state = Some(PathBuf::from("/s"));
        service.policy = RestartPolicy::Always;
        service.stop_signal = Signal::INT;
        service.grace = Duration::from_millis(7);
        service.seed = u64::MAX;
        let there = Message::default().service(&service).words().service();
        // A setting that is not sent has its default on the other side.
        assert_eq!(format!("{there:?}"), format!("Ok({service:?})"));
    }

    #[test]
    fn what_is_said_is_the_same_on_the_other_side() {
        for notice in [
            Notice::Up,
            Notice::Ended(ExitStatus::Exited { code: 7 }),
            Notice::Ended(ExitStatus::Signaled {
                signal: Signal::SEGV,
                core_dumped: true,
            }),
            Notice::StartFailed("no\nprogram".to_owned()),
            Notice::BackingOff(Duration::from_secs(3)),
            Notice::Resting(RestReason::Finished { success: true }),
            Notice::Resting(RestReason::Stopped),
            Notice::Resting(RestReason::Failed("why".to_owned())),
        ] {
            let there = Message::default().notice(&notice).words().notice();
            assert_eq!(there, Ok(notice));
        }
    }
}
