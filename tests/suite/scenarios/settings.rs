//! The settings of a scenario's supervisors.

use serde::Deserialize;
use supervise_harness::supervisor::{Readiness, RestartLimit, RestartPolicy, RestartTracker};

use super::backoff::Backoff;
use super::values::{ExitCode, Period, SignalName, Time};

/// What every supervisor of the scenario is made of. What is left out is the supervisor's default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Settings {
    policy: Option<Policy>,
    limit: Option<Limit>,
    pub(super) backoff: Option<Backoff>,
    reset_after: Option<Period>,
    readiness: Option<UpWhen>,
    pub(super) start_timeout: Option<Period>,
    pub(super) grace: Option<Time>,
    pub(super) stop_signal: Option<SignalName>,
    success_codes: Option<Vec<ExitCode>>,
    success_signals: Option<Vec<SignalName>>,
    #[serde(default)]
    prevent_codes: Vec<ExitCode>,
    #[serde(default)]
    prevent_signals: Vec<SignalName>,
    #[serde(default)]
    force_codes: Vec<ExitCode>,
    #[serde(default)]
    force_signals: Vec<SignalName>,
    /// What is started in place of the agent.
    pub(super) program: Option<String>,
}

impl Settings {
    /// All of its values were checked when they were read.
    pub(super) fn tracker(&self) -> RestartTracker {
        let codes = |list: &[ExitCode]| list.iter().map(|code| code.0).collect::<Vec<_>>();
        let signals = |list: &[SignalName]| list.iter().map(|name| name.0).collect::<Vec<_>>();
        let mut tracker = RestartTracker::builder()
            .prevent_restart_codes(codes(&self.prevent_codes))
            .prevent_restart_signals(signals(&self.prevent_signals))
            .force_restart_codes(codes(&self.force_codes))
            .force_restart_signals(signals(&self.force_signals));
        if let Some(policy) = self.policy {
            tracker = tracker.policy(match policy {
                Policy::Never => RestartPolicy::Never,
                Policy::OnFailure => RestartPolicy::OnFailure,
                Policy::Always => RestartPolicy::Always,
            });
        }
        if let Some(Limit(limit)) = self.limit {
            tracker = tracker.limit(limit);
        }
        if let Some(Period(healthy)) = self.reset_after {
            tracker = tracker.reset_after(healthy);
        }
        if let Some(list) = &self.success_codes {
            tracker = tracker.success_codes(codes(list));
        }
        if let Some(list) = &self.success_signals {
            tracker = tracker.success_signals(signals(list));
        }
        tracker.build().expect("checked values")
    }

    pub(super) fn readiness(&self) -> Readiness {
        match self.readiness {
            None | Some(UpWhen::Exec) => Readiness::Exec,
            Some(UpWhen::Notified) => Readiness::Notified,
            Some(UpWhen::MinUptime(Period(time))) => Readiness::MinUptime(time),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Policy {
    Never,
    OnFailure,
    Always,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
enum UpWhen {
    Exec,
    Notified,
    MinUptime(Period),
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "RawLimit")]
struct Limit(RestartLimit);

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum RawLimit {
    Consecutive(u32),
    Window(RawWindow),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    restarts: u32,
    within: Time,
}

impl TryFrom<RawLimit> for Limit {
    type Error = supervise_harness::supervisor::PolicyError;

    fn try_from(raw: RawLimit) -> Result<Limit, Self::Error> {
        match raw {
            RawLimit::Consecutive(restarts) => RestartLimit::consecutive(restarts),
            RawLimit::Window(window) => RestartLimit::window(window.restarts, window.within.0),
        }
        .map(Limit)
    }
}
