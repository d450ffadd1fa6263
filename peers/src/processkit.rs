//! The adapter for processkit 3.3.4: its `Supervisor`, started by `start()`.

use std::cell::RefCell;
use std::time::Duration;

use processkit::{
    Command, Mechanism, Outcome, ProcessGroup, StdioMode, StopReason, SupervisionEvent,
    SupervisionSession, Supervisor,
};
use supervise_harness::backoff::Jitter;
use supervise_harness::conformance::{Session, Subject, SubjectError};
use supervise_harness::rules::FailedStarts;
use supervise_harness::rules::JitterKind;
use supervise_harness::rules::{
    Daemonizer, Environment, Notice, OwnGroup, Profile, RestReason, Service, Setting, StopReturn,
    StopScope,
};
use supervise_harness::supervisor::{EndCause, RestartLimit, RestartPolicy};
use supervise_harness::{ExitStatus, Signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;

/// processkit's supervisor.
#[derive(Clone, Copy, Debug, Default)]
pub struct Processkit;

/// A session of processkit, and the task that reads the session's events.
#[derive(Debug)]
pub struct ProcesskitSession {
    session: RefCell<Option<SupervisionSession>>,
    grace: Duration,
    rests: watch::Sender<Option<RestReason>>,
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
        // The pages that are cited here are in processkit's docs folder.
        let mut profile = Profile::new("processkit 3.3.4");
        profile.restarts.policy = Setting::Configurable;
        // processkit takes only exit codes that are success (commands, `ok_codes`), and no signals:
        // no success_list. A predicate can prevent a restart (`stop_when`), but nothing forces one:
        // no override_lists.
        profile.delay.curve = Setting::Configurable;
        // supervision, "Backoff and jitter": the jitter is drawn from [0.5, 1.5), and comes on top
        // of the cap.
        profile.delay.jitters = JitterKind::ALL.to_vec();
        // supervision, "Errors and cancellation": a spawn failure is "a crash and restarts (with
        // backoff)".
        profile.restarts.failed_starts = FailedStarts::AsCrashes;
        // supervision, "Stopping": "at most n restarts = n + 1 total runs". The count never starts
        // anew: "a lifetime cap".
        profile.limit.consecutive = Setting::Configurable;
        // A run counts as healthy after max_backoff of std's time, which virtual time does not
        // move: no reset_after.
        profile.stopping.grace = Setting::Configurable;
        // supervision, "Live sessions": "SIGTERM, wait grace, SIGKILL".
        profile.stopping.signal = Setting::Fixed(Signal::TERM);
        profile.stopping.returns = Some(StopReturn::Reaped);
        // A stop consumes the session, so there is no second stop: no repeated_stop. A frozen
        // process is ended only at the end of the grace (platform-support, "Frozen trees"): no
        // wakes_frozen.
        // platform-support, "How containment works": what it does depends on what it finds on the
        // machine.
        let by_cgroup =
            ProcessGroup::new().is_ok_and(|group| group.mechanism() == Mechanism::CgroupV2);
        (profile.stopping.scope, profile.child.own_group) = if by_cgroup {
            (Some(StopScope::Tree), Some(OwnGroup::None))
        } else {
            (Some(StopScope::Group), Some(OwnGroup::Group))
        };
        // process-groups: every run has "a private group", and what is in that group "is killed
        // when the group is dropped".
        profile.stopping.clears_leftovers = true;
        // supervision: processkit restarts a child "whenever it exits".
        profile.child.daemonizer = Some(Daemonizer::Exit);
        // The documentation says nothing of the signal mask, of dispositions and of descriptors.
        profile.child.environment = Some(Environment::Inherited);
        profile.child.current_dir = true;
        // commands, "Redirecting output directly to a file".
        profile.child.output = true;
        profile.reports.ends = true;
        // IncarnationStarted: "A child incarnation successfully started."
        profile.reports.up = true;
        profile.reports.start_failures = true;
        profile.reports.rest = true;
        // SupervisionOutcome: the final result, and the number of restarts.
        profile.reports.give_up_cause = true;
        // processkit takes a factor that makes no sense for 1: no rejects_bad_settings.
        profile.process.in_test = true;
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
        // If nothing else is asked for, processkit captures the output and waits for the output's
        // end.
        command = match &service.output {
            Some(output) => command
                .stdout_file_append(output)
                .stderr_file_append(output),
            None => command.stdout(StdioMode::Null).stderr(StdioMode::Null),
        };
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
        let rests = watch::Sender::new(None);
        let said = rests.clone();
        let reporter = service.reporter();
        let events = tokio::spawn(async move {
            let mut success = true;
            while let Some(event) = events.next().await {
                if let SupervisionEvent::IncarnationFinished { success: is, .. } = &event {
                    success = *is;
                }
                if let Some(notice) = notice(&event, success) {
                    if let Notice::Resting(rest) = &notice {
                        said.send_replace(Some(rest.clone()));
                    }
                    reporter.report(notice);
                }
            }
        });
        Ok(ProcesskitSession {
            session: RefCell::new(Some(session)),
            grace: service.grace,
            rests,
            events,
        })
    }
}

/// Translates an event of processkit. `success` says whether processkit took the last end for a
/// success.
fn notice(event: &SupervisionEvent, success: bool) -> Option<Notice> {
    Some(match event {
        SupervisionEvent::IncarnationStarted { .. } => Notice::Up,
        SupervisionEvent::IncarnationFinished { outcome, .. } => Notice::Ended(ended(outcome)?),
        SupervisionEvent::IncarnationFailed { error, .. } => {
            Notice::StartFailed(format!("{error:?}"))
        }
        SupervisionEvent::RestartScheduled { delay, .. } => Notice::BackingOff(*delay),
        SupervisionEvent::Stopped { reason } => Notice::Resting(match reason {
            StopReason::RestartsExhausted | StopReason::GaveUp => RestReason::GaveUp {
                cause: None,
                restarts: None,
            },
            StopReason::Stopped => RestReason::Stopped,
            StopReason::PolicySatisfied => RestReason::Finished { success },
            reason => RestReason::Failed(reason.name().to_owned()),
        }),
        SupervisionEvent::SupervisionFailed { error } => {
            Notice::Resting(RestReason::Failed(format!("{error:?}")))
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
            // The first stop has taken the session. A second one waits for it.
            None => {
                self.outcome().await;
            }
        }
        Ok(())
    }

    async fn outcome(&self) -> RestReason {
        let mut rests = self.rests.subscribe();
        let rest = match rests.wait_for(Option::is_some).await {
            Ok(rest) => rest.clone().unwrap_or(RestReason::Stopped),
            Err(_) => RestReason::Failed("its events ended".to_owned()),
        };
        if !matches!(rest, RestReason::GaveUp { .. }) {
            return rest;
        }
        // The event says only that there were too many restarts. The result of the session says the
        // rest.
        let session = self.session.borrow_mut().take();
        let Some(session) = session else {
            return rest;
        };
        match session.wait().await {
            Ok(outcome) => {
                let cause = ended(&outcome.final_result.outcome()).map(EndCause::Exited);
                let rest = RestReason::GaveUp {
                    cause,
                    restarts: Some(outcome.restarts),
                };
                self.rests.send_replace(Some(rest.clone()));
                rest
            }
            Err(error) => RestReason::Failed(error.to_string()),
        }
    }
}
