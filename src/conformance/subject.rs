//! The traits that a supervisor under test implements.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::backoff::BackoffStrategy;
use crate::causes::WithCauses;
use crate::rules::{Profile, RestReason, Service, ServiceGroup};

/// Why a subject did not do what it was told. Any error converts into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubjectError(String);

impl SubjectError {
    /// Makes an error with this text.
    pub fn new(text: impl fmt::Display) -> SubjectError {
        SubjectError(text.to_string())
    }

    /// Returns the text of the error. For an error that was converted, this includes its causes.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

// `SubjectError` does not implement `Error`: that impl would conflict with this one.
impl<E: std::error::Error> From<E> for SubjectError {
    fn from(error: E) -> SubjectError {
        SubjectError(WithCauses(&error).to_string())
    }
}

/// A supervisor under test: how the harness starts it, and what it can do.
///
/// The harness runs its futures on one thread, so they need not be `Send`. In virtual time
/// everything in the subject must wait by tokio's clock.
#[allow(
    async_fn_in_trait,
    reason = "they are awaited on the thread that made them"
)]
pub trait Subject {
    /// A service that the subject keeps running. Dropping the session must end the supervisor, and
    /// the service with it.
    type Session: Session;

    /// Returns what the subject can do.
    fn profile(&self) -> Profile;

    /// If the subject refuses the settings. It is not an error that the program cannot be started:
    /// the subject reports that by a [`Notice`](crate::rules::Notice).
    async fn start(&self, service: &Service) -> Result<Self::Session, SubjectError>;

    /// Begins to keep several services running together. By default this returns an error.
    ///
    /// A subject needs this method if its profile declares something about groups. The session
    /// stands for the whole group. The harness calls only [`stop`](Session::stop) on it.
    ///
    /// # Errors
    ///
    /// As [`start`](Subject::start).
    async fn start_group(&self, group: &ServiceGroup) -> Result<Self::Session, SubjectError> {
        let _ = group;
        Err(SubjectError::new("it takes one service at a time"))
    }

    /// Begins to keep the service running in a supervisor that is a process of its own, so that the
    /// harness can kill it. By default this returns an error.
    ///
    /// The session [names](Session::process) that process. If another supervisor already has the
    /// service's [state](Service::state) folder, this is a second supervisor of the same service. A
    /// subject needs this method if its profile declares that it can be a process of its own.
    ///
    /// [`Apart`](super::Apart) provides this for a subject that otherwise runs in the test's own
    /// process.
    ///
    /// # Errors
    ///
    /// As [`start`](Subject::start). Also if the subject refuses because another supervisor has the
    /// service.
    async fn start_apart(&self, service: &Service) -> Result<Self::Session, SubjectError> {
        let _ = service;
        Err(SubjectError::new("it runs in the test's own process"))
    }

    /// Returns the backoff strategy that the subject would use for the service, drawing from
    /// `seed`. The rules about the strategy alone judge it. `None`, the default, if the subject
    /// lends none.
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
/// The harness may make a call while another has not returned yet. Therefore all methods take
/// `&self`.
#[allow(
    async_fn_in_trait,
    reason = "they are awaited on the thread that made them"
)]
pub trait Session {
    /// Stops the service.
    ///
    /// # Errors
    ///
    /// Whatever error the subject reports.
    async fn stop(&self) -> Result<(), SubjectError>;

    /// Waits until the subject rests: it does nothing more until it is told to. Returns how it came
    /// to rest.
    async fn outcome(&self) -> RestReason;

    /// Stops the service and starts it again. By default this returns an error.
    ///
    /// # Errors
    ///
    /// Whatever error the subject reports.
    async fn restart(&self) -> Result<(), SubjectError> {
        Err(SubjectError::new("it cannot be told to restart"))
    }

    /// Starts the service if it is down. By default this returns an error.
    ///
    /// # Errors
    ///
    /// Whatever error the subject reports.
    async fn start(&self) -> Result<(), SubjectError> {
        Err(SubjectError::new("it cannot be told to start"))
    }

    /// Forgets what the subject has counted, for example restarts. By default this returns an
    /// error.
    ///
    /// # Errors
    ///
    /// Whatever error the subject reports.
    async fn reset(&self) -> Result<(), SubjectError> {
        Err(SubjectError::new("it cannot be told to reset"))
    }

    /// Returns the process id of the supervisor, or `None` if the supervisor is not a process of
    /// its own. Until the session is dropped, the id must belong to that process or to its zombie.
    /// Otherwise the harness could kill another process.
    fn process(&self) -> Option<u32> {
        None
    }
}

pub(super) type Local<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A [`Subject`] of any type.
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

/// A [`Session`] of any type.
pub(super) trait AnySession {
    fn stop(&self) -> Local<'_, Result<(), SubjectError>>;
    fn outcome(&self) -> Local<'_, RestReason>;
    fn restart(&self) -> Local<'_, Result<(), SubjectError>>;
    fn start(&self) -> Local<'_, Result<(), SubjectError>>;
    fn reset(&self) -> Local<'_, Result<(), SubjectError>>;
    fn process(&self) -> Option<u32>;
}

impl<S: Session> AnySession for S {
    fn stop(&self) -> Local<'_, Result<(), SubjectError>> {
        Box::pin(Session::stop(self))
    }

    fn outcome(&self) -> Local<'_, RestReason> {
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
