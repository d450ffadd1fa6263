//! A timeline: the events of one run of a test, in order, and what can be asked of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::event::{Event, EventKind, EventSource};
use crate::status::ExitStatus;
use crate::timestamp::Timestamp;

/// Which clock the times of a timeline come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TimelineClock {
    /// The harness's own clock: the times are exact, and the same each time the test runs.
    Virtual,
    /// The machine's clock: the order is meaningful, but the times are only measurements.
    Real,
}

/// What happened to a subject and its agents, in order.
///
/// On a virtual clock the events are in the order of their times. Things that happen at one instant happen
/// in steps. The code under test works until it rests; then one process acts; then the code under test reacts
/// to that, and so on. The events of one instant are in the order of these steps.
///
/// Several processes may act within one step, for example if the code under test kills them together. Their
/// events are in the order in which the test introduced the agents. The events of each agent stay in the
/// order in which they happened to it.
///
/// On a real clock the events are in the order in which the harness noticed them.
///
/// Names, run numbers and time differences identify the events. A timeline has no process ids.
///
/// ```
/// use std::time::Duration;
/// use supervise_harness::{Event, ExitStatus, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
///
/// let at = |millis| Timestamp::ORIGIN + Duration::from_millis(millis);
/// let crash = EventKind::Exit { status: Some(ExitStatus::Exited { code: 1 }) };
/// let timeline = Timeline::new(
///     TimelineClock::Virtual,
///     [
///         Event::new(at(0), EventSource::run("worker", 1), EventKind::Start),
///         Event::new(at(200), EventSource::run("worker", 1), crash),
///         Event::new(at(200), EventSource::run("worker", 1), EventKind::Reap),
///         Event::new(at(1_200), EventSource::run("worker", 2), EventKind::Start),
///     ],
/// );
/// assert_eq!(timeline.gaps("worker"), [Duration::from_secs(1)]);
/// assert_eq!(
///     timeline.to_string(),
///     "timeline v2  clock=virtual
/// +0.000  worker#1  start
/// +0.200  worker#1  exit     code=1
/// +0.000  worker#1  reap
/// +1.000  worker#2  start"
/// );
/// ```
#[derive(Clone, Debug)]
pub struct Timeline {
    pub(super) clock: TimelineClock,
    pub(super) events: Vec<Event>,
    /// The names of all agents of the sim, with or without events. `None` if the timeline does not come
    /// from a sim.
    pub(super) names: Option<Arc<[Arc<str>]>>,
}

/// Compares clock and events. Agents without events make no difference.
impl PartialEq for Timeline {
    fn eq(&self, other: &Timeline) -> bool {
        (self.clock, &self.events) == (other.clock, &other.events)
    }
}

impl Eq for Timeline {}

/// One run of an agent, as [`Timeline::runs`] returns it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSpan {
    /// The number of the agent's run, from 1.
    pub run: u32,
    /// When the run started.
    pub start: Timestamp,
    /// When the run ended; `None` if the timeline has no end of it.
    pub exit: Option<Timestamp>,
    /// How the run ended; `None` if it did not end, or if nobody could tell.
    pub status: Option<ExitStatus>,
}

impl Timeline {
    /// Makes a timeline of these events. On a virtual clock it sorts them by time, and events of one instant
    /// stay in the order given. On a real clock all events stay in the order given.
    #[must_use]
    pub fn new(clock: TimelineClock, events: impl IntoIterator<Item = Event>) -> Timeline {
        let mut events: Vec<Event> = events.into_iter().collect();
        if clock == TimelineClock::Virtual {
            events.sort_by_key(|event| event.at);
        }
        Timeline {
            clock,
            events,
            names: None,
        }
    }

    /// Marks the timeline as that of a sim with these agents.
    pub(crate) fn with_names(mut self, names: impl Iterator<Item = Arc<str>>) -> Timeline {
        self.names = Some(names.collect());
        self
    }

    /// Which clock the times are of.
    #[must_use]
    pub fn clock(&self) -> TimelineClock {
        self.clock
    }

    /// The events, in order.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The names of the agents that have events, in the order of their first events.
    #[must_use]
    pub fn agents(&self) -> Vec<&str> {
        let mut seen = HashSet::new();
        let names = self.events.iter().filter_map(|event| event.who.agent());
        names.filter(|name| seen.insert(*name)).collect()
    }

    /// The events of the agent itself, without those of its descendants, each with the number of the run.
    /// Panics as [`starts`](Timeline::starts) does.
    #[track_caller]
    fn own<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (u32, &'a Event)> {
        if let Some(names) = &self.names
            && !names.iter().any(|known| **known == *name)
            && !self.agents().contains(&name)
        {
            let names: Vec<_> = names.iter().map(|known| format!("`{known}`")).collect();
            panic!(
                "the sim had no agent `{name}`: expected one of {}",
                names.join(", ")
            );
        }
        self.events
            .iter()
            .filter_map(move |event| match &event.who {
                EventSource::Run {
                    agent,
                    run,
                    descendant: None,
                } if **agent == *name => Some((*run, event)),
                _ => None,
            })
    }

    /// Counts how often the agent was started. Starts of its descendants do not count.
    ///
    /// ```
    /// # use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let at = Timestamp::ORIGIN;
    /// let timeline = Timeline::new(
    ///     TimelineClock::Virtual,
    ///     [
    ///         Event::new(at, EventSource::run("worker", 1), EventKind::Start),
    ///         Event::new(at, EventSource::descendant("worker", 1, "helper"), EventKind::Start),
    ///     ],
    /// );
    /// assert_eq!(timeline.starts("worker"), 1);
    /// assert_eq!(timeline.starts("nobody"), 0);
    /// ```
    ///
    /// # Panics
    ///
    /// If the timeline comes from a sim that had no agent of that name, which is a mistake in the test.
    /// There is no panic for an agent that was never started: the result is 0. A timeline that was
    /// [made](Timeline::new) or parsed knows only the names in its events, and gives 0 for any other name.
    #[must_use]
    #[track_caller]
    pub fn starts(&self, agent: &str) -> usize {
        let own = self.own(agent);
        own.filter(|(_, event)| event.what == EventKind::Start)
            .count()
    }

    /// How the agent's runs ended, in the order of their ends. An entry is `None` if nobody could tell.
    ///
    /// ```
    /// # use supervise_harness::{Event, ExitStatus, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let status = Some(ExitStatus::Exited { code: 1 });
    /// let exit = Event::new(Timestamp::ORIGIN, EventSource::run("worker", 1), EventKind::Exit { status });
    /// let timeline = Timeline::new(TimelineClock::Virtual, [exit]);
    /// assert_eq!(timeline.exits("worker"), [status]);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`starts`](Timeline::starts) does.
    #[must_use]
    #[track_caller]
    pub fn exits(&self, agent: &str) -> Vec<Option<ExitStatus>> {
        let own = self.own(agent);
        own.filter_map(|(_, event)| match event.what {
            EventKind::Exit { status } => Some(status),
            _ => None,
        })
        .collect()
    }

    /// The times from each end of the agent to its next start: the delays between its runs. An end
    /// without a start after it has no entry.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let at = |millis| Timestamp::ORIGIN + Duration::from_millis(millis);
    /// let timeline = Timeline::new(
    ///     TimelineClock::Virtual,
    ///     [
    ///         Event::new(at(0), EventSource::run("worker", 1), EventKind::Start),
    ///         Event::new(at(200), EventSource::run("worker", 1), EventKind::Exit { status: None }),
    ///         Event::new(at(700), EventSource::run("worker", 2), EventKind::Start),
    ///     ],
    /// );
    /// assert_eq!(timeline.gaps("worker"), [Duration::from_millis(500)]);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`starts`](Timeline::starts) does.
    #[must_use]
    #[track_caller]
    pub fn gaps(&self, agent: &str) -> Vec<Duration> {
        let mut gaps = Vec::new();
        let mut ended = Vec::new();
        for (_, event) in self.own(agent) {
            match event.what {
                EventKind::Exit { .. } => ended.push(event.at),
                EventKind::Start => gaps.extend(ended.drain(..).map(|exit| event.at - exit)),
                _ => {}
            }
        }
        gaps
    }

    /// The agent's runs that started, in the order of their starts.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let at = |millis| Timestamp::ORIGIN + Duration::from_millis(millis);
    /// let timeline = Timeline::new(
    ///     TimelineClock::Virtual,
    ///     [
    ///         Event::new(at(0), EventSource::run("worker", 1), EventKind::Start),
    ///         Event::new(at(200), EventSource::run("worker", 1), EventKind::Exit { status: None }),
    ///         Event::new(at(700), EventSource::run("worker", 2), EventKind::Start),
    ///     ],
    /// );
    /// let runs = timeline.runs("worker");
    /// assert_eq!((runs[0].run, runs[0].start, runs[0].exit), (1, at(0), Some(at(200))));
    /// assert_eq!((runs[1].run, runs[1].start, runs[1].exit), (2, at(700), None));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`starts`](Timeline::starts) does.
    #[must_use]
    #[track_caller]
    pub fn runs(&self, agent: &str) -> Vec<RunSpan> {
        let mut runs: Vec<RunSpan> = Vec::new();
        for (run, event) in self.own(agent) {
            match event.what {
                EventKind::Start => runs.push(RunSpan {
                    run,
                    start: event.at,
                    exit: None,
                    status: None,
                }),
                EventKind::Exit { status } => {
                    let mut open = runs.iter_mut().rev();
                    if let Some(span) = open.find(|span| span.run == run && span.exit.is_none()) {
                        (span.exit, span.status) = (Some(event.at), status);
                    }
                }
                _ => {}
            }
        }
        runs
    }

    /// The pairs of the agent's runs that were alive at the same time, the earlier run first. The later run
    /// started after the start of the earlier one and before its end, by the order of the events.
    ///
    /// ```
    /// # use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let at = Timestamp::ORIGIN;
    /// let timeline = Timeline::new(
    ///     TimelineClock::Virtual,
    ///     [
    ///         Event::new(at, EventSource::run("worker", 1), EventKind::Start),
    ///         Event::new(at, EventSource::run("worker", 2), EventKind::Start),
    ///         Event::new(at, EventSource::run("worker", 1), EventKind::Exit { status: None }),
    ///         Event::new(at, EventSource::run("worker", 3), EventKind::Start),
    ///     ],
    /// );
    /// assert_eq!(timeline.overlaps("worker"), [(1, 2), (2, 3)]);
    /// ```
    ///
    /// # Panics
    ///
    /// As [`starts`](Timeline::starts) does.
    #[must_use]
    #[track_caller]
    pub fn overlaps(&self, agent: &str) -> Vec<(u32, u32)> {
        let mut pairs = Vec::new();
        let mut alive: Vec<u32> = Vec::new();
        for (run, event) in self.own(agent) {
            match event.what {
                EventKind::Start => {
                    pairs.extend(alive.iter().map(|earlier| (*earlier, run)));
                    alive.push(run);
                }
                EventKind::Exit { .. } => alive.retain(|other| *other != run),
                _ => {}
            }
        }
        pairs
    }

    /// The events at or after `from` and before `to`. Events at `to` are left out, so that adjacent spans
    /// share no event. The times do not change.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let at = |millis| Timestamp::ORIGIN + Duration::from_millis(millis);
    /// let start = |run, millis| Event::new(at(millis), EventSource::run("worker", run), EventKind::Start);
    /// let timeline = Timeline::new(TimelineClock::Virtual, [start(1, 0), start(2, 5), start(3, 9)]);
    /// assert_eq!(timeline.between(at(5), at(9)).events(), [start(2, 5)]);
    /// ```
    #[must_use]
    pub fn between(&self, from: Timestamp, to: Timestamp) -> Timeline {
        let within = self.events.iter().filter(|e| from <= e.at && e.at < to);
        Timeline {
            clock: self.clock,
            events: within.cloned().collect(),
            names: self.names.clone(),
        }
    }

    /// The texts of all notes, in order.
    ///
    /// ```
    /// # use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let note = EventKind::Note { text: "giving up".into() };
    /// let event = Event::new(Timestamp::ORIGIN, EventSource::Subject, note);
    /// assert_eq!(Timeline::new(TimelineClock::Virtual, [event]).notes(), ["giving up"]);
    /// ```
    #[must_use]
    pub fn notes(&self) -> Vec<&str> {
        let events = self.events.iter();
        events
            .filter_map(|event| match &event.what {
                EventKind::Note { text } => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }

    /// The texts of all findings of the harness, in order. Empty if it found no problem.
    ///
    /// ```
    /// # use supervise_harness::{Event, Timeline, TimelineClock, Timestamp, EventKind, EventSource};
    /// let zombie = EventKind::Finding { text: "never reaped".into() };
    /// let event = Event::new(Timestamp::ORIGIN, EventSource::run("worker", 1), zombie);
    /// assert_eq!(Timeline::new(TimelineClock::Virtual, [event]).findings(), ["never reaped"]);
    /// ```
    #[must_use]
    pub fn findings(&self) -> Vec<&str> {
        let events = self.events.iter();
        events
            .filter_map(|event| match &event.what {
                EventKind::Finding { text } => Some(text.as_str()),
                _ => None,
            })
            .collect()
    }
}
