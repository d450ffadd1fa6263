//! The loop that most projects have: spawn, wait, sleep, again.

use std::process::Stdio;
use std::time::Duration;

use supervise_harness::conformance::{Session, Subject, SubjectError};
use supervise_harness::rules::FailedStarts;
use supervise_harness::rules::{
    Daemonizer, DelayCurve, Environment, Notice, OwnGroup, Profile, RepeatedStop, RestReason,
    Service, Setting, StopReturn, StopScope,
};
use supervise_harness::supervisor::RestartPolicy;
use supervise_harness::{ExitStatus, Signal};
use tokio::process::Command;
use tokio::task::JoinHandle;

/// How long the loop sleeps between two runs.
const DELAY: Duration = Duration::from_secs(1);

/// A plain tokio loop: `loop { spawn; wait; sleep }`, stopped by aborting its task.
#[derive(Clone, Copy, Debug, Default)]
pub struct Plain;

/// The task that runs the loop. It is aborted when the session is dropped.
#[derive(Debug)]
pub struct PlainSession(JoinHandle<()>);

impl Drop for PlainSession {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Subject for Plain {
    type Session = PlainSession;

    fn profile(&self) -> Profile {
        let mut profile = Profile::new("a plain tokio loop");
        profile.restarts.policy = Setting::Fixed(RestartPolicy::Always);
        profile.delay.curve = Setting::Fixed(DelayCurve::constant(DELAY));
        profile.restarts.failed_starts = FailedStarts::AsCrashes;
        // A stop aborts the task. That drops the child, which kills it, and waits for nothing.
        profile.stopping.returns = Some(StopReturn::AtOnce);
        // JoinHandle::abort: "If the task was already cancelled [..] this method will do nothing."
        profile.stopping.repeated = Some(RepeatedStop::Harmless);
        profile.stopping.scope = Some(StopScope::Process);
        profile.child.own_group = Some(OwnGroup::None);
        // The loop waits for the process that it started, and for no other.
        profile.child.daemonizer = Some(Daemonizer::Exit);
        // std's documentation says nothing of the signal mask, of dispositions and of descriptors.
        profile.child.environment = Some(Environment::Inherited);
        profile.child.current_dir = true;
        profile.reports.ends = true;
        profile.reports.start_failures = true;
        profile.process.in_test = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<PlainSession, SubjectError> {
        let service = service.clone();
        Ok(PlainSession(tokio::spawn(async move {
            let reporter = service.reporter();
            loop {
                let mut command = Command::from(service.command());
                command.stdout(Stdio::null()).kill_on_drop(true);
                match command.spawn() {
                    Ok(mut child) => {
                        if let Ok(status) = child.wait().await {
                            reporter.report(Notice::Ended(ended(status)));
                        }
                    }
                    Err(error) => reporter.report(Notice::StartFailed(error.to_string())),
                }
                tokio::time::sleep(DELAY).await;
            }
        })))
    }
}

/// Converts a status of std to the one that the rules use.
pub(crate) fn ended(status: std::process::ExitStatus) -> ExitStatus {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal().map(Signal::from_number)) {
        (None, Some(Ok(signal))) => ExitStatus::Signaled {
            signal,
            core_dumped: status.core_dumped(),
        },
        (code, _) => ExitStatus::Exited {
            code: code.unwrap_or(-1),
        },
    }
}

impl Session for PlainSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        self.0.abort();
        Ok(())
    }

    async fn outcome(&self) -> RestReason {
        std::future::pending().await
    }
}
