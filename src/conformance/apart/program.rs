//! A program that serves a subject.

use std::ffi::OsString;
use std::process::Command;

use super::session::ApartSession;
use crate::conformance::subject::SubjectError;
use crate::rules::Service;

/// A program that [serves](super::serve()) a subject, and how to run it.
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
