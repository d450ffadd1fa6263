//! A subject in the test's own process that can also run in a process of its own.

use super::program::Program;
use super::session::ApartSession;
use crate::backoff::BackoffStrategy;
use crate::conformance::subject::{Session, Subject, SubjectError};
use crate::rules::{Profile, Rest, Service, ServiceGroup};

/// A subject that can also run in a process of its own. When the harness asks for that, it runs a
/// program that [serves](super::serve()) the same subject.
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
