//! processkit 3.3.4: its `Supervisor`, by `start()`.

use std::cell::RefCell;
use std::time::Duration;

use processkit::{
    Command, Mechanism, Outcome, ProcessGroup, StopReason, SupervisionEvent, SupervisionSession,
    Supervisor,
};
use supervise_harness::conformance::{Session, Subject, SubjectError};
use supervise_harness::rules::{
    Environment, Notice, OwnGroup, Profile, RepeatedStop, Rest, Service, Setting, StopReturn,
    StopScope,
};
use supervise_harness::{ExitStatus, Jitter, RestartLimit, RestartPolicy, Signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

/// processkit's supervisor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processkit;

/// What processkit calls a session, and the task that reads its events.
#[derive(Debug)]
pub struct ProcesskitSession {
    session: RefCell<Option<SupervisionSession>>,
    grace: Duration,
    rest: watch::Receiver<Option<Rest>>,
    events: JoinHandle<()>,
}

impl Drop for ProcesskitSession {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl Subject for Processkit {
    type Session = ProcesskitSession;

    fn profile(&self) -> Profile {
        let mut profile = Profile::new("processkit 3.3.4");
        profile.policy = Setting::Configurable;
        // By exit code only: ok_codes.
        profile.delays = Setting::Configurable;
        // jitter(true) is U(0.5, 1.5) of the delay.
        profile.jitter = true;
        profile.consecutive_limit = Setting::Configurable;
        // A run is healthy after max_backoff of std's time, which no virtual clock reaches.
        profile.grace = Setting::Configurable;
        profile.stop_signal = Setting::Fixed(Signal::TERM);
        profile.stop = Some(StopReturn::Reaped);
        profile.repeated_stop = Some(RepeatedStop::Harmless);
        // By what it finds on the machine.
        let by_cgroup =
            ProcessGroup::new().is_ok_and(|group| group.mechanism() == Mechanism::CgroupV2);
        (profile.stop_scope, profile.own_group) = if by_cgroup {
            (Some(StopScope::Tree), Some(OwnGroup::None))
        } else {
            (Some(StopScope::Group), Some(OwnGroup::Group))
        };
        profile.environment = Some(Environment::Inherited);
        profile.current_dir = true;
        profile.output = true;
        profile.reports_ends = true;
        profile.reports_start_failures = true;
        profile.reports_rest = true;
        profile.in_process = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<ProcesskitSession, SubjectError> {
        let mut command = Command::new(&service.program).args(&service.args);
        for (key, value) in &service.env {
            command = command.env(key, value);
        }
        if let Some(directory) = &service.current_dir {
            command = command.current_dir(directory);
        }
        if let Some(output) = &service.output {
            command = command.stdout_file_append(output);
        }
        let delays = &service.delays;
        let mut supervisor = Supervisor::new(command)
            .restart(match service.policy {
                RestartPolicy::Never => processkit::RestartPolicy::Never,
                RestartPolicy::Always => processkit::RestartPolicy::Always,
                _ => processkit::RestartPolicy::OnCrash,
            })
            .backoff(delays.initial, delays.multiplier)
            .max_backoff(delays.max)
            .jitter(delays.jitter != Jitter::None);
        if let RestartLimit::Consecutive(restarts) = service.limit {
            supervisor = supervisor.max_restarts(restarts.get());
        }
        let mut session = supervisor.start();
        let mut events = session.events()?;
        let (rests, rest) = watch::channel(None);
        let reporter = service.reporter();
        let events = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Some(notice) = notice(&event) {
                    if let Notice::Resting(rest) = &notice {
                        rests.send_replace(Some(rest.clone()));
                    }
                    reporter.report(notice);
                }
            }
        });
        Ok(ProcesskitSession {
            session: RefCell::new(Some(session)),
            grace: service.grace,
            rest,
            events,
        })
    }
}

fn notice(event: &SupervisionEvent) -> Option<Notice> {
    Some(match event {
        SupervisionEvent::IncarnationFinished { outcome, .. } => Notice::Ended(ended(outcome)?),
        SupervisionEvent::IncarnationFailed { error, .. } => {
            Notice::StartFailed(format!("{error:?}"))
        }
        SupervisionEvent::RestartScheduled { delay, .. } => Notice::BackingOff(*delay),
        SupervisionEvent::Stopped { reason } => Notice::Resting(match reason {
            StopReason::RestartsExhausted | StopReason::GaveUp => Rest::GaveUp {
                cause: None,
                restarts: None,
            },
            StopReason::Stopped => Rest::Stopped,
            StopReason::PolicySatisfied => Rest::Finished { success: true },
            reason => Rest::Failed(reason.name().to_owned()),
        }),
        SupervisionEvent::SupervisionFailed { error } => {
            Notice::Resting(Rest::Failed(format!("{error:?}")))
        }
        _ => return None,
    })
}

fn ended(outcome: &Outcome) -> Option<ExitStatus> {
    match (outcome.code(), outcome.signal()) {
        (Some(code), _) => Some(ExitStatus::Exited { code }),
        (None, Some(signal)) => Some(ExitStatus::Signaled {
            signal: Signal::from_number(signal).ok()?,
            core_dumped: false,
        }),
        (None, None) => None,
    }
}

impl Session for ProcesskitSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        let session = self.session.borrow_mut().take();
        match session {
            Some(session) => {
                session.stop(self.grace).await?;
            }
            // It takes the session: a second stop waits for the first.
            None => {
                self.outcome().await;
            }
        }
        Ok(())
    }

    async fn outcome(&self) -> Rest {
        let mut rest = self.rest.clone();
        match rest.wait_for(Option::is_some).await {
            Ok(rest) => rest.clone().unwrap_or(Rest::Stopped),
            Err(_) => Rest::Failed("its events ended".to_owned()),
        }
    }
}
