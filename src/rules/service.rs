//! What a subject is asked to keep running, and how.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::curve::DelayCurve;
use super::ends::Ends;
use super::reporter::Reporter;
use crate::status::ExitStatus;
use crate::supervisor::{GiveUpScope, RestartLimit, RestartPolicy, SiblingStrategy};
use crate::supervisor::{Probe, Readiness};
use agent_stub::Signal;

/// Several services that a subject is asked to keep running together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceGroup {
    /// The services in their start order. Each is started when the one before is up. They are
    /// stopped in reverse, each when the one after it has ended.
    pub services: Vec<Service>,
    /// Which services of the group a restart of one service replaces.
    pub strategy: SiblingStrategy,
    /// Which services of the group end when the subject gives up one of them.
    pub give_up: GiveUpScope,
}

impl ServiceGroup {
    /// Makes a group of these services, in this order. A restart replaces only the service itself.
    /// If one service is given up, all services end.
    #[must_use]
    pub fn new(services: Vec<Service>) -> ServiceGroup {
        ServiceGroup {
            services,
            strategy: SiblingStrategy::default(),
            give_up: GiveUpScope::default(),
        }
    }
}

/// What a subject is asked to keep running, and how.
///
/// Settings that the subject's profile does not declare as configurable have the values that the
/// profile declares.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Service {
    /// The service's name.
    pub name: String,
    /// The program that the subject runs.
    pub program: PathBuf,
    /// The program's arguments. The program needs nothing else, so the environment may be cleared.
    pub args: Vec<OsString>,
    /// Entries that the program's environment has in addition to what the profile says.
    pub env: Vec<(OsString, OsString)>,
    /// The working directory of the program. `None` means the subject's working directory.
    pub current_dir: Option<PathBuf>,
    /// The file that standard output and standard error are appended to. `None` means that no file
    /// is asked for.
    pub output: Option<PathBuf>,
    /// A folder in which the subject records that it keeps this service running, for example by a
    /// lock. Two subjects that are begun with the same folder are two supervisors of one service.
    /// `None` means that the subject need not check for another supervisor.
    pub state: Option<PathBuf>,
    /// Which ends of a run are followed by a restart.
    pub policy: RestartPolicy,
    /// Ends that count as success, in addition to exit code 0.
    pub success: Ends,
    /// Ends that are never followed by a restart, whatever the other lists say.
    pub prevent: Ends,
    /// Ends that are always followed by a restart, unless `prevent` has them.
    pub force: Ends,
    /// How long the subject waits before a restart.
    pub delays: DelayCurve,
    /// How many restarts there may be.
    pub limit: RestartLimit,
    /// How long a run must be up to count as healthy. After a healthy run, counting begins anew.
    /// `None`: no run counts as healthy.
    pub reset_after: Option<Duration>,
    /// When a run counts as up.
    pub readiness: Readiness,
    /// How long a run may take until it is up. `None` means any time.
    pub start_timeout: Option<Duration>,
    /// How long a run that is up may go without a heartbeat on its notification descriptor. `None`
    /// means any time.
    pub watchdog: Option<Duration>,
    /// How the subject asks a run that is up whether it is healthy. In the timelines that the rules
    /// judge, the probes are runs of an agent called `probe`.
    pub probe: Option<Probe>,
    /// The signal that a stop sends first.
    pub stop_signal: Signal,
    /// How long after the first signal a stop sends SIGKILL.
    pub grace: Duration,
    /// The seed of the jitter, for subjects that take one.
    pub seed: u64,
    reporter: Reporter,
}

impl Service {
    /// Makes a service with our defaults. It is restarted on failure, without a limit, after 1 s
    /// doubling to 60 s. It is up at exec. A stop sends SIGTERM, and SIGKILL after 5 s.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Service {
        Service {
            name: name.into(),
            program: PathBuf::new(),
            args: Vec::new(),
            env: Vec::new(),
            current_dir: None,
            output: None,
            state: None,
            policy: RestartPolicy::OnFailure,
            success: Ends::default(),
            prevent: Ends::default(),
            force: Ends::default(),
            delays: DelayCurve::exponential(Duration::from_secs(1), 2.0, Duration::from_secs(60)),
            limit: RestartLimit::Unlimited,
            reset_after: None,
            readiness: Readiness::Exec,
            start_timeout: None,
            watchdog: None,
            probe: None,
            stop_signal: Signal::TERM,
            grace: Duration::from_secs(5),
            seed: 0,
            reporter: Reporter::new(drop),
        }
    }

    /// Makes an ordinary command of the service: program, arguments, additional environment and
    /// working directory. The caller decides what happens to the output.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        if let Some(directory) = &self.current_dir {
            command.current_dir(directory);
        }
        command
    }

    /// Where the subject reports what it sees of the service.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    #[cfg(feature = "conformance")]
    pub(crate) fn set_reporter(&mut self, reporter: Reporter) {
        self.reporter = reporter;
    }

    /// Whether an end counts as success.
    #[must_use]
    pub fn is_success(&self, status: ExitStatus) -> bool {
        status == ExitStatus::Exited { code: 0 } || self.success.contains(status)
    }

    /// Whether an end that nobody asked for should be followed by a restart. Limits are not taken
    /// into account.
    #[must_use]
    pub fn restarts(&self, status: ExitStatus) -> bool {
        if self.prevent.contains(status) {
            return false;
        }
        if self.force.contains(status) {
            return true;
        }
        match self.policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !self.is_success(status),
            RestartPolicy::Always => true,
        }
    }
}
