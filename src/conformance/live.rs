//! A service that the subject keeps running, and the calls that begin, direct and end it.

use std::os::fd::AsFd;
use std::rc::Rc;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::stage::Stage;
use super::subject::{AnySession, Local, SubjectError};
use super::trial_error::TrialError;
use crate::pidfd::{open_pidfd, send_signal};
use crate::rules::{Control, ControlCall, RestReason, Service, ServiceGroup};
use crate::sim::agent::Run;
use agent_stub::Signal;

/// A service that the subject keeps running.
#[derive(Clone)]
pub(super) struct Live<'a> {
    name: String,
    session: Rc<dyn AnySession>,
    stage: &'a Stage<'a>,
}

impl<'a> Stage<'a> {
    /// Has the subject begin with the service.
    pub(super) async fn begin(&'a self) -> Result<Live<'a>, TrialError> {
        let service = self.service();
        self.begin_with(service).await
    }

    /// Has the subject begin with another service.
    pub(super) async fn begin_with(&'a self, service: Service) -> Result<Live<'a>, TrialError> {
        let started = self.subject.start(&service);
        self.begun(&service.name, started).await
    }

    /// Has the subject begin with a group that includes the rule's service. Calls to the group are
    /// logged as calls to that service.
    pub(super) async fn begin_group(&'a self, group: ServiceGroup) -> Result<Live<'a>, TrialError> {
        *self.group.borrow_mut() = Some(group.clone());
        let started = self.subject.start_group(&group);
        self.begun(Stage::SERVICE, started).await
    }

    /// Has the subject begin with the service in a supervisor that is a process of its own. The
    /// rule may judge that the subject refuses: the log of the calls has the error.
    pub(super) async fn begin_apart(&'a self) -> Result<Live<'a>, TrialError> {
        let service = self.service();
        let started = self.subject.start_apart(&service);
        self.begun(&service.name, started).await
    }

    async fn begun(
        &'a self,
        name: &str,
        started: Local<'_, Result<Box<dyn AnySession>, SubjectError>>,
    ) -> Result<Live<'a>, TrialError> {
        match self.told(name, Control::Begin, started).await {
            Some(Ok(session)) => {
                let session = Rc::from(session);
                self.sessions.borrow_mut().push(Rc::clone(&session));
                Ok(Live {
                    name: name.to_owned(),
                    session,
                    stage: self,
                })
            }
            Some(Err(error)) => Err(TrialError(format!(
                "the subject did not begin: {}",
                error.text()
            ))),
            None => Err(TrialError(
                "the subject's start has not returned".to_owned(),
            )),
        }
    }

    /// Waits for what follows an end. That is the next run. If none comes and the profile says that
    /// the subject reports its rest, also waits for that.
    pub(super) async fn followed(&self, live: &Live<'_>) -> Option<Run> {
        let next = self.next_run().await;
        if next.is_none() && self.profile().reports.rest {
            live.outcome().await;
        }
        next
    }
}

impl Live<'_> {
    async fn told(&self, control: Control, call: Local<'_, Result<(), SubjectError>>) -> bool {
        let answer = self.stage.told(&self.name, control, call).await;
        matches!(answer, Some(Ok(())))
    }

    /// Stops the service. Returns false if that failed or has not returned.
    pub(super) async fn stop(&self) -> bool {
        self.told(Control::Stop, self.session.stop()).await
    }

    /// Restarts the service. Returns false if that failed or has not returned.
    pub(super) async fn restart(&self) -> bool {
        self.told(Control::Restart, self.session.restart()).await
    }

    /// Starts the service if it is down. Returns false if that failed or has not returned.
    pub(super) async fn start(&self) -> bool {
        self.told(Control::Start, self.session.start()).await
    }

    /// Has the subject forget what it has counted. Returns false if that failed or has not
    /// returned.
    pub(super) async fn reset(&self) -> bool {
        self.told(Control::Reset, self.session.reset()).await
    }

    /// Waits until the subject rests. Returns `None` if it does not come to rest in time.
    pub(super) async fn outcome(&self) -> Option<RestReason> {
        let answer = self.session.outcome();
        self.stage.told(&self.name, Control::Outcome, answer).await
    }

    /// Kills the service's supervisor, which is a process of its own, and waits until that process
    /// has ended.
    pub(super) async fn crash(&self) -> Result<(), TrialError> {
        let process = self.process()?;
        let what = "the subject's process cannot be killed";
        let pidfd = open_pidfd(process).map_err(|error| TrialError::of(what, &error))?;
        let kill = async {
            send_signal(pidfd.as_fd(), Some(Signal::KILL))?;
            // SAFETY: the `AsyncFd` borrows an `OwnedFd`, which is open and outlives it.
            let ended =
                unsafe { AsyncFd::register_with_interest(pidfd.as_fd(), Interest::READABLE) }?;
            let _ready = ended.readable().await?;
            Ok::<(), SubjectError>(())
        };
        match self.stage.told(&self.name, Control::Crash, kill).await {
            Some(Ok(())) => Ok(()),
            Some(Err(error)) => Err(TrialError(format!("{what}: {}", error.text()))),
            None => Err(TrialError("the subject's process does not end".to_owned())),
        }
    }

    /// Returns the process id of the service's supervisor.
    pub(super) fn process(&self) -> Result<u32, TrialError> {
        let none = || TrialError("the session does not name its supervisor's process".to_owned());
        self.session.process().ok_or_else(none)
    }

    /// Ends the service's supervisor by dropping the session. There must be no other clone of this
    /// `Live`, or the session would live on.
    pub(super) fn end(self) {
        let sim = self.stage.sim();
        let mut call = ControlCall::new(&self.name, Control::End, sim.now());
        sim.note(format_args!("told `{}`: {}", self.name, Control::End));
        let mut sessions = self.stage.sessions.borrow_mut();
        sessions.retain(|held| !Rc::ptr_eq(held, &self.session));
        drop(sessions);
        drop(self.session);
        call.to = Some(sim.now());
        self.stage.log().calls.push(call);
    }
}
