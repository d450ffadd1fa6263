//! What a rule judges: the timeline of a service's runs, and what the subject said and was told.

use std::time::Duration;

use super::call::{Control, ControlCall};
use super::facts::Facts;
use super::notice::Noticed;
use super::profile::Profile;
use super::rest::RestReason;
use super::service::{Service, ServiceGroup};
use crate::supervisor::Readiness;
use crate::timeline::{Event, EventKind, EventSource, RunSpan, Timeline};
use crate::timestamp::Timestamp;
use agent_stub::Signal;

/// What a rule judges: the timeline of a service's runs, what the subject said, and what it was
/// told.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observed {
    /// The events of the runs.
    pub timeline: Timeline,
    /// What the subject was asked to keep running, and how.
    pub service: Service,
    /// The group of services that the subject was asked to keep running together. It includes this
    /// service. `None` if this service was asked for alone.
    pub group: Option<ServiceGroup>,
    /// What the subject declares about itself.
    pub profile: Profile,
    /// What the subject said, in order.
    pub notices: Vec<Noticed>,
    /// What the subject was told, in the order in which the calls were made.
    pub calls: Vec<ControlCall>,
    /// What the harness saw besides the timeline.
    pub facts: Facts,
    /// When the observation ended.
    pub end: Timestamp,
    /// The rule whose trial made this happen; `None` if it was no trial.
    pub(crate) trial: Option<&'static str>,
}

impl Observed {
    /// Makes an observation of a timeline alone. The runs are those of the agent that has the
    /// service's name. The observation ends with the last event.
    #[must_use]
    pub fn new(timeline: Timeline, service: Service, profile: Profile) -> Observed {
        let end = timeline.events().last().map_or(Timestamp::ORIGIN, |e| e.at);
        Observed {
            timeline,
            service,
            group: None,
            profile,
            notices: Vec::new(),
            calls: Vec::new(),
            facts: Facts::default(),
            end,
            trial: None,
        }
    }

    /// Makes a copy that counts as made by the trial of that rule.
    #[cfg(feature = "conformance")]
    pub(crate) fn of_trial(&self, id: &'static str) -> Observed {
        Observed {
            trial: Some(id),
            ..self.clone()
        }
    }

    /// The runs of the service.
    #[must_use]
    pub fn runs(&self) -> Vec<RunSpan> {
        self.timeline.runs(&self.service.name)
    }

    /// The calls of one kind about the service, in order.
    pub fn calls_of(&self, control: Control) -> impl Iterator<Item = &ControlCall> {
        self.calls
            .iter()
            .filter(move |call| call.control == control && call.service == self.service.name)
    }

    /// The first call of one kind about the service; `None` if there is none.
    #[must_use]
    pub fn call(&self, control: Control) -> Option<&ControlCall> {
        self.calls_of(control).next()
    }

    /// How the subject came to rest, as the last [`Control::Outcome`] call with a result says.
    /// `None` if there is none.
    #[must_use]
    pub fn rest(&self) -> Option<&RestReason> {
        self.calls_of(Control::Outcome)
            .filter_map(|call| call.rest.as_ref())
            .last()
    }

    /// The events of the service's runs, without those of descendants: each event's place in the
    /// timeline, its run and the event.
    pub fn own(&self) -> impl Iterator<Item = (usize, u32, &Event)> {
        self.own_of(&self.service.name)
    }

    /// The events of the runs of the service of that name, without those of descendants: each
    /// event's place in the timeline, its run and the event.
    pub(super) fn own_of<'a>(
        &'a self,
        name: &'a str,
    ) -> impl Iterator<Item = (usize, u32, &'a Event)> {
        let events = self.timeline.events().iter().enumerate();
        events.filter_map(move |(place, event)| match &event.who {
            EventSource::Run {
                agent,
                run,
                descendant: None,
            } if **agent == *name => Some((place, *run, event)),
            _ => None,
        })
    }

    /// When a run of that service came up; `None` if it ended before or never came up.
    pub(super) fn up_at(&self, service: &Service, run: &RunSpan) -> Option<Timestamp> {
        let up = match service.readiness {
            Readiness::Exec => run.start,
            Readiness::MinUptime(time) => run.start + time,
            Readiness::Notified => {
                let mut own = self.own_of(&service.name);
                let is_ready = |event: &Event| event.what == EventKind::Ready;
                let ready = own.find(|(_, number, event)| *number == run.run && is_ready(event));
                ready.map(|(.., event)| event.at)?
            }
        };
        run.exit.is_none_or(|exit| exit >= up).then_some(up)
    }

    /// The place in the timeline where the run was started.
    pub(super) fn start_of(&self, run: u32) -> Option<usize> {
        self.start_in(&self.service.name, run)
    }

    /// The place in the timeline where that run of the service of that name was started.
    pub(super) fn start_in(&self, name: &str, run: u32) -> Option<usize> {
        self.own_of(name)
            .find(|(_, number, event)| *number == run && event.what == EventKind::Start)
            .map(|(place, ..)| place)
    }

    /// The place in the timeline where the run ended.
    pub(super) fn exit_of(&self, run: u32) -> Option<usize> {
        self.exit_in(&self.service.name, run)
    }

    /// The place in the timeline where that run of the service of that name ended.
    pub(super) fn exit_in(&self, name: &str, run: u32) -> Option<usize> {
        self.own_of(name)
            .find(|(_, number, event)| {
                *number == run && matches!(event.what, EventKind::Exit { .. })
            })
            .map(|(place, ..)| place)
    }

    /// When the first run ended, and the place of that end in the timeline.
    pub(super) fn first_exit(&self) -> Option<(Timestamp, usize)> {
        let exit = self.runs().first()?.exit?;
        Some((exit, self.exit_of(1)?))
    }

    /// The signals that a run trapped: each signal's place in the timeline, the signal and the
    /// time.
    pub(super) fn signals_of(&self, run: u32) -> Vec<(usize, Signal, Timestamp)> {
        self.own()
            .filter_map(|(place, number, event)| match event.what {
                EventKind::Signal { signal, .. } if number == run => {
                    Some((place, signal, event.at))
                }
                _ => None,
            })
            .collect()
    }

    /// Whether something came when it was due: not before, and not later than the subject may be.
    pub(super) fn is_on_time(&self, at: Timestamp, due: Timestamp) -> bool {
        // Timers in virtual time are accurate to a millisecond.
        at + self.early() >= due && at <= due + self.profile.tolerance().late + self.granularity()
    }

    /// How much too early something may seem to be.
    ///
    /// By the machine's clock, the harness learns of things a moment after they happened. It learns
    /// of a start by the run's hello, and of an end or a reap by a look at the run's pidfd. What is
    /// counted from there therefore seems due later than it is. A hello takes an exec, a connection
    /// and a turn of the harness. A look takes a turn of the harness. All of this waits for the
    /// same processors as the subject's timers. The profile says by how much the machine may delay
    /// those timers, so neither a hello nor a look takes longer than that. In virtual time both
    /// take no time.
    pub(super) fn early(&self) -> Duration {
        self.profile.tolerance().early
    }

    /// The accuracy of the clocks: tokio's timers round to milliseconds.
    pub(super) fn granularity(&self) -> Duration {
        Duration::from_millis(1)
    }

    /// How late the subject may be, plus the accuracy of the clocks.
    pub(super) fn late(&self) -> Duration {
        self.profile.tolerance().late + self.granularity()
    }
}
