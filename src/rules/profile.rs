//! What a subject declares about itself.

use std::time::Duration;

use super::DelayCurve;
#[cfg(feature = "properties")]
use super::Service;
use crate::Signal;
use crate::policy::{GiveUpScope, RestartLimit, RestartPolicy, SiblingStrategy};
#[cfg(feature = "properties")]
use crate::supervisor::Readiness;

/// What a subject can be told about one thing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Setting<T> {
    /// It has no such thing.
    #[default]
    Unsupported,
    /// It is always this.
    Fixed(T),
    /// It is what the [`Service`](super::Service) says.
    Configurable,
}

impl<T> Setting<T> {
    /// Whether the subject has it at all.
    #[must_use]
    pub fn is_supported(&self) -> bool {
        !matches!(self, Setting::Unsupported)
    }

    /// Whether it can be told.
    #[must_use]
    pub fn is_configurable(&self) -> bool {
        matches!(self, Setting::Configurable)
    }

    /// Puts what is fixed into the place of what was asked for.
    #[cfg(feature = "properties")]
    fn fit(&self, asked: &mut T)
    where
        T: Clone,
    {
        if let Setting::Fixed(value) = self {
            *asked = value.clone();
        }
    }
}

/// Which clock the subject is tested by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Time {
    /// Virtual: it is tokio code of one thread. One unit is one second.
    Virtual,
    /// The machine's.
    Real {
        /// What the rules take for one second of the virtual kind: so long, a tenth of a second say,
        /// that the subject can keep to it.
        unit: Duration,
        /// How late the subject may be.
        tolerance: Duration,
    },
}

/// What a delay is counted from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DelayOrigin {
    /// The end of the run before.
    #[default]
    Exit,
    /// The start of the run before; what ran longer than that starts at once.
    LastStart,
}

/// When a stop returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopReturn {
    /// When the service was reaped.
    Reaped,
    /// When it was asked for.
    AtOnce,
}

/// What a stop does while another is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RepeatedStop {
    /// Nothing more.
    Harmless,
    /// It kills without waiting for the grace.
    Escalates,
}

/// Which processes a stop ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopScope {
    /// The process that was started.
    Process,
    /// Its process group.
    Group,
    /// Every descendant, wherever it went.
    Tree,
}

/// Whose process group a service is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnGroup {
    /// It leads a group of its own.
    Group,
    /// It leads a session of its own.
    Session,
    /// It stays in the subject's.
    None,
}

/// What a process counts as that starts another and exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Daemonizer {
    /// As a service that exited.
    Exit,
    /// As a service that goes on in the other process.
    Tracked,
}

/// What the environment of a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Environment {
    /// The subject's own, and what the service declares.
    Inherited,
    /// What the service declares, and at most a few entries of the subject's own making.
    Cleared,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum LimitCounts {
    /// Restarts that nobody asked for, whatever ended the run before.
    #[default]
    Restarts,
    /// These, and the starts that were asked for.
    Starts,
    /// Restarts after a failure.
    Failures,
}

/// Whose notifications count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotifyAccess {
    /// Those of the process that was started.
    Main,
    /// Those of any process that has the descriptor.
    All,
}

/// What a start does while a restart is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenRestarting {
    /// It is carried out afterwards, or together with it.
    Queued,
    /// It is an error.
    Rejected,
}

/// What becomes of a service whose supervisor is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashFate {
    /// It dies, too.
    Dies,
    /// It goes on.
    Survives,
}

/// What a subject declares about itself. What it does not declare it is not held to: the verdict is
/// [`Verdict::Unsupported`](super::Verdict::Unsupported), which is no pass.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Profile {
    /// What it is called in reports.
    pub name: String,
    /// Which clock it is tested by. Default: virtual.
    pub time: Time,
    /// Which ends are followed by a start.
    pub policy: Setting<RestartPolicy>,
    /// Whether it can be told which ends are success.
    pub success_list: bool,
    /// Whether it can be told which ends are never, and which always, followed by a start.
    pub override_lists: bool,
    /// How long it waits before a restart, jitter included.
    pub delays: Setting<DelayCurve>,
    /// Whether it can be told a jitter.
    pub jitter: bool,
    /// Whether a start that failed is tried again after the delay, as a run that crashed is.
    pub retries_failed_starts: bool,
    /// What the delays are counted from. Default: the end.
    pub delay_origin: DelayOrigin,
    /// Restarts in a row before it gives up.
    pub consecutive_limit: Setting<RestartLimit>,
    /// Restarts within a period before it gives up.
    pub window_limit: Setting<RestartLimit>,
    /// What the limits count. Default: restarts that nobody asked for.
    pub limit_counts: LimitCounts,
    /// Whether the first start counts against the limit.
    pub first_start_counts: bool,
    /// After how long a run is healthy, so that counting begins anew.
    pub reset_after: Setting<Duration>,
    /// What a stop sends first.
    pub stop_signal: Setting<Signal>,
    /// How long after that it sends SIGKILL.
    pub grace: Setting<Duration>,
    /// Whether it can stop, and when that returns.
    pub stop: Option<StopReturn>,
    /// What a second stop does during the first.
    pub repeated_stop: Option<RepeatedStop>,
    /// Which processes a stop ends.
    pub stop_scope: Option<StopScope>,
    /// Whether a stop continues a process that is stopped, as by SIGSTOP, so that it can act on the
    /// stop signal.
    pub wakes_frozen: bool,
    /// Whose process group a service is in.
    pub own_group: Option<OwnGroup>,
    /// Whether what a run leaves in its process group is ended before the next run starts.
    pub clears_leftovers: bool,
    /// What a daemonizer counts as.
    pub daemonizer: Option<Daemonizer>,
    /// Whether it can be told to restart a service.
    pub restart: bool,
    /// Whether it can be told to start a service that is down.
    pub start: bool,
    /// Whether it can be told to forget what it has counted.
    pub reset: bool,
    /// What a start does during a restart.
    pub when_restarting: Option<WhenRestarting>,
    /// Whether it takes a minimum uptime for readiness.
    pub min_uptime: Setting<Duration>,
    /// Whether it takes a notification for readiness: a line `ready`, or an empty one, on the
    /// descriptor of this number.
    pub notification: Option<u16>,
    /// Whose notifications count.
    pub notify_access: Option<NotifyAccess>,
    /// After how long without a heartbeat, which is a notification more, a service that is up is
    /// killed.
    pub watchdog: Setting<Duration>,
    /// Whether it takes a [`Probe`](crate::Probe), all of which can be chosen.
    pub probe: bool,
    /// How long a service may take until it is up.
    pub start_timeout: Setting<Duration>,
    /// Whether a child's blocked signals are none.
    pub clears_mask: bool,
    /// Whether a child ignores no signal.
    pub resets_dispositions: bool,
    /// The descriptors that a child has beside its standard streams, where there are no others.
    pub descriptors: Option<Vec<u32>>,
    /// What a child's environment is.
    pub environment: Option<Environment>,
    /// Whether it starts the services of a [`ServiceGroup`](super::ServiceGroup) in their order, each
    /// when the one before is up, and stops them in reverse, each when the one after it has ended.
    pub start_order: bool,
    /// Which services of a group a restart of one replaces: what it can be told of these.
    pub sibling_strategies: Vec<SiblingStrategy>,
    /// Which services of a group end when one is given up: what it can be told of these.
    pub give_up_scopes: Vec<GiveUpScope>,
    /// Whether it can be told where to start a service.
    pub current_dir: bool,
    /// Whether it can be told a file for the output.
    pub output: bool,
    /// Whether it reports how its service ended: [`Notice::Ended`](super::Notice::Ended).
    pub reports_ends: bool,
    /// Whether it reports when its service is up: [`Notice::Up`](super::Notice::Up).
    pub reports_up: bool,
    /// Whether it reports that a start failed:
    /// [`Notice::StartFailed`](super::Notice::StartFailed).
    pub reports_start_failures: bool,
    /// Whether [`Session::outcome`](crate::conformance::Session::outcome) says how it came to rest.
    pub reports_rest: bool,
    /// Whether giving up says the last end and the number of restarts.
    pub reports_give_up_cause: bool,
    /// Whether it refuses settings that make no sense when it is told them.
    pub rejects_bad_settings: bool,
    /// Whether [`Subject::strategy`](crate::conformance::Subject::strategy) lends its backoff.
    pub lends_strategy: bool,
    /// Whether the strategy that it lends draws from the seed that it is given.
    pub seedable: bool,
    /// Whether it runs in the process of the test, so that what it holds can be counted there, and what
    /// it asks of the kernel be refused.
    pub in_process: bool,
    /// Whether it can be a process of its own, which can be killed:
    /// [`Subject::start_apart`](crate::conformance::Subject::start_apart).
    pub own_process: bool,
    /// What becomes of its service when it is killed.
    pub crash_fate: Option<CrashFate>,
    /// Whether a second supervisor of a service, one with the same [`Service::state`](super::Service::state),
    /// is refused.
    pub refuses_second: bool,
    /// Whether a supervisor that is begun after another was killed adopts, waits for, refuses to
    /// begin because of, or kills what that one has left, rather than start a second copy.
    pub no_duplicates: bool,
    /// Whether, in a process of its own, it is a subreaper, and reaps the orphans that come to it.
    pub adopts_orphans: bool,
}

impl Profile {
    /// A subject of that name that can do nothing but start a service.
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

    /// What the rules take for a second.
    #[must_use]
    pub fn unit(&self) -> Duration {
        match self.time {
            Time::Virtual => Duration::from_secs(1),
            Time::Real { unit, .. } => unit,
        }
    }

    /// Whether some end is followed by a start.
    pub(crate) fn restarts(&self) -> bool {
        self.policy.is_supported() && self.policy != Setting::Fixed(RestartPolicy::Never)
    }

    /// How late the subject may be: not at all in virtual time.
    #[must_use]
    pub fn tolerance(&self) -> Duration {
        match self.time {
            Time::Virtual => Duration::ZERO,
            Time::Real { tolerance, .. } => tolerance,
        }
    }

    /// So many restarts, or as many as there always are at most.
    #[cfg(feature = "properties")]
    pub(crate) fn restarts_up_to(&self, wanted: u32) -> u32 {
        let fixed = [self.consecutive_limit, self.window_limit];
        let fixed = fixed.iter().filter_map(|limit| match limit {
            Setting::Fixed(limit) => self.allowed_starts(*limit),
            _ => None,
        });
        let most = |starts: usize| u32::try_from(starts.saturating_sub(1)).unwrap_or(u32::MAX);
        fixed.map(most).fold(wanted, u32::min)
    }

    /// How many starts a limit allows, the first included, where they come close together; `None`
    /// is any number.
    pub(crate) fn allowed_starts(&self, limit: RestartLimit) -> Option<usize> {
        let restarts = match limit {
            RestartLimit::Unlimited => return None,
            RestartLimit::Consecutive(restarts) | RestartLimit::Window { restarts, .. } => restarts,
        };
        let first = usize::from(!self.first_start_counts);
        Some((restarts.get() as usize).saturating_add(first))
    }

    /// Makes of a service what the subject can make of it: what is fixed is as it is, what is
    /// unsupported is not asked for.
    #[cfg(feature = "properties")]
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
            service.delays.jitter = crate::Jitter::None;
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
        // What is always there, is there where no other was asked for.
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
            service.success = super::Ends::default();
        }
        if !self.override_lists {
            service.prevent = super::Ends::default();
            service.force = super::Ends::default();
        }
        if !self.output {
            service.output = None;
        }
        if !self.current_dir {
            service.current_dir = None;
        }
    }
}
