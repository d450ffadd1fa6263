//! What a subject is asked to keep running, and how.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::Notice;
use crate::backoff::{BackoffError, ExponentialBackoff, Jitter};
use crate::policy::{GiveUpScope, RestartLimit, RestartPolicy, SiblingStrategy};
use crate::supervisor::{Probe, Readiness};
use crate::{ExitStatus, Signal};

/// How the delay before a restart grows: `initial·multiplierⁿ`, at most `max`, spread by the jitter;
/// n is the number of restarts before, from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct DelayCurve {
    /// The first delay.
    pub initial: Duration,
    /// What each delay is multiplied with to give the next. 1 is a constant delay.
    pub multiplier: f64,
    /// The longest delay.
    pub max: Duration,
    /// How chance spreads it.
    pub jitter: Jitter,
}

impl DelayCurve {
    /// The same delay every time.
    #[must_use]
    pub fn constant(delay: Duration) -> DelayCurve {
        DelayCurve::exponential(delay, 1.0, delay)
    }

    /// A delay that grows, without jitter.
    #[must_use]
    pub fn exponential(initial: Duration, multiplier: f64, max: Duration) -> DelayCurve {
        DelayCurve {
            initial,
            multiplier,
            max,
            jitter: Jitter::None,
        }
    }

    /// With a jitter.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> DelayCurve {
        self.jitter = jitter;
        self
    }

    /// The `n`-th delay, from 0, jitter apart.
    #[must_use]
    pub fn delay(&self, n: u32) -> Duration {
        let nominal = self.initial.as_secs_f64() * self.multiplier.powf(f64::from(n));
        match Duration::try_from_secs_f64(nominal) {
            Ok(delay) => delay.min(self.max),
            Err(_) => self.max,
        }
    }

    /// Between what the `n`-th delay lies, jitter included. Of decorrelated jitter, which depends on
    /// the delay before, only the outermost bounds.
    #[must_use]
    pub fn bounds(&self, n: u32) -> (Duration, Duration) {
        let v = self.delay(n);
        match self.jitter {
            Jitter::None => (v, v),
            Jitter::Full => (Duration::ZERO, v),
            Jitter::Equal => (v / 2, v),
            Jitter::Relative(part) => {
                // What is no number, or too large, is refused elsewhere.
                let part = part.clamp(0.0, f64::from(u32::MAX)).max(0.0);
                let most = Duration::try_from_secs_f64(v.as_secs_f64() * (1.0 + part));
                (
                    v.mul_f64((1.0 - part).max(0.0)),
                    most.map_or(self.max, |most| most.min(self.max)),
                )
            }
            Jitter::Decorrelated => (self.initial.min(self.max), self.max),
        }
    }

    /// Our strategy for it.
    ///
    /// # Errors
    ///
    /// As [`ExponentialBackoffBuilder::build`](crate::ExponentialBackoffBuilder::build).
    pub fn strategy(&self, seed: Option<u64>) -> Result<ExponentialBackoff, BackoffError> {
        let mut builder = ExponentialBackoff::builder()
            .initial(self.initial)
            .multiplier(self.multiplier)
            .max(self.max)
            .jitter(self.jitter);
        if let Some(seed) = seed {
            builder = builder.seed(seed);
        }
        builder.build()
    }
}

/// A set of ends, by exit code and by signal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Ends {
    /// Exit codes.
    pub codes: BTreeSet<i32>,
    /// Signals that kill.
    pub signals: Vec<Signal>,
}

impl Ends {
    /// Whether that end is in it.
    #[must_use]
    pub fn contains(&self, status: ExitStatus) -> bool {
        match status {
            ExitStatus::Exited { code } => self.codes.contains(&code),
            ExitStatus::Signaled { signal, .. } => self.signals.contains(&signal),
        }
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.codes.is_empty() && self.signals.is_empty()
    }
}

/// Where a subject says what it sees of its service. Cheap to clone, and may be sent to other threads.
#[derive(Clone)]
pub struct Reporter(Arc<dyn Fn(Notice) + Send + Sync>);

impl Reporter {
    pub(crate) fn new(sink: impl Fn(Notice) + Send + Sync + 'static) -> Reporter {
        Reporter(Arc::new(sink))
    }

    /// Says something. When it is said counts.
    pub fn report(&self, notice: Notice) {
        (self.0)(notice);
    }
}

impl fmt::Debug for Reporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reporter")
    }
}

/// Several services that a subject is asked to keep running together.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceGroup {
    /// The services, in the order in which they are started, each when the one before is up. They are
    /// stopped in reverse, each when the one after it has ended.
    pub services: Vec<Service>,
    /// Which of them a restart of one replaces.
    pub strategy: SiblingStrategy,
    /// Which of them end when one is given up.
    pub give_up: GiveUpScope,
}

impl ServiceGroup {
    /// These services, in this order, of which a restart replaces one, and giving up ends all.
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
/// What the subject's profile says cannot be configured is what the profile says it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The program.
    pub program: PathBuf,
    /// Its arguments. They alone suffice: the environment may be cleared.
    pub args: Vec<OsString>,
    /// What the environment has beside what the profile says.
    pub env: Vec<(OsString, OsString)>,
    /// Where it is started; `None` is wherever the subject is.
    pub current_dir: Option<PathBuf>,
    /// The file that its standard output and error are appended to; `None` is nowhere.
    pub output: Option<PathBuf>,
    /// A folder in which the subject keeps what says that this service is in its hands, a lock say:
    /// two that are begun with the same folder are two supervisors of one service. `None` is nowhere:
    /// then nobody asks who else has it.
    pub state: Option<PathBuf>,
    /// Which ends are followed by a start.
    pub policy: RestartPolicy,
    /// Ends that are success, beside exit code 0.
    pub success: Ends,
    /// Ends that are never followed by a start, whatever the other lists say.
    pub prevent: Ends,
    /// Ends that always are followed by one.
    pub force: Ends,
    /// How long after an end the start is.
    pub delays: DelayCurve,
    /// How many restarts there may be.
    pub limit: RestartLimit,
    /// How long a run is up until it counts as healthy, and counting begins anew.
    pub reset_after: Option<Duration>,
    /// When it is up.
    pub readiness: Readiness,
    /// How long it may take until it is up.
    pub start_timeout: Option<Duration>,
    /// How long it may be silent while it is up: on the descriptor of the notification.
    pub watchdog: Option<Duration>,
    /// How it is asked whether it is healthy while it is up. In what the rules judge, the probes are the
    /// runs of an agent called `probe`.
    pub probe: Option<Probe>,
    /// What a stop sends first.
    pub stop_signal: Signal,
    /// How long after that it sends SIGKILL.
    pub grace: Duration,
    /// What jitter is drawn from, where the subject takes a seed.
    pub seed: u64,
    reporter: Reporter,
}

impl Service {
    /// A service with our defaults: restart on failure, without a limit, after 1 s doubling to 60 s;
    /// up at exec; stopped by SIGTERM and, after 5 s, SIGKILL.
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

    /// As an ordinary command: program, arguments, extra environment, working directory. What becomes
    /// of its output is left to the caller.
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

    /// Where to say what is seen of it.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    #[cfg(feature = "properties")]
    pub(crate) fn set_reporter(&mut self, reporter: Reporter) {
        self.reporter = reporter;
    }

    /// Whether an end is success.
    #[must_use]
    pub fn is_success(&self, status: ExitStatus) -> bool {
        status == ExitStatus::Exited { code: 0 } || self.success.contains(status)
    }

    /// Whether an end that nobody asked for is to be followed by a start, limits apart.
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
