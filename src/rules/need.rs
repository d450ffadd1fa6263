//! What a rule needs a subject's profile to declare.

use super::profile::{Profile, Setting, StopScope, Time};
use crate::supervisor::RestartPolicy;
use agent_stub::Signal;

/// Something that a rule needs a subject's [`Profile`] to declare. Most variants name the field
/// that must be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Need {
    /// [`Profile::policy`] that restarts after some ends.
    Restarts,
    /// [`Profile::policy`] that the service can choose.
    ChosenPolicy,
    /// [`Profile::policy`] that can restart after failures only. For a policy that never restarts,
    /// [`Profile::reports_rest`].
    TellsFailures,
    /// [`Profile::success_list`]
    SuccessList,
    /// [`Profile::override_lists`]
    OverrideLists,
    /// [`Profile::delays`]
    Delays,
    /// [`Profile::delays`] that the service can choose.
    ChosenDelays,
    /// [`Profile::jitter`], or fixed [`Profile::delays`] that have a jitter.
    Jitter,
    /// [`Profile::delays`] without jitter, fixed or chosen by the service.
    PlainDelays,
    /// [`Profile::lends_strategy`]
    Strategy,
    /// [`Profile::retries_failed_starts`]
    RetriedStarts,
    /// [`Profile::consecutive_limit`] or [`Profile::window_limit`].
    Limit,
    /// [`Profile::consecutive_limit`]
    ConsecutiveLimit,
    /// [`Profile::window_limit`]
    WindowLimit,
    /// [`Profile::reset_after`]
    ResetAfter,
    /// [`Profile::stop_signal`] that a process can act on: neither SIGKILL nor SIGSTOP.
    StopSignal,
    /// [`Profile::stop_signal`] that the service can choose.
    ChosenStopSignal,
    /// [`Profile::grace`]
    Grace,
    /// [`Profile::stop`]
    Stop,
    /// [`Profile::repeated_stop`]
    RepeatedStop,
    /// [`Profile::stop_scope`]
    StopScope,
    /// [`Profile::stop_scope`] of more than the started process.
    WideScope,
    /// [`Profile::wakes_frozen`]
    WakesFrozen,
    /// [`Profile::own_group`]
    OwnGroup,
    /// [`Profile::clears_leftovers`]
    ClearsLeftovers,
    /// [`Profile::daemonizer`]
    Daemonizer,
    /// [`Profile::restart`]
    Restart,
    /// [`Profile::start`]
    Start,
    /// [`Profile::reset`]
    Reset,
    /// [`Profile::when_restarting`]
    WhenRestarting,
    /// [`Profile::min_uptime`]
    MinUptime,
    /// [`Profile::notification`]
    Notification,
    /// [`Profile::notify_access`]
    NotifyAccess,
    /// [`Profile::watchdog`]
    Watchdog,
    /// [`Profile::probe`]
    Probe,
    /// [`Profile::start_timeout`]
    StartTimeout,
    /// [`Profile::clears_mask`]
    ClearMask,
    /// [`Profile::resets_dispositions`]
    DefaultDispositions,
    /// [`Profile::descriptors`]
    Descriptors,
    /// [`Profile::environment`]
    Environment,
    /// [`Profile::start_order`]
    StartOrder,
    /// [`Profile::sibling_strategies`]
    SiblingStrategy,
    /// [`Profile::give_up_scopes`]
    GiveUpScope,
    /// [`Profile::current_dir`]
    CurrentDir,
    /// [`Profile::output`]
    Output,
    /// [`Profile::reports_ends`]
    ReportsEnds,
    /// [`Profile::reports_up`]
    ReportsUp,
    /// [`Profile::reports_start_failures`]
    ReportsStartFailures,
    /// [`Profile::reports_rest`]
    ReportsRest,
    /// [`Profile::reports_give_up_cause`]
    ReportsGiveUpCause,
    /// [`Profile::rejects_bad_settings`]
    RejectsBadSettings,
    /// [`Profile::in_process`]
    InProcess,
    /// [`Profile::time`] that is virtual.
    VirtualTime,
    /// [`Profile::own_process`]
    OwnProcess,
    /// [`Profile::crash_fate`]
    CrashFate,
    /// [`Profile::refuses_second`]
    RefusesSecond,
    /// [`Profile::no_duplicates`]
    NoDuplicates,
    /// [`Profile::adopts_orphans`]
    AdoptsOrphans,
}

impl Need {
    /// What the profile lacks, in words; `None` if it declares what is needed.
    pub(super) fn lacking(self, profile: &Profile) -> Option<String> {
        let is_there = match self {
            Need::Restarts => profile.restarts(),
            Need::ChosenPolicy => profile.policy.is_configurable(),
            Need::TellsFailures => match profile.policy {
                Setting::Configurable | Setting::Fixed(RestartPolicy::OnFailure) => true,
                Setting::Fixed(RestartPolicy::Always) => false,
                _ => profile.reports_rest,
            },
            Need::SuccessList => profile.success_list,
            Need::OverrideLists => profile.override_lists,
            Need::Delays => profile.delays.is_supported(),
            Need::ChosenDelays => profile.delays.is_configurable(),
            Need::Jitter => {
                profile.jitter
                    || matches!(profile.delays, Setting::Fixed(curve) if curve.jitter != crate::backoff::Jitter::None)
            }
            Need::PlainDelays => match profile.delays {
                Setting::Unsupported => false,
                Setting::Fixed(curve) => curve.jitter == crate::backoff::Jitter::None,
                Setting::Configurable => true,
            },
            Need::Strategy => profile.lends_strategy,
            Need::RetriedStarts => profile.retries_failed_starts,
            Need::Limit => {
                profile.consecutive_limit.is_supported() || profile.window_limit.is_supported()
            }
            Need::ConsecutiveLimit => profile.consecutive_limit.is_supported(),
            Need::WindowLimit => profile.window_limit.is_supported(),
            Need::ResetAfter => profile.reset_after.is_supported(),
            Need::StopSignal => match profile.stop_signal {
                Setting::Unsupported => false,
                // No process can trap these two, so no timeline would show that the signal came.
                Setting::Fixed(signal) => signal != Signal::KILL && signal != Signal::STOP,
                Setting::Configurable => true,
            },
            Need::ChosenStopSignal => profile.stop_signal.is_configurable(),
            Need::Grace => profile.grace.is_supported(),
            Need::Stop => profile.stop.is_some(),
            Need::RepeatedStop => profile.repeated_stop.is_some(),
            Need::StopScope => profile.stop_scope.is_some(),
            Need::WideScope => {
                matches!(profile.stop_scope, Some(StopScope::Group | StopScope::Tree))
            }
            Need::WakesFrozen => profile.wakes_frozen,
            Need::OwnGroup => profile.own_group.is_some(),
            Need::ClearsLeftovers => profile.clears_leftovers,
            Need::Daemonizer => profile.daemonizer.is_some(),
            Need::Restart => profile.restart,
            Need::Start => profile.start,
            Need::Reset => profile.reset,
            Need::WhenRestarting => profile.when_restarting.is_some(),
            Need::MinUptime => profile.min_uptime.is_supported(),
            Need::Notification => profile.notification.is_some(),
            Need::NotifyAccess => profile.notify_access.is_some(),
            Need::Watchdog => profile.watchdog.is_supported(),
            Need::Probe => profile.probe,
            Need::StartTimeout => profile.start_timeout.is_supported(),
            Need::ClearMask => profile.clears_mask,
            Need::DefaultDispositions => profile.resets_dispositions,
            Need::Descriptors => profile.descriptors.is_some(),
            Need::Environment => profile.environment.is_some(),
            Need::StartOrder => profile.start_order,
            Need::SiblingStrategy => !profile.sibling_strategies.is_empty(),
            Need::GiveUpScope => !profile.give_up_scopes.is_empty(),
            Need::CurrentDir => profile.current_dir,
            Need::Output => profile.output,
            Need::ReportsEnds => profile.reports_ends,
            Need::ReportsUp => profile.reports_up,
            Need::ReportsStartFailures => profile.reports_start_failures,
            Need::ReportsRest => profile.reports_rest,
            Need::ReportsGiveUpCause => profile.reports_give_up_cause,
            Need::RejectsBadSettings => profile.rejects_bad_settings,
            Need::InProcess => profile.in_process,
            Need::VirtualTime => profile.time == Time::Virtual,
            Need::OwnProcess => profile.own_process,
            Need::CrashFate => profile.crash_fate.is_some(),
            Need::RefusesSecond => profile.refuses_second,
            Need::NoDuplicates => profile.no_duplicates,
            Need::AdoptsOrphans => profile.adopts_orphans,
        };
        (!is_there).then(|| format!("its profile declares no {}", self.text()))
    }

    /// Names the need in words that fit after "no".
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Need::Restarts => "policy that restarts",
            Need::ChosenPolicy => "choice of the restart policy",
            Need::TellsFailures => "way to tell failure from success",
            Need::SuccessList => "list of ends that are success",
            Need::OverrideLists => "lists that prevent or force a restart",
            Need::Delays => "delay before a restart",
            Need::ChosenDelays => "choice of the delays",
            Need::Jitter => "jitter",
            Need::PlainDelays => "delays without jitter",
            Need::Strategy => "strategy that it lends",
            Need::RetriedStarts => "further try after a failed start",
            Need::Limit => "restart limit",
            Need::ConsecutiveLimit => "limit of restarts in a row",
            Need::WindowLimit => "limit of restarts within a period",
            Need::ResetAfter => "time after which a run is healthy",
            Need::StopSignal => "stop signal that a process can act on",
            Need::ChosenStopSignal => "choice of the stop signal",
            Need::Grace => "grace",
            Need::Stop => "stop",
            Need::RepeatedStop => "effect of a second stop",
            Need::StopScope => "scope of a stop",
            Need::WideScope => "stop of more than the process itself",
            Need::WakesFrozen => "continuing of a process that is stopped",
            Need::OwnGroup => "process group",
            Need::ClearsLeftovers => "end of what a run leaves behind",
            Need::Daemonizer => "treatment of a daemonizer",
            Need::Restart => "restart on request",
            Need::Start => "start on request",
            Need::Reset => "reset on request",
            Need::WhenRestarting => "effect of a start during a restart",
            Need::MinUptime => "minimum uptime",
            Need::Notification => "notification of readiness",
            Need::NotifyAccess => "word on whose notifications count",
            Need::Watchdog => "watchdog",
            Need::Probe => "probe",
            Need::StartTimeout => "start timeout",
            Need::ClearMask => "clear signal mask",
            Need::DefaultDispositions => "default signal dispositions",
            Need::Descriptors => "list of descriptors",
            Need::Environment => "environment",
            Need::StartOrder => "start order",
            Need::SiblingStrategy => "sibling strategy",
            Need::GiveUpScope => "scope of giving up",
            Need::CurrentDir => "working directory",
            Need::Output => "file for the output",
            Need::ReportsEnds => "report of ends",
            Need::ReportsUp => "report of being up",
            Need::ReportsStartFailures => "report of failed starts",
            Need::ReportsRest => "report of coming to rest",
            Need::ReportsGiveUpCause => "cause of giving up",
            Need::RejectsBadSettings => "refusal of bad settings",
            Need::InProcess => "place in the test's own process",
            Need::VirtualTime => "virtual time",
            Need::OwnProcess => "process of its own",
            Need::CrashFate => "fate of its service when it is killed",
            Need::RefusesSecond => "refusal of a second supervisor",
            Need::NoDuplicates => "regard for what a killed supervisor has left",
            Need::AdoptsOrphans => "adoption of orphans",
        }
    }
}
