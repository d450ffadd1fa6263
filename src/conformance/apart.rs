//! Subjects that run in processes of their own.

mod serve;
mod session;
mod words;

use std::ffi::OsString;
use std::process::Command;

use super::subject::{Session, Subject, SubjectError};
use crate::backoff::BackoffStrategy;
use crate::rules::{Profile, Rest, Service, ServiceGroup};

pub use serve::serve;
pub use session::ApartSession;

/// A program that [serves](serve) a subject, and how to run it.
///
/// Mostly this is the program that already runs, with arguments that tell it to serve. The
/// arguments must differ from those that it has now. Otherwise the new process would be taken for a
/// copy of this process that has not called exec yet, and the virtual time of other tests would
/// wait for it.
///
/// ```no_run
/// use std::process::Command;
/// use supervise_harness::conformance::{self, Apart, Program, Reference};
///
/// fn main() -> Result<(), Box<dyn std::error::Error>> {
///     if std::env::args().nth(1).as_deref() == Some("serve") {
///         return Ok(conformance::serve(Reference::alone())?);
///     }
///     let mut again = Command::new(std::env::current_exe()?);
///     again.arg("serve");
///     let subject = Apart::new(Reference::new(), Program::from(&again));
///     conformance::run(subject).assert();
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    program: OsString,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
}

/// Takes the program, the arguments and the environment of the command, and nothing else.
impl From<&Command> for Program {
    fn from(command: &Command) -> Program {
        let env = command.get_envs();
        Program {
            program: command.get_program().to_owned(),
            args: command.get_args().map(OsString::from).collect(),
            env: env
                .map(|(key, value)| (key.to_owned(), value.map(OsString::from)))
                .collect(),
        }
    }
}

impl Program {
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        for (key, value) in &self.env {
            match value {
                Some(value) => command.env(key, value),
                None => command.env_remove(key),
            };
        }
        command
    }

    /// Runs the program and has the subject that it serves begin to keep the service running. Must
    /// be called in a tokio runtime with I/O enabled. If this fails, the program has ended.
    ///
    /// The program is told only those settings of the service that a rule about a process asks for:
    /// name, program, arguments, environment, working directory, output, state, policy, delays
    /// without jitter, stop signal, grace and seed.
    ///
    /// # Errors
    ///
    /// If the program cannot be run or does not serve, or if the subject that it serves refuses.
    pub async fn start(&self, service: &Service) -> Result<ApartSession, SubjectError> {
        ApartSession::start(self.command(), service).await
    }
}

/// A subject that can also run in a process of its own. When the harness asks for that, it runs a
/// program that [serves](serve) the same subject.
///
/// Its profile therefore says that it can be a process of its own. The rules then also check what
/// the profile says of crashes, second supervisors and orphans.
#[derive(Clone, Debug)]
pub struct Apart<S> {
    subject: S,
    program: Program,
}

impl<S> Apart<S> {
    /// Combines a subject with the program that serves it.
    pub fn new(subject: S, program: Program) -> Apart<S> {
        Apart { subject, program }
    }
}

/// A session in the test's own process, or in another process.
#[derive(Debug)]
#[non_exhaustive]
pub enum Placed<T> {
    /// The session is in the test's own process.
    Here(T),
    /// The session is in another process.
    Apart(ApartSession),
}

impl<S: Subject> Subject for Apart<S> {
    type Session = Placed<S::Session>;

    fn profile(&self) -> Profile {
        let mut profile = self.subject.profile();
        profile.own_process = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        self.subject.start(service).await.map(Placed::Here)
    }

    async fn start_group(&self, group: &ServiceGroup) -> Result<Self::Session, SubjectError> {
        self.subject.start_group(group).await.map(Placed::Here)
    }

    async fn start_apart(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        self.program.start(service).await.map(Placed::Apart)
    }

    fn strategy(
        &self,
        service: &Service,
        seed: Option<u64>,
    ) -> Option<Box<dyn BackoffStrategy + Send>> {
        self.subject.strategy(service, seed)
    }
}

impl<T: Session> Session for Placed<T> {
    async fn stop(&self) -> Result<(), SubjectError> {
        match self {
            Placed::Here(session) => session.stop().await,
            Placed::Apart(session) => session.stop().await,
        }
    }

    async fn outcome(&self) -> Rest {
        match self {
            Placed::Here(session) => session.outcome().await,
            Placed::Apart(session) => session.outcome().await,
        }
    }

    async fn restart(&self) -> Result<(), SubjectError> {
        match self {
            Placed::Here(session) => session.restart().await,
            Placed::Apart(session) => session.restart().await,
        }
    }

    async fn start(&self) -> Result<(), SubjectError> {
        match self {
            Placed::Here(session) => session.start().await,
            Placed::Apart(session) => session.start().await,
        }
    }

    async fn reset(&self) -> Result<(), SubjectError> {
        match self {
            Placed::Here(session) => session.reset().await,
            Placed::Apart(session) => session.reset().await,
        }
    }

    fn process(&self) -> Option<u32> {
        match self {
            Placed::Here(session) => session.process(),
            Placed::Apart(session) => session.process(),
        }
    }
}
