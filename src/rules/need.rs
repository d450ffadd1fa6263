//! What a rule needs a subject's profile to declare.

use super::profile::{Profile, Setting, StopScope, Time};
use crate::supervisor::RestartPolicy;
use agent_stub::Signal;

/// Something that a rule needs a subject's [`Profile`] to declare. Most variants name the field
/// that must be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requirement {
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

impl Requirement {
    /// What the profile lacks, in words; `None` if it declares what is needed.
    pub(super) fn lacking(self, profile: &Profile) -> Option<String> {
        let is_there = match self {
            Requirement::Restarts => profile.restarts(),
            Requirement::ChosenPolicy => profile.policy.is_configurable(),
            Requirement::TellsFailures => match profile.policy {
                Setting::Configurable | Setting::Fixed(RestartPolicy::OnFailure) => true,
                Setting::Fixed(RestartPolicy::Always) => false,
                _ => profile.reports_rest,
            },
            Requirement::SuccessList => profile.success_list,
            Requirement::OverrideLists => profile.override_lists,
            Requirement::Delays => profile.delays.is_supported(),
            Requirement::ChosenDelays => profile.delays.is_configurable(),
            Requirement::Jitter => {
                profile.jitter
                    || matches!(profile.delays, Setting::Fixed(curve) if curve.jitter != crate::backoff::Jitter::None)
            }
            Requirement::PlainDelays => match profile.delays {
                Setting::Unsupported => false,
                Setting::Fixed(curve) => curve.jitter == crate::backoff::Jitter::None,
                Setting::Configurable => true,
            },
            Requirement::Strategy => profile.lends_strategy,
            Requirement::RetriedStarts => profile.retries_failed_starts,
            Requirement::Limit => {
                profile.consecutive_limit.is_supported() || profile.window_limit.is_supported()
            }
            Requirement::ConsecutiveLimit => profile.consecutive_limit.is_supported(),
            Requirement::WindowLimit => profile.window_limit.is_supported(),
            Requirement::ResetAfter => profile.reset_after.is_supported(),
            Requirement::StopSignal => match profile.stop_signal {
                Setting::Unsupported => false,
                // No process can trap these two, so no timeline would show that the signal came.
                Setting::Fixed(signal) => signal != Signal::KILL && signal != Signal::STOP,
                Setting::Configurable => true,
            },
            Requirement::ChosenStopSignal => profile.stop_signal.is_configurable(),
            Requirement::Grace => profile.grace.is_supported(),
            Requirement::Stop => profile.stop.is_some(),
            Requirement::RepeatedStop => profile.repeated_stop.is_some(),
            Requirement::StopScope => profile.stop_scope.is_some(),
            Requirement::WideScope => {
                matches!(profile.stop_scope, Some(StopScope::Group | StopScope::Tree))
            }
            Requirement::WakesFrozen => profile.wakes_frozen,
            Requirement::OwnGroup => profile.own_group.is_some(),
            Requirement::ClearsLeftovers => profile.clears_leftovers,
            Requirement::Daemonizer => profile.daemonizer.is_some(),
            Requirement::Restart => profile.restart,
            Requirement::Start => profile.start,
            Requirement::Reset => profile.reset,
            Requirement::WhenRestarting => profile.when_restarting.is_some(),
            Requirement::MinUptime => profile.min_uptime.is_supported(),
            Requirement::Notification => profile.notification.is_some(),
            Requirement::NotifyAccess => profile.notify_access.is_some(),
            Requirement::Watchdog => profile.watchdog.is_supported(),
            Requirement::Probe => profile.probe,
            Requirement::StartTimeout => profile.start_timeout.is_supported(),
            Requirement::ClearMask => profile.clears_mask,
            Requirement::DefaultDispositions => profile.resets_dispositions,
            Requirement::Descriptors => profile.descriptors.is_some(),
            Requirement::Environment => profile.environment.is_some(),
            Requirement::StartOrder => profile.start_order,
            Requirement::SiblingStrategy => !profile.sibling_strategies.is_empty(),
            Requirement::GiveUpScope => !profile.give_up_scopes.is_empty(),
            Requirement::CurrentDir => profile.current_dir,
            Requirement::Output => profile.output,
            Requirement::ReportsEnds => profile.reports_ends,
            Requirement::ReportsUp => profile.reports_up,
            Requirement::ReportsStartFailures => profile.reports_start_failures,
            Requirement::ReportsRest => profile.reports_rest,
            Requirement::ReportsGiveUpCause => profile.reports_give_up_cause,
            Requirement::RejectsBadSettings => profile.rejects_bad_settings,
            Requirement::InProcess => profile.in_process,
            Requirement::VirtualTime => profile.time == Time::Virtual,
            Requirement::OwnProcess => profile.own_process,
            Requirement::CrashFate => profile.crash_fate.is_some(),
            Requirement::RefusesSecond => profile.refuses_second,
            Requirement::NoDuplicates => profile.no_duplicates,
            Requirement::AdoptsOrphans => profile.adopts_orphans,
        };
        (!is_there).then(|| format!("its profile declares no {}", self.text()))
    }

    /// Names the need in words that fit after "no".
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Requirement::Restarts => "policy that restarts",
            Requirement::ChosenPolicy => "choice of the restart policy",
            Requirement::TellsFailures => "way to tell failure from success",
            Requirement::SuccessList => "list of ends that are success",
            Requirement::OverrideLists => "lists that prevent or force a restart",
            Requirement::Delays => "delay before a restart",
            Requirement::ChosenDelays => "choice of the delays",
            Requirement::Jitter => "jitter",
            Requirement::PlainDelays => "delays without jitter",
            Requirement::Strategy => "strategy that it lends",
            Requirement::RetriedStarts => "further try after a failed start",
            Requirement::Limit => "restart limit",
            Requirement::ConsecutiveLimit => "limit of restarts in a row",
            Requirement::WindowLimit => "limit of restarts within a period",
            Requirement::ResetAfter => "time after which a run is healthy",
            Requirement::StopSignal => "stop signal that a process can act on",
            Requirement::ChosenStopSignal => "choice of the stop signal",
            Requirement::Grace => "grace",
            Requirement::Stop => "stop",
            Requirement::RepeatedStop => "effect of a second stop",
            Requirement::StopScope => "scope of a stop",
            Requirement::WideScope => "stop of more than the process itself",
            Requirement::WakesFrozen => "continuing of a process that is stopped",
            Requirement::OwnGroup => "process group",
            Requirement::ClearsLeftovers => "end of what a run leaves behind",
            Requirement::Daemonizer => "treatment of a daemonizer",
            Requirement::Restart => "restart on request",
            Requirement::Start => "start on request",
            Requirement::Reset => "reset on request",
            Requirement::WhenRestarting => "effect of a start during a restart",
            Requirement::MinUptime => "minimum uptime",
            Requirement::Notification => "notification of readiness",
            Requirement::NotifyAccess => "word on whose notifications count",
            Requirement::Watchdog => "watchdog",
            Requirement::Probe => "probe",
            Requirement::StartTimeout => "start timeout",
            Requirement::ClearMask => "clear signal mask",
            Requirement::DefaultDispositions => "default signal dispositions",
            Requirement::Descriptors => "list of descriptors",
            Requirement::Environment => "environment",
            Requirement::StartOrder => "start order",
            Requirement::SiblingStrategy => "sibling strategy",
            Requirement::GiveUpScope => "scope of giving up",
            Requirement::CurrentDir => "working directory",
            Requirement::Output => "file for the output",
            Requirement::ReportsEnds => "report of ends",
            Requirement::ReportsUp => "report of being up",
            Requirement::ReportsStartFailures => "report of failed starts",
            Requirement::ReportsRest => "report of coming to rest",
            Requirement::ReportsGiveUpCause => "cause of giving up",
            Requirement::RejectsBadSettings => "refusal of bad settings",
            Requirement::InProcess => "place in the test's own process",
            Requirement::VirtualTime => "virtual time",
            Requirement::OwnProcess => "process of its own",
            Requirement::CrashFate => "fate of its service when it is killed",
            Requirement::RefusesSecond => "refusal of a second supervisor",
            Requirement::NoDuplicates => "regard for what a killed supervisor has left",
            Requirement::AdoptsOrphans => "adoption of orphans",
        }
    }
}
