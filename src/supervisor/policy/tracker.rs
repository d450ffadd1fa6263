//! The state machine that decides what follows a run's end.

use std::time::Duration;

use crate::status::ExitStatus;
use crate::timestamp::Timestamp;
use agent_stub::Signal;

use super::decision::{Decision, GaveUp, RestartPolicy};
use super::end::{EndCause, RunEnd};
use super::error::{PolicyError, period};
use super::limit::{Count, RestartLimit};

/// Decides what follows each end of a run. It reads no clock: the caller passes the time.
///
/// It applies these rules, in this order:
/// 1. After it gave up, it always answers [`Decision::GiveUp`] with the first cause. After
///    [`stop`](RestartTracker::stop), it always answers [`Decision::Finished`]. Only
///    [`reset`](RestartTracker::reset), which means an explicit start, ends these states.
/// 2. It never restarts after an end that our own stop caused.
/// 3. A run that was up for at least the reset period sets two counts back to 0: the attempts, and
///    the restarts in a row. The restarts in a window still count, until they are too old for it.
/// 4. The prevent list beats the force list, and both beat the policy.
/// 5. If the limit does not allow the restart, it gives up.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::supervisor::{
///     Decision, RestartLimit, RestartPolicy, RestartTracker, RunEnd,
/// };
/// use supervise_harness::Timestamp;
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
/// # Ok::<(), supervise_harness::supervisor::PolicyError>(())
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
    /// Returns a builder with the defaults: restart on failure, no limit, no reset after a healthy
    /// run, and only exit code 0 is a success.
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

    /// Makes a tracker with these rules, which the caller has checked.
    fn with(rules: RestartTrackerBuilder) -> RestartTracker {
        RestartTracker {
            rules,
            attempt: 0,
            count: Count::default(),
            gave_up: None,
            stopped: false,
        }
    }

    /// Decides what follows this end, which happened at `now`. Call it once for each end, in the
    /// order of the ends. If `now` is earlier than in a previous call, it counts as if no time had
    /// passed.
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

    /// Whether this end counts as a success. It does if its exit code or its signal is on the
    /// success lists. It also does if the end was requested and a signal killed the run, whichever
    /// signal.
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

    /// Notes that a stop was requested: there is no restart after any end until
    /// [`reset`](Self::reset).
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Notes an explicit start, or that somebody cleared the failures. It ends a stop and a
    /// give-up, and all counts start at 0 again.
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

/// The builder's defaults: restart on failure, no limit, no reset after a healthy run.
impl Default for RestartTracker {
    fn default() -> RestartTracker {
        RestartTracker::with(RestartTracker::builder())
    }
}

impl RestartTrackerBuilder {
    /// Sets the policy. Default: on failure.
    pub fn policy(mut self, policy: RestartPolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets the limit. Default: none.
    pub fn limit(mut self, limit: RestartLimit) -> Self {
        self.limit = limit;
        self
    }

    /// Sets how long a run must be up to be healthy; not zero. The end of a healthy run counts as
    /// the first end again. Default: no run is long enough.
    pub fn reset_after(mut self, healthy: Duration) -> Self {
        self.reset_after = Some(healthy);
        self
    }

    /// Sets the exit codes, 0 to 255, that are a success. They replace the codes set before.
    /// Default: 0.
    pub fn success_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.success.codes = self.codes("success_codes", codes);
        self
    }

    /// Sets the signals for which it is a success if they kill a run. They replace the signals set
    /// before. Default: none.
    pub fn success_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.success.signals = signal_bits(signals);
        self
    }

    /// Sets the exit codes, 0 to 255, after which there is no restart, whatever the policy and the
    /// force lists say. Default: none. Like `RestartPreventExitStatus=` of systemd.service(5).
    pub fn prevent_restart_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.prevent.codes = self.codes("prevent_restart_codes", codes);
        self
    }

    /// Sets the signals after which there is no restart if they kill a run. Default: none.
    pub fn prevent_restart_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.prevent.signals = signal_bits(signals);
        self
    }

    /// Sets the exit codes, 0 to 255, after which there is a restart, whatever the policy says.
    /// Default: none. Like `RestartForceExitStatus=` of systemd.service(5).
    pub fn force_restart_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.force.codes = self.codes("force_restart_codes", codes);
        self
    }

    /// Sets the signals after which there is a restart if they kill a run, whatever the policy
    /// says. Default: none.
    pub fn force_restart_signals(mut self, signals: impl IntoIterator<Item = Signal>) -> Self {
        self.force.signals = signal_bits(signals);
        self
    }

    /// Checks the values and builds the tracker.
    ///
    /// # Errors
    ///
    /// If a window or the reset period is zero, or if an exit code is outside 0 to 255. The error
    /// names the field, the value and what was expected.
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

    /// Returns the codes as bits. Keeps the first bad code, so that [`build`](Self::build) reports
    /// it.
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

/// Returns the signals, which are 1 to 64, as bits 0 to 63.
fn signal_bits(signals: impl IntoIterator<Item = Signal>) -> u64 {
    let bit = |signal: Signal| 1_u64 << (signal.number() - 1);
    signals
        .into_iter()
        .fold(0, |bits, signal| bits | bit(signal))
}
