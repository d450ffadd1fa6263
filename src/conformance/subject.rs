//! What is under test.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::backoff::BackoffStrategy;
use crate::causes::WithCauses;
use crate::rules::{Profile, Rest, Service, ServiceGroup};

/// Why a subject did not do what it was told. Any error is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectError(String);

impl SubjectError {
    /// With these words.
    pub fn new(text: impl fmt::Display) -> SubjectError {
        SubjectError(text.to_string())
    }

    /// The words.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

// Not an error itself, so that every error converts.
impl<E: std::error::Error> From<E> for SubjectError {
    fn from(error: E) -> SubjectError {
        SubjectError(WithCauses(&error).to_string())
    }
}

/// A supervisor under test: how it is started, and what it can do.
///
/// Its futures are run on one thread and need not be `Send`. In virtual time everything about it must
/// wait by tokio's clock.
#[allow(
    async_fn_in_trait,
    reason = "they are awaited on the thread that made them"
)]
pub trait Subject {
    /// A service that it keeps running. Dropping it ends the supervisor, and the service with it.
    type Session: Session;

    /// What it can do.
    fn profile(&self) -> Profile;

    /// Begins to keep the service running.
    ///
    /// # Errors
    ///
    /// Where it refuses the settings. That the program cannot be started is no error here, but a
    /// [`Notice`](crate::rules::Notice).
    async fn start(&self, service: &Service) -> Result<Self::Session, SubjectError>;

    /// Begins to keep several services running together. A profile that declares something of groups
    /// needs it. Of the session, which is that of the whole group, only
    /// [`stop`](Session::stop) is asked. By default it is an error.
    ///
    /// # Errors
    ///
    /// As [`start`](Subject::start).
    async fn start_group(&self, group: &ServiceGroup) -> Result<Self::Session, SubjectError> {
        let _ = group;
        Err(SubjectError::new("it takes one service at a time"))
    }

    /// Begins to keep the service running as a process of its own, which the session
    /// [names](Session::process), and which can be killed. Where the service has a
    /// [state](Service::state) that another has already, this is a second supervisor of one service. A
    /// profile that declares a process of its own needs it. By default it is an error.
    ///
    /// [`Apart`](super::Apart) makes one of what runs in the test's own process.
    ///
    /// # Errors
    ///
    /// As [`start`](Subject::start), and where it is refused for another supervisor has the service.
    async fn start_apart(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        let _ = service;
        Err(SubjectError::new("it runs in the test's own process"))
    }

    /// The backoff strategy that it would use, for the rules about the strategy alone.
    fn strategy(
        &self,
        service: &Service,
        seed: Option<u64>,
    ) -> Option<Box<dyn BackoffStrategy + Send>> {
        let _ = (service, seed);
        None
    }
}

/// A service that a subject keeps running.
///
/// Calls may be made while others are carried out, so they take `&self`.
#[allow(
    async_fn_in_trait,
    reason = "they are awaited on the thread that made them"
)]
pub trait Session {
    /// Stops the service.
    ///
    /// # Errors
    ///
    /// The subject's own.
    async fn stop(&self) -> Result<(), SubjectError>;

    /// Waits until the subject does nothing more until it is told to, and says how that came.
    async fn outcome(&self) -> Rest;

    /// Stops the service and starts it again.
    ///
    /// # Errors
    ///
    /// The subject's own.
    async fn restart(&self) -> Result<(), SubjectError> {
        Err(SubjectError::new("it cannot be told to restart"))
    }

    /// Starts the service where it is down.
    ///
    /// # Errors
    ///
    /// The subject's own.
    async fn start(&self) -> Result<(), SubjectError> {
        Err(SubjectError::new("it cannot be told to start"))
    }

    /// Forgets what it has counted.
    ///
    /// # Errors
    ///
    /// The subject's own.
    async fn reset(&self) -> Result<(), SubjectError> {
        Err(SubjectError::new("it cannot be told to reset"))
    }

    /// The process id of the supervisor, where that is a process of its own. The number must be that
    /// process's, or its zombie's, until the session is dropped.
    fn process(&self) -> Option<u32> {
        None
    }
}

pub(super) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A subject of any type.
pub(super) trait AnySubject {
    fn profile(&self) -> Profile;
    fn start<'a>(
        &'a self,
        service: &'a Service,
    ) -> Local<'a, Result<Box<dyn AnySession>, SubjectError>>;
    fn start_group<'a>(
        &'a self,
        group: &'a ServiceGroup,
    ) -> Local<'a, Result<Box<dyn AnySession>, SubjectError>>;
    fn start_apart<'a>(
        &'a self,
        service: &'a Service,
    ) -> Local<'a, Result<Box<dyn AnySession>, SubjectError>>;
    fn strategy(
        &self,
        service: &Service,
        seed: Option<u64>,
    ) -> Option<Box<dyn BackoffStrategy + Send>>;
}

impl<S: Subject> AnySubject for S
where
    S::Session: 'static,
{
    fn profile(&self) -> Profile {
        Subject::profile(self)
    }

    fn start<'a>(
        &'a self,
        service: &'a Service,
    ) -> Local<'a, Result<Box<dyn AnySession>, SubjectError>> {
        Box::pin(async move {
            let session = Subject::start(self, service).await?;
            Ok(Box::new(session) as Box<dyn AnySession>)
        })
    }

    fn start_group<'a>(
        &'a self,
        group: &'a ServiceGroup,
    ) -> Local<'a, Result<Box<dyn AnySession>, SubjectError>> {
        Box::pin(async move {
            let session = Subject::start_group(self, group).await?;
            Ok(Box::new(session) as Box<dyn AnySession>)
        })
    }

    fn start_apart<'a>(
        &'a self,
        service: &'a Service,
    ) -> Local<'a, Result<Box<dyn AnySession>, SubjectError>> {
        Box::pin(async move {
            let session = Subject::start_apart(self, service).await?;
            Ok(Box::new(session) as Box<dyn AnySession>)
        })
    }

    fn strategy(
        &self,
        service: &Service,
        seed: Option<u64>,
    ) -> Option<Box<dyn BackoffStrategy + Send>> {
        Subject::strategy(self, service, seed)
    }
}

/// A session of any type.
pub(super) trait AnySession {
    fn stop(&self) -> Local<'_, Result<(), SubjectError>>;
    fn outcome(&self) -> Local<'_, Rest>;
    fn restart(&self) -> Local<'_, Result<(), SubjectError>>;
    fn start(&self) -> Local<'_, Result<(), SubjectError>>;
    fn reset(&self) -> Local<'_, Result<(), SubjectError>>;
    fn process(&self) -> Option<u32>;
}

impl<S: Session> AnySession for S {
    fn stop(&self) -> Local<'_, Result<(), SubjectError>> {
        Box::pin(Session::stop(self))
    }

    fn outcome(&self) -> Local<'_, Rest> {
        Box::pin(Session::outcome(self))
    }

    fn restart(&self) -> Local<'_, Result<(), SubjectError>> {
        Box::pin(Session::restart(self))
    }

    fn start(&self) -> Local<'_, Result<(), SubjectError>> {
        Box::pin(Session::start(self))
    }

    fn reset(&self) -> Local<'_, Result<(), SubjectError>> {
        Box::pin(Session::reset(self))
    }

    fn process(&self) -> Option<u32> {
        Session::process(self)
    }
}
