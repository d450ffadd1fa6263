//! What a rule needs a subject's profile to declare.

use super::profile::{Profile, Setting, StopScope, Time};
use crate::supervisor::RestartPolicy;
use agent_stub::Signal;

/// Something that a rule needs a subject's [`Profile`] to declare. Most variants name the field
/// that must be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Requirement {
    /// [`RestartProfile::policy`](crate::rules::RestartProfile::policy) that restarts after some ends.
    Restarts,
    /// [`RestartProfile::policy`](crate::rules::RestartProfile::policy) that the service can choose.
    ChosenPolicy,
    /// [`RestartProfile::policy`](crate::rules::RestartProfile::policy) that can restart after failures only. For a policy that never restarts,
    /// [`ReportProfile::rest`](crate::rules::ReportProfile::rest).
    TellsFailures,
    /// [`RestartProfile::success`](crate::rules::RestartProfile::success)
    SuccessList,
    /// [`RestartProfile::overrides`](crate::rules::RestartProfile::overrides)
    OverrideLists,
    /// [`DelayProfile::curve`](crate::rules::DelayProfile::curve)
    Delays,
    /// [`DelayProfile::curve`](crate::rules::DelayProfile::curve) that the service can choose.
    ChosenDelays,
    /// [`DelayProfile::jitters`](crate::rules::DelayProfile::jitters), or fixed [`DelayProfile::curve`](crate::rules::DelayProfile::curve) that have a jitter.
    Jitter,
    /// [`DelayProfile::curve`](crate::rules::DelayProfile::curve) without jitter, fixed or chosen by the service.
    PlainDelays,
    /// [`Profile::strategy`](crate::rules::Profile::strategy)
    Strategy,
    /// [`RestartProfile::failed_starts`](crate::rules::RestartProfile::failed_starts)
    RetriedStarts,
    /// [`LimitProfile::consecutive`](crate::rules::LimitProfile::consecutive) or [`LimitProfile::window`](crate::rules::LimitProfile::window).
    Limit,
    /// [`LimitProfile::consecutive`](crate::rules::LimitProfile::consecutive)
    ConsecutiveLimit,
    /// [`LimitProfile::window`](crate::rules::LimitProfile::window)
    WindowLimit,
    /// [`LimitProfile::reset_after`](crate::rules::LimitProfile::reset_after)
    ResetAfter,
    /// [`StopProfile::signal`](crate::rules::StopProfile::signal) that a process can act on: neither SIGKILL nor SIGSTOP.
    StopSignal,
    /// [`StopProfile::signal`](crate::rules::StopProfile::signal) that the service can choose.
    ChosenStopSignal,
    /// [`StopProfile::grace`](crate::rules::StopProfile::grace)
    Grace,
    /// [`StopProfile::returns`](crate::rules::StopProfile::returns)
    Stop,
    /// [`StopProfile::repeated`](crate::rules::StopProfile::repeated)
    RepeatedStop,
    /// [`StopProfile::scope`](crate::rules::StopProfile::scope)
    StopScope,
    /// [`StopProfile::scope`](crate::rules::StopProfile::scope) of more than the started process.
    WideScope,
    /// [`StopProfile::wakes_frozen`](crate::rules::StopProfile::wakes_frozen)
    WakesFrozen,
    /// [`ChildProfile::own_group`](crate::rules::ChildProfile::own_group)
    OwnGroup,
    /// [`StopProfile::clears_leftovers`](crate::rules::StopProfile::clears_leftovers)
    ClearsLeftovers,
    /// [`ChildProfile::daemonizer`](crate::rules::ChildProfile::daemonizer)
    Daemonizer,
    /// [`ControlProfile::restart`](crate::rules::ControlProfile::restart)
    Restart,
    /// [`ControlProfile::start`](crate::rules::ControlProfile::start)
    Start,
    /// [`ControlProfile::reset`](crate::rules::ControlProfile::reset)
    Reset,
    /// [`ControlProfile::when_restarting`](crate::rules::ControlProfile::when_restarting)
    WhenRestarting,
    /// [`ReadinessProfile::min_uptime`](crate::rules::ReadinessProfile::min_uptime)
    MinUptime,
    /// [`ReadinessProfile::notification`](crate::rules::ReadinessProfile::notification)
    Notification,
    /// [`ReadinessProfile::notify_access`](crate::rules::ReadinessProfile::notify_access)
    NotifyAccess,
    /// [`ReadinessProfile::watchdog`](crate::rules::ReadinessProfile::watchdog)
    Watchdog,
    /// [`ReadinessProfile::probe`](crate::rules::ReadinessProfile::probe)
    Probe,
    /// [`ReadinessProfile::start_timeout`](crate::rules::ReadinessProfile::start_timeout)
    StartTimeout,
    /// [`ChildProfile::clears_mask`](crate::rules::ChildProfile::clears_mask)
    ClearMask,
    /// [`ChildProfile::resets_dispositions`](crate::rules::ChildProfile::resets_dispositions)
    DefaultDispositions,
    /// [`ChildProfile::descriptors`](crate::rules::ChildProfile::descriptors)
    Descriptors,
    /// [`ChildProfile::environment`](crate::rules::ChildProfile::environment)
    Environment,
    /// [`GroupProfile::start_order`](crate::rules::GroupProfile::start_order)
    StartOrder,
    /// [`GroupProfile::sibling_strategies`](crate::rules::GroupProfile::sibling_strategies)
    SiblingStrategy,
    /// [`GroupProfile::give_up_scopes`](crate::rules::GroupProfile::give_up_scopes)
    GiveUpScope,
    /// [`ChildProfile::current_dir`](crate::rules::ChildProfile::current_dir)
    CurrentDir,
    /// [`ChildProfile::output`](crate::rules::ChildProfile::output)
    Output,
    /// [`ReportProfile::ends`](crate::rules::ReportProfile::ends)
    ReportsEnds,
    /// [`ReportProfile::up`](crate::rules::ReportProfile::up)
    ReportsUp,
    /// [`ReportProfile::start_failures`](crate::rules::ReportProfile::start_failures)
    ReportsStartFailures,
    /// [`ReportProfile::rest`](crate::rules::ReportProfile::rest)
    ReportsRest,
    /// [`ReportProfile::give_up_cause`](crate::rules::ReportProfile::give_up_cause)
    ReportsGiveUpCause,
    /// [`ControlProfile::rejects_bad_settings`](crate::rules::ControlProfile::rejects_bad_settings)
    RejectsBadSettings,
    /// [`ProcessProfile::in_test`](crate::rules::ProcessProfile::in_test)
    InProcess,
    /// [`Profile::time`] that is virtual.
    VirtualTime,
    /// [`ProcessProfile::of_its_own`](crate::rules::ProcessProfile::of_its_own)
    OwnProcess,
    /// [`ProcessProfile::crash_fate`](crate::rules::ProcessProfile::crash_fate)
    CrashFate,
    /// [`ProcessProfile::refuses_second`](crate::rules::ProcessProfile::refuses_second)
    RefusesSecond,
    /// [`ProcessProfile::no_duplicates`](crate::rules::ProcessProfile::no_duplicates)
    NoDuplicates,
    /// [`ProcessProfile::adopts_orphans`](crate::rules::ProcessProfile::adopts_orphans)
    AdoptsOrphans,
}

impl Requirement {
    /// What the profile lacks, in words; `None` if it declares what is needed.
    pub(super) fn lacking(self, profile: &Profile) -> Option<String> {
        let is_there = match self {
            Requirement::Restarts => profile.has_restarts(),
            Requirement::ChosenPolicy => profile.restarts.policy.is_configurable(),
            Requirement::TellsFailures => match profile.restarts.policy {
                Setting::Configurable | Setting::Fixed(RestartPolicy::OnFailure) => true,
                Setting::Fixed(RestartPolicy::Always) => false,
                _ => profile.reports.rest,
            },
            Requirement::SuccessList => profile.restarts.success.is_supported(),
            Requirement::OverrideLists => profile.restarts.overrides,
            Requirement::Delays => profile.delay.curve.is_supported(),
            Requirement::ChosenDelays => profile.delay.curve.is_configurable(),
            Requirement::Jitter => {
                profile.delay.takes_jitter()
                    || matches!(profile.delay.curve, Setting::Fixed(curve) if curve.jitter != crate::backoff::Jitter::None)
            }
            Requirement::PlainDelays => match profile.delay.curve {
                Setting::Unsupported => false,
                Setting::Fixed(curve) => curve.jitter == crate::backoff::Jitter::None,
                Setting::Configurable => true,
            },
            Requirement::Strategy => profile.strategy.is_lent(),
            Requirement::RetriedStarts => profile.restarts.failed_starts.are_retried(),
            Requirement::Limit => {
                profile.limit.consecutive.is_supported() || profile.limit.window.is_supported()
            }
            Requirement::ConsecutiveLimit => profile.limit.consecutive.is_supported(),
            Requirement::WindowLimit => profile.limit.window.is_supported(),
            Requirement::ResetAfter => profile.limit.reset_after.is_supported(),
            Requirement::StopSignal => match profile.stopping.signal {
                Setting::Unsupported => false,
                // No process can trap these two, so no timeline would show that the signal came.
                Setting::Fixed(signal) => signal != Signal::KILL && signal != Signal::STOP,
                Setting::Configurable => true,
            },
            Requirement::ChosenStopSignal => profile.stopping.signal.is_configurable(),
            Requirement::Grace => profile.stopping.grace.is_supported(),
            Requirement::Stop => profile.stopping.returns.is_some(),
            Requirement::RepeatedStop => profile.stopping.repeated.is_some(),
            Requirement::StopScope => profile.stopping.scope.is_some(),
            Requirement::WideScope => {
                matches!(
                    profile.stopping.scope,
                    Some(StopScope::Group | StopScope::Tree)
                )
            }
            Requirement::WakesFrozen => profile.stopping.wakes_frozen,
            Requirement::OwnGroup => profile.child.own_group.is_some(),
            Requirement::ClearsLeftovers => profile.stopping.clears_leftovers,
            Requirement::Daemonizer => profile.child.daemonizer.is_some(),
            Requirement::Restart => profile.control.restart,
            Requirement::Start => profile.control.start,
            Requirement::Reset => profile.control.reset,
            Requirement::WhenRestarting => profile.control.when_restarting.is_some(),
            Requirement::MinUptime => profile.readiness.min_uptime.is_supported(),
            Requirement::Notification => profile.readiness.notification.is_some(),
            Requirement::NotifyAccess => profile.readiness.notify_access.is_some(),
            Requirement::Watchdog => profile.readiness.watchdog.is_supported(),
            Requirement::Probe => profile.readiness.probe,
            Requirement::StartTimeout => profile.readiness.start_timeout.is_supported(),
            Requirement::ClearMask => profile.child.clears_mask,
            Requirement::DefaultDispositions => profile.child.resets_dispositions,
            Requirement::Descriptors => profile.child.descriptors.is_some(),
            Requirement::Environment => profile.child.environment.is_some(),
            Requirement::StartOrder => profile.group.start_order,
            Requirement::SiblingStrategy => !profile.group.sibling_strategies.is_empty(),
            Requirement::GiveUpScope => !profile.group.give_up_scopes.is_empty(),
            Requirement::CurrentDir => profile.child.current_dir,
            Requirement::Output => profile.child.output,
            Requirement::ReportsEnds => profile.reports.ends,
            Requirement::ReportsUp => profile.reports.up,
            Requirement::ReportsStartFailures => profile.reports.start_failures,
            Requirement::ReportsRest => profile.reports.rest,
            Requirement::ReportsGiveUpCause => profile.reports.give_up_cause,
            Requirement::RejectsBadSettings => profile.control.rejects_bad_settings,
            Requirement::InProcess => profile.process.in_test,
            Requirement::VirtualTime => profile.time == Time::Virtual,
            Requirement::OwnProcess => profile.process.of_its_own,
            Requirement::CrashFate => profile.process.crash_fate.is_some(),
            Requirement::RefusesSecond => profile.process.refuses_second,
            Requirement::NoDuplicates => profile.process.no_duplicates,
            Requirement::AdoptsOrphans => profile.process.adopts_orphans,
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
