//! A profile: everything that a subject declares about itself.

use std::time::Duration;

use super::child::ChildProfile;
use super::control::ControlProfile;
use super::delay::DelayProfile;
use super::group::GroupProfile;
use super::limit::LimitProfile;
use super::process::ProcessProfile;
use super::readiness::ReadinessProfile;
use super::reports::ReportProfile;
use super::restarts::RestartProfile;
use super::setting::Setting;
use super::stopping::StopProfile;
use super::strategy::StrategyProfile;
use super::time::{Time, Tolerance};
use crate::rules::ends::Ends;
use crate::rules::service::Service;
use crate::supervisor::{Readiness, RestartLimit, RestartPolicy};

/// What a subject declares about itself. Rules about features that it does not declare are
/// [`Verdict::Unsupported`](crate::rules::Verdict::Unsupported). That does not count as a pass.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// The subject's name in reports.
    pub name: String,
    /// Which clock the subject is tested by. Default: virtual.
    pub time: Time,
    /// Which ends of a run a subject follows with a restart.
    pub restarts: RestartProfile,
    /// How long a subject waits before a restart.
    pub delay: DelayProfile,
    /// When a subject gives up, and when its counting begins anew.
    pub limit: LimitProfile,
    /// How a subject stops a service.
    pub stopping: StopProfile,
    /// What a subject can be told while it runs.
    pub control: ControlProfile,
    /// How a subject tells that a service is up and healthy.
    pub readiness: ReadinessProfile,
    /// What a subject's services inherit.
    pub child: ChildProfile,
    /// What a subject can do with several services.
    pub group: GroupProfile,
    /// What a subject says by itself.
    pub reports: ReportProfile,
    /// Which process a subject is, and what happens when it is killed.
    pub process: ProcessProfile,
    /// Whether the subject lends its backoff strategy.
    pub strategy: StrategyProfile,
}

impl Profile {
    /// Makes the profile of a subject with this name that can do nothing but start a service.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Profile {
        Profile {
            name: name.into(),
            time: Time::Virtual,
            restarts: RestartProfile::default(),
            delay: DelayProfile::default(),
            limit: LimitProfile::default(),
            stopping: StopProfile::default(),
            control: ControlProfile::default(),
            readiness: ReadinessProfile::default(),
            child: ChildProfile::default(),
            group: GroupProfile::default(),
            reports: ReportProfile::default(),
            process: ProcessProfile::default(),
            strategy: StrategyProfile::default(),
        }
    }

    /// The time that stands for one second: one second in virtual time, else the `unit` of
    /// `Time::Real`.
    #[must_use]
    pub fn unit(&self) -> Duration {
        match self.time {
            Time::Virtual => Duration::from_secs(1),
            Time::Real { unit, .. } => unit,
        }
    }

    /// Whether some ends of a run are followed by a restart.
    pub(crate) fn has_restarts(&self) -> bool {
        self.restarts.policy.is_supported()
            && self.restarts.policy != Setting::Fixed(RestartPolicy::Never)
    }

    /// How late the subject may be. Zero in virtual time.
    #[must_use]
    pub fn tolerance(&self) -> Tolerance {
        match self.time {
            Time::Virtual => Tolerance::ZERO,
            Time::Real { tolerance, .. } => tolerance,
        }
    }

    /// The number of restarts that is wanted, or fewer if a fixed limit allows only fewer.
    #[cfg(feature = "conformance")]
    pub(crate) fn restarts_up_to(&self, wanted: u32) -> u32 {
        let fixed = [self.limit.consecutive, self.limit.window];
        let fixed = fixed.iter().filter_map(|limit| match limit {
            Setting::Fixed(limit) => self.allowed_starts(*limit),
            _ => None,
        });
        let most = |starts: usize| u32::try_from(starts.saturating_sub(1)).unwrap_or(u32::MAX);
        fixed.map(most).fold(wanted, u32::min)
    }

    /// How many starts a limit allows, the first included, if they come close together. `None`
    /// means any number.
    pub(crate) fn allowed_starts(&self, limit: RestartLimit) -> Option<usize> {
        let restarts = match limit {
            RestartLimit::Unlimited => return None,
            RestartLimit::Consecutive(restarts) | RestartLimit::Window { restarts, .. } => restarts,
        };
        let first = usize::from(!self.limit.first_start_counts);
        Some((restarts.get() as usize).saturating_add(first))
    }

    /// Changes a service to what the subject can do. A fixed setting gets its fixed value, and an
    /// unsupported one is not asked for.
    #[cfg(feature = "conformance")]
    pub(crate) fn fit(&self, service: &mut Service) {
        self.restarts.policy.fit(&mut service.policy);
        if !self.restarts.policy.is_supported() {
            service.policy = RestartPolicy::Never;
        }
        let jitter = service.delays.jitter;
        self.delay.curve.fit(&mut service.delays);
        if self.delay.curve.is_configurable() && self.delay.takes(jitter) {
            service.delays.jitter = jitter;
        } else if self.delay.curve.is_configurable() {
            service.delays.jitter = crate::backoff::Jitter::None;
        }
        let limit = match service.limit {
            RestartLimit::Window { .. } => &self.limit.window,
            _ => &self.limit.consecutive,
        };
        match limit {
            Setting::Unsupported => service.limit = RestartLimit::Unlimited,
            Setting::Fixed(limit) => service.limit = *limit,
            Setting::Configurable => {}
        }
        // A fixed limit always applies. So it is the service's limit if no other was asked for.
        for limit in [&self.limit.consecutive, &self.limit.window] {
            if let (RestartLimit::Unlimited, Setting::Fixed(limit)) = (service.limit, limit) {
                service.limit = *limit;
            }
        }
        match self.limit.reset_after {
            Setting::Unsupported => service.reset_after = None,
            Setting::Fixed(after) => service.reset_after = Some(after),
            Setting::Configurable => {}
        }
        match self.readiness.start_timeout {
            Setting::Unsupported => service.start_timeout = None,
            Setting::Fixed(timeout) => service.start_timeout = Some(timeout),
            Setting::Configurable => {}
        }
        match self.readiness.watchdog {
            Setting::Unsupported => service.watchdog = None,
            Setting::Fixed(period) => service.watchdog = Some(period),
            Setting::Configurable => {}
        }
        if !self.readiness.probe {
            service.probe = None;
        }
        self.stopping.signal.fit(&mut service.stop_signal);
        self.stopping.grace.fit(&mut service.grace);
        match (
            service.readiness,
            self.readiness.min_uptime,
            self.readiness.notification,
        ) {
            (_, Setting::Fixed(time), _) => service.readiness = Readiness::MinUptime(time),
            (Readiness::MinUptime(_), Setting::Unsupported, _) | (Readiness::Notified, _, None) => {
                service.readiness = Readiness::Exec;
            }
            _ => {}
        }
        if !self.restarts.success.is_supported() {
            service.success = Ends::default();
        }
        if !self.restarts.overrides {
            service.prevent = Ends::default();
            service.force = Ends::default();
        }
        if !self.child.output {
            service.output = None;
        }
        if !self.child.current_dir {
            service.current_dir = None;
        }
    }
}
