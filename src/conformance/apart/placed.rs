//! A subject in the test's own process that can also run in a process of its own.

use super::program::Program;
use super::session::ApartSession;
use crate::backoff::BackoffStrategy;
use crate::conformance::subject::{Session, Subject, SubjectError};
use crate::rules::{Profile, RestReason, Service, ServiceGroup};

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
pub enum PlacedSession<T> {
    /// The session is in the test's own process.
    Here(T),
    /// The session is in another process.
    Apart(ApartSession),
}

impl<S: Subject> Subject for Apart<S> {
    type Session = PlacedSession<S::Session>;

    fn profile(&self) -> Profile {
        let mut profile = self.subject.profile();
        profile.process.of_its_own = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        self.subject.start(service).await.map(PlacedSession::Here)
    }

    async fn start_group(&self, group: &ServiceGroup) -> Result<Self::Session, SubjectError> {
        self.subject
            .start_group(group)
            .await
            .map(PlacedSession::Here)
    }

    async fn start_apart(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        self.program.start(service).await.map(PlacedSession::Apart)
    }

    fn strategy(
        &self,
        service: &Service,
        seed: Option<u64>,
    ) -> Option<Box<dyn BackoffStrategy + Send>> {
        self.subject.strategy(service, seed)
    }
}

impl<T: Session> Session for PlacedSession<T> {
    async fn stop(&self) -> Result<(), SubjectError> {
        match self {
            PlacedSession::Here(session) => session.stop().await,
            PlacedSession::Apart(session) => session.stop().await,
        }
    }

    async fn outcome(&self) -> RestReason {
        match self {
            PlacedSession::Here(session) => session.outcome().await,
            PlacedSession::Apart(session) => session.outcome().await,
        }
    }

    async fn restart(&self) -> Result<(), SubjectError> {
        match self {
            PlacedSession::Here(session) => session.restart().await,
            PlacedSession::Apart(session) => session.restart().await,
        }
    }

    async fn start(&self) -> Result<(), SubjectError> {
        match self {
            PlacedSession::Here(session) => session.start().await,
            PlacedSession::Apart(session) => session.start().await,
        }
    }

    async fn reset(&self) -> Result<(), SubjectError> {
        match self {
            PlacedSession::Here(session) => session.reset().await,
            PlacedSession::Apart(session) => session.reset().await,
        }
    }

    fn process(&self) -> Option<u32> {
        match self {
            PlacedSession::Here(session) => session.process(),
            PlacedSession::Apart(session) => session.process(),
        }
    }
}
