//! Probes, which ask an agent that is up whether it is healthy.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

/// A command that tells whether a service is healthy. Exit code 0 means healthy, and any other end
/// means unhealthy. A timeout, or a command that cannot be started, counts as unhealthy.
///
/// After as many failures in a row as `failures` says, the supervisor stops the agent. That end of
/// the run is a failure, whatever the exit code, so the restart policy applies to it. After one
/// success, the count begins again at 0.
///
/// The first probe starts one period after the run is up. Each further probe starts one period
/// after the start of the one before. If that one takes longer, the next probe starts when it has
/// ended: two probes never run at the same time. Each run begins with a new period and a new count.
/// No probe runs while no agent is up, while an agent is being stopped, or during a delay. The
/// supervisor kills a probe and its process group if it has not answered at its timeout, or if its
/// run ends.
///
/// Source: the liveness probes of Kubernetes (`exec`, `periodSeconds`, `timeoutSeconds`,
/// `failureThreshold`), from which the defaults are taken; HEALTHCHECK of Dockerfiles, whose
/// failures have no consequence.
///
/// ```
/// use std::num::NonZeroU32;
/// use std::time::Duration;
/// use supervise_harness::supervisor::Probe;
///
/// let probe = Probe::new("curl")
///     .args(["--fail", "http://localhost:8080/health"])
///     .every(Duration::from_secs(30));
/// assert_eq!(probe.timeout, Duration::from_secs(1));
/// assert_eq!(probe.failures, NonZeroU32::new(3).unwrap());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Probe {
    /// The program to run.
    pub program: PathBuf,
    /// The program's arguments.
    pub args: Vec<OsString>,
    /// The period between the starts of two probes; above zero.
    pub every: Duration,
    /// How long a probe may take to answer; above zero.
    pub timeout: Duration,
    /// How many failures in a row end the run.
    pub failures: NonZeroU32,
}

impl Probe {
    /// Probes with this program every 10 s, with a timeout of 1 s. 3 failures in a row end the run.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Probe {
        Probe {
            program: program.into(),
            args: Vec::new(),
            every: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
            failures: NonZeroU32::MIN.saturating_add(2),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Probe {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets the period between the starts of two probes; above zero.
    #[must_use]
    pub fn every(mut self, period: Duration) -> Probe {
        self.every = period;
        self
    }

    /// Sets how long a probe may take to answer; above zero.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Probe {
        self.timeout = timeout;
        self
    }

    /// Sets how many failures in a row end the run.
    #[must_use]
    pub fn failures(mut self, failures: NonZeroU32) -> Probe {
        self.failures = failures;
        self
    }
}
