//! Our own supervisor as a subject.

use std::fs::OpenOptions;

use super::subject::{Session, Subject, SubjectError};
use crate::backoff::BackoffStrategy;
use crate::causes::WithCauses;
use crate::rules::FailedStarts;
use crate::rules::JitterKind;
use crate::rules::StrategyProfile;
use crate::rules::SuccessList;
use crate::rules::{
    CrashFate, Daemonizer, DelayOrigin, Environment, Notice, NotifyAccess, OwnGroup, Profile,
    RepeatedStop, RestReason, Service, ServiceGroup, Setting, StopReturn, StopScope,
    WhenRestarting,
};
use crate::supervisor::{AgentStdio, SpawnerOptions};
use crate::supervisor::{GiveUpScope, RestartTracker, SiblingStrategy};
use crate::supervisor::{
    GroupOutcome, Orphans, Outcome, Supervisor, SupervisorBuilder, SupervisorEvent,
    SupervisorEvents, SupervisorGroup,
};

/// Our own [`Supervisor`](crate::supervisor::Supervisor) as a subject, and several of them as a
/// [`SupervisorGroup`](crate::supervisor::SupervisorGroup). It passes every rule.
///
/// The rules about a supervisor that is killed need it in a process of its own: see
/// [`Apart`](super::Apart).
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Reference {
    is_alone: bool,
}

impl Reference {
    /// Makes the reference subject.
    #[must_use]
    pub fn new() -> Reference {
        Reference::default()
    }

    /// Makes the reference subject for a program that only [serves](super::serve) it. That process
    /// adopts orphans.
    #[must_use]
    pub fn alone() -> Reference {
        Reference { is_alone: true }
    }
}

/// A service, or a group of services, that our supervisor keeps running.
#[derive(Debug)]
pub struct ReferenceSession {
    keeper: Keeper,
    /// Held so that the process adopts orphans until the session is dropped.
    _orphans: Option<Orphans>,
    /// Held so that what the supervisor says is reported until the session is dropped.
    _forwards: Vec<Forward>,
}

#[derive(Debug)]
enum Keeper {
    One(Supervisor),
    Group(SupervisorGroup),
}

/// The task that reports what a supervisor says. Dropping it ends the task.
#[derive(Debug)]
struct Forward(tokio::task::JoinHandle<()>);

impl Forward {
    fn new(service: &Service, mut events: SupervisorEvents) -> Forward {
        let reporter = service.reporter();
        Forward(tokio::spawn(async move {
            while let Some((_, event)) = events.next().await {
                if let Some(notice) = notice(&event) {
                    reporter.report(notice);
                }
            }
        }))
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Returns a builder for the supervisor of a service.
fn builder(service: &Service) -> Result<SupervisorBuilder, SubjectError> {
    let mut options = SpawnerOptions::new()
        .agent_path(&service.program)
        .args(service.args.clone())
        .grace(service.grace)
        .stop_signal(service.stop_signal);
    for (key, value) in &service.env {
        options = options.env(key, value);
    }
    if let Some(dir) = &service.current_dir {
        options = options.current_dir(dir);
    }
    if let Some(output) = &service.output {
        let file = OpenOptions::new().append(true).create(true).open(output)?;
        options = options
            .stdout(AgentStdio::from(file.try_clone()?))
            .stderr(AgentStdio::from(file));
    }
    let mut tracker = RestartTracker::builder()
        .policy(service.policy)
        .limit(service.limit)
        // The tracker's list is complete, but the service's list comes beside code 0. So add code
        // 0.
        .success_codes(service.success.codes.iter().copied().chain([0]))
        .success_signals(service.success.signals.iter().copied())
        .prevent_restart_codes(service.prevent.codes.iter().copied())
        .prevent_restart_signals(service.prevent.signals.iter().copied())
        .force_restart_codes(service.force.codes.iter().copied())
        .force_restart_signals(service.force.signals.iter().copied());
    if let Some(after) = service.reset_after {
        tracker = tracker.reset_after(after);
    }
    let mut builder = Supervisor::builder(options.build()?, &service.name)
        .tracker(tracker.build()?)
        .backoff(service.delays.strategy(Some(service.seed))?)
        .readiness(service.readiness);
    if let Some(timeout) = service.start_timeout {
        builder = builder.start_timeout(timeout);
    }
    if let Some(period) = service.watchdog {
        builder = builder.watchdog(period);
    }
    if let Some(probe) = &service.probe {
        builder = builder.probe(probe.clone());
    }
    if let Some(state) = &service.state {
        builder = builder.lock(state.join("lock"));
    }
    Ok(builder)
}

impl Subject for Reference {
    type Session = ReferenceSession;

    fn profile(&self) -> Profile {
        let mut profile = Profile::new("supervise-harness");
        profile.restarts.policy = Setting::Configurable;
        profile.restarts.success = SuccessList::CodesAndSignals;
        profile.restarts.overrides = true;
        profile.delay.curve = Setting::Configurable;
        profile.delay.jitters = JitterKind::ALL.to_vec();
        profile.restarts.failed_starts = FailedStarts::AsCrashes;
        profile.delay.origin = DelayOrigin::Exit;
        profile.limit.consecutive = Setting::Configurable;
        profile.limit.window = Setting::Configurable;
        profile.limit.reset_after = Setting::Configurable;
        profile.stopping.signal = Setting::Configurable;
        profile.stopping.grace = Setting::Configurable;
        profile.stopping.returns = Some(StopReturn::Reaped);
        profile.stopping.repeated = Some(RepeatedStop::Harmless);
        profile.stopping.scope = Some(StopScope::Group);
        profile.stopping.wakes_frozen = true;
        profile.child.own_group = Some(OwnGroup::Group);
        profile.stopping.clears_leftovers = true;
        profile.child.daemonizer = Some(Daemonizer::Exit);
        profile.control.restart = true;
        profile.control.start = true;
        profile.control.reset = true;
        profile.control.when_restarting = Some(WhenRestarting::Queued);
        profile.readiness.min_uptime = Setting::Configurable;
        profile.readiness.notification = Some(3);
        profile.readiness.notify_access = Some(NotifyAccess::All);
        profile.readiness.watchdog = Setting::Configurable;
        profile.readiness.probe = true;
        profile.readiness.start_timeout = Setting::Configurable;
        profile.child.clears_mask = true;
        profile.child.resets_dispositions = true;
        profile.child.descriptors = Some(vec![3]);
        profile.child.environment = Some(Environment::Inherited);
        profile.group.start_order = true;
        profile.group.sibling_strategies = vec![
            SiblingStrategy::OneForOne,
            SiblingStrategy::OneForAll,
            SiblingStrategy::RestForOne,
        ];
        profile.group.give_up_scopes = vec![
            GiveUpScope::Child,
            GiveUpScope::Dependents,
            GiveUpScope::Group,
        ];
        profile.child.current_dir = true;
        profile.child.output = true;
        profile.reports.ends = true;
        profile.reports.up = true;
        profile.reports.start_failures = true;
        profile.reports.rest = true;
        profile.reports.give_up_cause = true;
        profile.control.rejects_bad_settings = true;
        profile.strategy = StrategyProfile::Lent { is_seedable: true };
        profile.process.in_test = true;
        profile.process.crash_fate = Some(CrashFate::Survives);
        profile.process.refuses_second = true;
        profile.process.no_duplicates = true;
        profile.process.adopts_orphans = true;
        profile
    }

    async fn start(&self, service: &Service) -> Result<ReferenceSession, SubjectError> {
        let mut builder = builder(service)?;
        let orphans = self.is_alone.then(Orphans::adopt_all).transpose()?;
        if let Some(orphans) = &orphans {
            builder = builder.orphans(orphans);
        }
        let (supervisor, events) = builder.start()?;
        Ok(ReferenceSession {
            keeper: Keeper::One(supervisor),
            _orphans: orphans,
            _forwards: vec![Forward::new(service, events)],
        })
    }

    async fn start_group(&self, group: &ServiceGroup) -> Result<ReferenceSession, SubjectError> {
        let mut keeper = SupervisorGroup::builder()
            .strategy(group.strategy)
            .give_up(group.give_up);
        for service in &group.services {
            keeper = keeper.child(builder(service)?);
        }
        let (keeper, events) = keeper.start()?;
        let forwards = group.services.iter().zip(events);
        Ok(ReferenceSession {
            keeper: Keeper::Group(keeper),
            _orphans: None,
            _forwards: forwards
                .map(|(service, events)| Forward::new(service, events))
                .collect(),
        })
    }

    fn strategy(
        &self,
        service: &Service,
        seed: Option<u64>,
    ) -> Option<Box<dyn BackoffStrategy + Send>> {
        let strategy = service.delays.strategy(seed).ok()?;
        Some(Box::new(strategy))
    }
}

fn notice(event: &SupervisorEvent) -> Option<Notice> {
    match event {
        SupervisorEvent::Ready { .. } => Some(Notice::Up),
        SupervisorEvent::Ended { status, .. } => Some(Notice::Ended(*status)),
        SupervisorEvent::StartFailed { error, .. } => {
            Some(Notice::StartFailed(WithCauses(error).to_string()))
        }
        SupervisorEvent::BackingOff { delay, .. } => Some(Notice::BackingOff(*delay)),
        SupervisorEvent::Resting(outcome) => Some(Notice::Resting(rest(outcome))),
        _ => None,
    }
}

fn rest(outcome: &Outcome) -> RestReason {
    match outcome {
        Outcome::Finished { success, .. } => RestReason::Finished { success: *success },
        Outcome::GaveUp(gave_up) => RestReason::GaveUp {
            cause: Some(gave_up.cause),
            restarts: Some(gave_up.restarts),
        },
        Outcome::Stopped(_) => RestReason::Stopped,
        Outcome::Failed(error) => RestReason::Failed(error.to_string()),
    }
}

fn rest_of_group(outcome: &GroupOutcome) -> RestReason {
    match outcome {
        GroupOutcome::Finished => RestReason::Finished { success: true },
        GroupOutcome::GaveUp { outcome, .. } => rest(outcome),
        GroupOutcome::Stopped => RestReason::Stopped,
    }
}

impl ReferenceSession {
    /// Returns the supervisor of one service. A group has none: that is an error.
    fn supervisor(&self) -> Result<&Supervisor, SubjectError> {
        match &self.keeper {
            Keeper::One(supervisor) => Ok(supervisor),
            Keeper::Group(_) => Err(SubjectError::new("a group is only stopped")),
        }
    }
}

impl Session for ReferenceSession {
    async fn stop(&self) -> Result<(), SubjectError> {
        match &self.keeper {
            Keeper::One(supervisor) => drop(supervisor.stop().await?),
            Keeper::Group(group) => drop(group.stop().await?),
        }
        Ok(())
    }

    async fn outcome(&self) -> RestReason {
        let rest = match &self.keeper {
            Keeper::One(supervisor) => supervisor.wait().await.map(|outcome| rest(&outcome)),
            Keeper::Group(group) => group.wait().await.map(|outcome| rest_of_group(&outcome)),
        };
        rest.unwrap_or_else(|error| RestReason::Failed(error.to_string()))
    }

    async fn restart(&self) -> Result<(), SubjectError> {
        Ok(self.supervisor()?.restart().await?)
    }

    async fn start(&self) -> Result<(), SubjectError> {
        Ok(self.supervisor()?.start().await?)
    }

    async fn reset(&self) -> Result<(), SubjectError> {
        Ok(self.supervisor()?.reset().await?)
    }
}
