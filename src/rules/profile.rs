//! What a subject declares about itself.

use std::time::Duration;

use super::curve::DelayCurve;
#[cfg(feature = "conformance")]
use super::ends::Ends;
#[cfg(feature = "conformance")]
use super::service::Service;
#[cfg(feature = "conformance")]
use crate::supervisor::Readiness;
use crate::supervisor::{GiveUpScope, RestartLimit, RestartPolicy, SiblingStrategy};
use agent_stub::Signal;

/// Whether a subject has a feature, and whether the service can configure it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting<T> {
    /// The subject does not have the feature.
    #[default]
    Unsupported,
    /// The subject has the feature, always with this value.
    Fixed(T),
    /// The subject has the feature, with the value that the [`Service`](super::Service) asks for.
    Configurable,
}

impl<T> Setting<T> {
    /// Whether the subject has the feature at all.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        !matches!(self, Setting::Unsupported)
    }

    /// Whether the service can choose the value.
    #[must_use]
    pub fn is_configurable(&self) -> bool {
        matches!(self, Setting::Configurable)
    }

    /// Replaces the value that was asked for by the fixed value, if there is one.
    #[cfg(feature = "conformance")]
    fn fit(&self, asked: &mut T)
    where
        T: Clone,
    {
        if let Setting::Fixed(value) = self {
            *asked = value.clone();
        }
    }
}

/// Which clock a subject is tested by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Time {
    /// Virtual time, for a subject that is tokio code of one thread. One unit is one second.
    Virtual,
    /// The machine's clock.
    Real {
        /// The real time that stands for one second of virtual time, for example a tenth of a
        /// second. It must be so long that the subject can keep to it.
        unit: Duration,
        /// How late the subject may be.
        tolerance: Duration,
    },
}

/// What the delay before a restart is counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DelayOrigin {
    /// The end of the run before.
    #[default]
    Exit,
    /// The start of the run before. After a run that was longer than the delay, the next run starts
    /// at once.
    LastStart,
}

/// When a stop returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReturn {
    /// When the service has been reaped.
    Reaped,
    /// At once, when the stop is requested.
    AtOnce,
}

/// What a second stop does while the first is still in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepeatedStop {
    /// It does nothing more.
    Harmless,
    /// It kills the service without waiting for the grace to end.
    Escalates,
}

/// Which processes a stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopScope {
    /// Only the process that the subject started.
    Process,
    /// The process group of that process.
    Group,
    /// All its descendants, whatever their process group or session.
    Tree,
}

/// Whose process group a service is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnGroup {
    /// It leads a process group of its own.
    Group,
    /// It leads a session of its own.
    Session,
    /// It stays in the subject's process group.
    None,
}

/// How a subject treats a process that starts another process and exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Daemonizer {
    /// As a service that has exited.
    Exit,
    /// As a service that goes on in the other process.
    Tracked,
}

/// What the environment of a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Environment {
    /// The subject's own environment, and the entries that the service declares.
    Inherited,
    /// The entries that the service declares, and at most a few entries that the subject adds.
    Cleared,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitCounts {
    /// Restarts that nobody asked for, however the run before ended.
    #[default]
    Restarts,
    /// Restarts that nobody asked for, and starts that were asked for.
    Starts,
    /// Restarts after a failure.
    Failures,
}

/// Which processes of a service may notify the subject that the service is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotifyAccess {
    /// Only the process that the subject started.
    Main,
    /// Every process that has the descriptor.
    All,
}

/// What a start on request does while a restart is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenRestarting {
    /// The start is carried out after the restart, or together with it.
    Queued,
    /// The start fails with an error.
    Rejected,
}

/// What happens to a service whose supervisor is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashFate {
    /// The service dies, too.
    Dies,
    /// The service goes on.
    Survives,
}

/// What a subject declares about itself. Rules about features that it does not declare are
/// [`Verdict::Unsupported`](super::Verdict::Unsupported). That does not count as a pass.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// The subject's name in reports.
    pub name: String,
    /// Which clock the subject is tested by. Default: virtual.
    pub time: Time,
    /// Which ends of a run are followed by a restart.
    pub policy: Setting<RestartPolicy>,
    /// Whether the service can choose which ends are success.
    pub success_list: bool,
    /// Whether the service can choose ends that are never followed by a restart, and ends that
    /// always are.
    pub override_lists: bool,
    /// How long the subject waits before a restart, jitter included.
    pub delays: Setting<DelayCurve>,
    /// Whether the service can choose the jitter.
    pub jitter: bool,
    /// Whether the subject tries a failed start again after the delay, as it does after a crash.
    pub retries_failed_starts: bool,
    /// What the delays are counted from. Default: the end of the run before.
    pub delay_origin: DelayOrigin,
    /// How many restarts in a row there may be before the subject gives up.
    pub consecutive_limit: Setting<RestartLimit>,
    /// How many restarts within a period there may be before the subject gives up.
    pub window_limit: Setting<RestartLimit>,
    /// What the limits count. Default: restarts that nobody asked for.
    pub limit_counts: LimitCounts,
    /// Whether the first start counts towards the limit.
    pub first_start_counts: bool,
    /// How long a run must be up to count as healthy. After a healthy run, counting begins anew.
    pub reset_after: Setting<Duration>,
    /// The signal that a stop sends first.
    pub stop_signal: Setting<Signal>,
    /// How long after the first signal a stop sends SIGKILL.
    pub grace: Setting<Duration>,
    /// When a stop returns; `None` if the subject cannot stop a service.
    pub stop: Option<StopReturn>,
    /// What a second stop does while the first is still in progress.
    pub repeated_stop: Option<RepeatedStop>,
    /// Which processes a stop ends.
    pub stop_scope: Option<StopScope>,
    /// Whether a stop continues a process that is stopped, for example by SIGSTOP, so that the
    /// process can act on the stop signal.
    pub wakes_frozen: bool,
    /// Whose process group a service is in.
    pub own_group: Option<OwnGroup>,
    /// Whether the subject ends what a run leaves in its process group before it starts the next
    /// run.
    pub clears_leftovers: bool,
    /// How the subject treats a process that starts another process and exits.
    pub daemonizer: Option<Daemonizer>,
    /// Whether the subject can be told to restart a service.
    pub restart: bool,
    /// Whether the subject can be told to start a service that is down.
    pub start: bool,
    /// Whether the subject can be told to forget what it has counted.
    pub reset: bool,
    /// What a start on request does while a restart is in progress.
    pub when_restarting: Option<WhenRestarting>,
    /// How long a run must last until the subject takes the service for up.
    pub min_uptime: Setting<Duration>,
    /// The number of the descriptor on which a service says that it is ready, by a line `ready` or
    /// an empty line. `None` if the subject takes no notifications.
    pub notification: Option<u16>,
    /// Which processes of a service may notify.
    pub notify_access: Option<NotifyAccess>,
    /// After how long without a heartbeat the subject kills a service that is up. A heartbeat is a
    /// further notification.
    pub watchdog: Setting<Duration>,
    /// Whether the subject probes a service. The service can then choose everything in its
    /// [`Probe`](crate::supervisor::Probe).
    pub probe: bool,
    /// How long a service may take until it is up.
    pub start_timeout: Setting<Duration>,
    /// Whether a child starts with no signal blocked.
    pub clears_mask: bool,
    /// Whether a child starts with no signal ignored.
    pub resets_dispositions: bool,
    /// The descriptors that a child has besides its standard streams, if it has no others. `None`
    /// promises nothing.
    pub descriptors: Option<Vec<u32>>,
    /// What the environment of a child is.
    pub environment: Option<Environment>,
    /// Whether the subject starts the services of a [`ServiceGroup`](super::ServiceGroup) in order,
    /// each when the one before is up. It must also stop them in reverse order, each when the one
    /// after it has ended.
    pub start_order: bool,
    /// Which of these strategies the subject supports. A strategy says which services of a group a
    /// restart of one service replaces.
    pub sibling_strategies: Vec<SiblingStrategy>,
    /// Which of these scopes the subject supports. A scope says which services of a group end when
    /// the subject gives up one of them.
    pub give_up_scopes: Vec<GiveUpScope>,
    /// Whether the service can choose its working directory.
    pub current_dir: bool,
    /// Whether the service can choose a file for its output.
    pub output: bool,
    /// Whether the subject reports how its service ended: [`Notice::Ended`](super::Notice::Ended).
    pub reports_ends: bool,
    /// Whether the subject reports when its service is up: [`Notice::Up`](super::Notice::Up).
    pub reports_up: bool,
    /// Whether the subject reports that a start failed:
    /// [`Notice::StartFailed`](super::Notice::StartFailed).
    pub reports_start_failures: bool,
    /// Whether [`Session::outcome`](crate::conformance::Session::outcome) says how the subject came
    /// to rest.
    pub reports_rest: bool,
    /// Whether a subject that gives up says how the last run ended and how many restarts there
    /// were.
    pub reports_give_up_cause: bool,
    /// Whether the subject refuses settings that make no sense when it is given them.
    pub rejects_bad_settings: bool,
    /// Whether [`Subject::strategy`](crate::conformance::Subject::strategy) returns the subject's
    /// backoff strategy.
    pub lends_strategy: bool,
    /// Whether the strategy from `Subject::strategy` draws from the seed that it is given.
    pub seedable: bool,
    /// Whether the subject runs in the process of the test. Then the harness can count the
    /// descriptors that the subject holds, and can make the subject's system calls fail.
    pub in_process: bool,
    /// Whether the subject can run as a process of its own, which the harness can kill:
    /// [`Subject::start_apart`](crate::conformance::Subject::start_apart).
    pub own_process: bool,
    /// What happens to the service when the subject is killed.
    pub crash_fate: Option<CrashFate>,
    /// Whether a second supervisor of the same service is refused. Two supervisors have the same
    /// service if they have the same [`Service::state`](super::Service::state).
    pub refuses_second: bool,
    /// Whether a new supervisor never starts a second copy of a run that a killed supervisor has
    /// left. Instead the new supervisor does one of these:
    ///
    /// - It adopts the run.
    /// - It waits for the end of the run.
    /// - It kills the run.
    /// - It refuses to begin because of the run.
    pub no_duplicates: bool,
    /// Whether the subject, as a process of its own, is a subreaper and reaps the orphans that come
    /// to it.
    pub adopts_orphans: bool,
}

impl Profile {
    /// Makes the profile of a subject with this name that can do nothing but start a service.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Profile {
        Profile {
            name: name.into(),
            time: Time::Virtual,
            policy: Setting::Unsupported,
            success_list: false,
            override_lists: false,
            delays: Setting::Unsupported,
            jitter: false,
            retries_failed_starts: false,
            delay_origin: DelayOrigin::Exit,
            consecutive_limit: Setting::Unsupported,
            window_limit: Setting::Unsupported,
            limit_counts: LimitCounts::Restarts,
            first_start_counts: false,
            reset_after: Setting::Unsupported,
            stop_signal: Setting::Unsupported,
            grace: Setting::Unsupported,
            stop: None,
            repeated_stop: None,
            stop_scope: None,
            wakes_frozen: false,
            own_group: None,
            clears_leftovers: false,
            daemonizer: None,
            restart: false,
            start: false,
            reset: false,
            when_restarting: None,
            min_uptime: Setting::Unsupported,
            notification: None,
            notify_access: None,
            watchdog: Setting::Unsupported,
            probe: false,
            start_timeout: Setting::Unsupported,
            clears_mask: false,
            resets_dispositions: false,
            descriptors: None,
            environment: None,
            start_order: false,
            sibling_strategies: Vec::new(),
            give_up_scopes: Vec::new(),
            current_dir: false,
            output: false,
            reports_ends: false,
            reports_up: false,
            reports_start_failures: false,
            reports_rest: false,
            reports_give_up_cause: false,
            rejects_bad_settings: false,
            lends_strategy: false,
            seedable: false,
            in_process: false,
            own_process: false,
            crash_fate: None,
            refuses_second: false,
            no_duplicates: false,
            adopts_orphans: false,
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
    pub(crate) fn restarts(&self) -> bool {
        self.policy.is_supported() && self.policy != Setting::Fixed(RestartPolicy::Never)
    }

    /// How late the subject may be. Zero in virtual time.
    #[must_use]
    pub fn tolerance(&self) -> Duration {
        match self.time {
            Time::Virtual => Duration::ZERO,
            Time::Real { tolerance, .. } => tolerance,
        }
    }

    /// The number of restarts that is wanted, or fewer if a fixed limit allows only fewer.
    #[cfg(feature = "conformance")]
    pub(crate) fn restarts_up_to(&self, wanted: u32) -> u32 {
        let fixed = [self.consecutive_limit, self.window_limit];
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
        let first = usize::from(!self.first_start_counts);
        Some((restarts.get() as usize).saturating_add(first))
    }

    /// Changes a service to what the subject can do. A fixed setting gets its fixed value, and an
    /// unsupported one is not asked for.
    #[cfg(feature = "conformance")]
    pub(crate) fn fit(&self, service: &mut Service) {
        self.policy.fit(&mut service.policy);
        if !self.policy.is_supported() {
            service.policy = RestartPolicy::Never;
        }
        let jitter = service.delays.jitter;
        self.delays.fit(&mut service.delays);
        if self.delays.is_configurable() && self.jitter {
            service.delays.jitter = jitter;
        } else if self.delays.is_configurable() {
            service.delays.jitter = crate::backoff::Jitter::None;
        }
        let limit = match service.limit {
            RestartLimit::Window { .. } => &self.window_limit,
            _ => &self.consecutive_limit,
        };
        match limit {
            Setting::Unsupported => service.limit = RestartLimit::Unlimited,
            Setting::Fixed(limit) => service.limit = *limit,
            Setting::Configurable => {}
        }
        // A fixed limit always applies. So it is the service's limit if no other was asked for.
        for limit in [&self.consecutive_limit, &self.window_limit] {
            if let (RestartLimit::Unlimited, Setting::Fixed(limit)) = (service.limit, limit) {
                service.limit = *limit;
            }
        }
        match self.reset_after {
            Setting::Unsupported => service.reset_after = None,
            Setting::Fixed(after) => service.reset_after = Some(after),
            Setting::Configurable => {}
        }
        match self.start_timeout {
            Setting::Unsupported => service.start_timeout = None,
            Setting::Fixed(timeout) => service.start_timeout = Some(timeout),
            Setting::Configurable => {}
        }
        match self.watchdog {
            Setting::Unsupported => service.watchdog = None,
            Setting::Fixed(period) => service.watchdog = Some(period),
            Setting::Configurable => {}
        }
        if !self.probe {
            service.probe = None;
        }
        self.stop_signal.fit(&mut service.stop_signal);
        self.grace.fit(&mut service.grace);
        match (service.readiness, self.min_uptime, self.notification) {
            (_, Setting::Fixed(time), _) => service.readiness = Readiness::MinUptime(time),
            (Readiness::MinUptime(_), Setting::Unsupported, _) | (Readiness::Notified, _, None) => {
                service.readiness = Readiness::Exec;
            }
            _ => {}
        }
        if !self.success_list {
            service.success = Ends::default();
        }
        if !self.override_lists {
            service.prevent = Ends::default();
            service.force = Ends::default();
        }
        if !self.output {
            service.output = None;
        }
        if !self.current_dir {
            service.current_dir = None;
        }
    }
}
