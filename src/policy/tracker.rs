//! The state machine that decides what follows a run's end.

use std::time::Duration;

use crate::{ExitStatus, Signal, Timestamp};

use super::limit::Count;
use super::{Decision, EndCause, GaveUp, PolicyError, RestartLimit, RestartPolicy, RunEnd, period};

/// Decides what follows each end of a run. Pure: time comes in as an argument.
///
/// In this order:
/// 1. After giving up, the answer stays [`Decision::GiveUp`], with the first cause; after
///    [`stop`](RestartTracker::stop) it stays [`Decision::Finished`]. Only
///    [`reset`](RestartTracker::reset), an explicit start, ends either.
/// 2. An end that a stop of ours caused is never followed by a restart.
/// 3. A run that was up for at least the reset period brings attempts, and the restarts in a row,
///    back to 0. The restarts in a window stay: they leave it with time.
/// 4. The prevent list beats the force list, and both beat the policy.
/// 5. A restart that the limit does not allow is given up.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::{
///     Decision, RestartLimit, RestartPolicy, RestartTracker, RunEnd, Timestamp,
/// };
///
/// let mut tracker = RestartTracker::builder()
///     .policy(RestartPolicy::OnFailure)
///     .limit(RestartLimit::window(2, Duration::from_secs(60))?)
///     .build()?;
/// let at = |seconds| Timestamp::ORIGIN + Duration::from_secs(seconds);
/// let crash = RunEnd::exited(1);
/// assert_eq!(tracker.decide(&crash, at(0)), Decision::Restart { attempt: 0 });
/// assert_eq!(tracker.decide(&crash, at(1)), Decision::Restart { attempt: 1 });
/// let Decision::GiveUp(gave_up) = tracker.decide(&crash, at(2)) else { panic!() };
/// assert_eq!(gave_up.to_string(), "gave up after 2 restarts within 60s: exit code 1");
/// # Ok::<(), supervise_harness::PolicyError>(())
/// ```
///
/// Source: systemd.service(5) and systemd.unit(5); OTP `supervisor`; Docker's and Kubernetes's
/// reset after a healthy run.
#[derive(Clone, Debug)]
#[must_use]
pub struct RestartTracker {
    rules: RestartTrackerBuilder,
    attempt: u32,
    count: Count,
    gave_up: Option<GaveUp>,
    stopped: bool,
}

/// Builds a [`RestartTracker`].
#[derive(Clone, Debug)]
#[must_use]
pub struct RestartTrackerBuilder {
    policy: RestartPolicy,
    limit: RestartLimit,
    reset_after: Option<Duration>,
    success: Statuses,
    prevent: Statuses,
    force: Statuses,
    error: Option<PolicyError>,
}

impl RestartTracker {
    /// Starts from the defaults: restart on failure, without a limit, never reset; success is
    /// exit code 0.
    pub fn builder() -> RestartTrackerBuilder {
        RestartTrackerBuilder {
            policy: RestartPolicy::default(),
            limit: RestartLimit::default(),
            reset_after: None,
            success: Statuses {
                codes: [1, 0, 0, 0],
                signals: 0,
            },
            prevent: Statuses::default(),
            force: Statuses::default(),
            error: None,
        }
    }

    /// A tracker with these rules, which were checked.
    fn with(rules: RestartTrackerBuilder) -> RestartTracker {
        RestartTracker {
            rules,
            attempt: 0,
            count: Count::default(),
            gave_up: None,
            stopped: false,
        }
    }

    /// What follows this end, which was at `now`. Call it once for each end, in their order; a
    /// `now` before an earlier one counts as no time passed.
    pub fn decide(&mut self, end: &RunEnd, now: Timestamp) -> Decision {
        if let Some(gave_up) = self.gave_up {
            return Decision::GiveUp(gave_up);
        }
        let success = self.is_success(end);
        if self.stopped || end.requested {
            return Decision::Finished { success };
        }
        if self
            .rules
            .reset_after
            .is_some_and(|healthy| end.up_for >= healthy)
        {
            self.attempt = 0;
            self.count.healthy();
        }
        if !self.wants_restart(end.cause, success) {
            return Decision::Finished { success };
        }
        let limit = self.rules.limit;
        if let Err(restarts) = self.count.restart(limit, now) {
            let gave_up = GaveUp {
                cause: end.cause,
                restarts,
                limit,
            };
            self.gave_up = Some(gave_up);
            return Decision::GiveUp(gave_up);
        }
        let attempt = self.attempt;
        self.attempt = attempt.saturating_add(1);
        Decision::Restart { attempt }
    }

    /// Whether a run that ended so ended well: with a success code or signal, or killed by a
    /// signal after a stop was requested, whichever signal that took.
    #[must_use]
    pub fn is_success(&self, end: &RunEnd) -> bool {
        match end.cause {
            EndCause::Exited(ExitStatus::Signaled { .. }) if end.requested => true,
            EndCause::Exited(status) => self.rules.success.contains(status),
            EndCause::StartFailed
            | EndCause::StartTimeout
            | EndCause::WatchdogTimeout
            | EndCause::Unhealthy => false,
        }
    }

    /// A stop was requested: no end is followed by a restart until [`reset`](Self::reset).
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Somebody starts it explicitly, or clears its failures: everything counts from 0 again.
    pub fn reset(&mut self) {
        self.attempt = 0;
        self.count = Count::default();
        self.gave_up = None;
        self.stopped = false;
    }

    fn wants_restart(&self, cause: EndCause, success: bool) -> bool {
        if let EndCause::Exited(status) = cause {
            if self.rules.prevent.contains(status) {
                return false;
            }
            if self.rules.force.contains(status) {
                return true;
            }
        }
        match self.rules.policy {
            RestartPolicy::Never => false,
            RestartPolicy::OnFailure => !success,
            RestartPolicy::Always => true,
        }
    }
}

/// Restart on failure, without a limit, never reset: the builder's defaults.
impl Default for RestartTracker {
    fn default() -> RestartTracker {
        RestartTracker::with(RestartTracker::builder())
    }
}

impl RestartTrackerBuilder {
    /// The policy. Default: on failure.
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// The limit. Default: none.
    pub fn limit(mut self, limit: RestartLimit) -> Self {
        self.limit = limit;
        self
    }

    /// How long a run must have been up for its end to count as the first again; not zero.
    /// Default: no run is ever long enough.
    pub fn reset_after(mut self, healthy: Duration) -> Self {
        self.reset_after = Some(healthy);
        self
    }

    /// The exit codes, 0 to 255, that are success, in place of the ones before. Default: 0.
    pub fn success_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.success.codes = self.codes("success_codes", codes);
        self
    }

    /// The signals whose death is success, in place of the ones before. Default: none.
    pub fn success_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.success.signals = signal_bits(signals);
        self
    }

    /// The exit codes, 0 to 255, after which there is no restart, whatever the policy and the
    /// force lists say. Default: none. As `RestartPreventExitStatus=` of systemd.service(5).
    pub fn prevent_restart_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.prevent.codes = self.codes("prevent_restart_codes", codes);
        self
    }

    /// The signals after whose death there is no restart. Default: none.
    pub fn prevent_restart_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.prevent.signals = signal_bits(signals);
        self
    }

    /// The exit codes, 0 to 255, after which there is a restart, whatever the policy says.
    /// Default: none. As `RestartForceExitStatus=` of systemd.service(5).
    pub fn force_restart_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.force.codes = self.codes("force_restart_codes", codes);
        self
    }

    /// The signals after whose death there is a restart. Default: none.
    pub fn force_restart_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.force.signals = signal_bits(signals);
        self
    }

    /// Checks the values.
    ///
    /// # Errors
    ///
    /// A window or a reset period of zero, a code outside 0 to 255. The error names the field, the
    /// value and what was expected.
    pub fn build(mut self) -> Result<RestartTracker, PolicyError> {
        if let Some(error) = self.error.take() {
            return Err(error);
        }
        self.limit.checked()?;
        if let Some(healthy) = self.reset_after {
            period(healthy, PolicyError::ZeroReset)?;
        }
        Ok(RestartTracker::with(self))
    }

    /// The codes as bits; the first bad one is kept for [`build`](Self::build) to report.
    fn codes(&mut self, list: &'static str, codes: impl IntoIterator<Item = i32>) -> [u64; 4] {
        let mut bits = [0; 4];
        for code in codes {
            match u8::try_from(code) {
                Ok(byte) => bits[usize::from(byte / 64)] |= 1 << (byte % 64),
                Err(_) => {
                    self.error.get_or_insert(PolicyError::Code { list, code });
                }
            }
        }
        bits
    }
}

/// A set of exit codes and signals, one bit each.
#[derive(Clone, Copy, Debug, Default)]
struct Statuses {
    codes: [u64; 4],
    signals: u64,
}

impl Statuses {
    fn contains(&self, status: ExitStatus) -> bool {
        match status {
            ExitStatus::Exited { code } => u8::try_from(code)
                .is_ok_and(|code| self.codes[usize::from(code / 64)] >> (code % 64) & 1 == 1),
            ExitStatus::Signaled { signal, .. } => self.signals & signal_bits([signal]) != 0,
        }
    }
}

/// The signals, which are 1 to 64, as bits 0 to 63.
fn signal_bits(signals: impl IntoIterator<Item = Signal>) -> u64 {
    let bit = |signal: Signal| 1_u64 << (signal.number() - 1);
    signals
        .into_iter()
        .fold(0, |bits, signal| bits | bit(signal))
}
