//! Records events, and makes a timeline of them.

use std::collections::HashMap;
use std::sync::Arc;

use super::event::{Event, EventKind, EventSource};
use super::record::{Timeline, TimelineClock};
use crate::timestamp::Timestamp;

/// When something happened: a time, and a step, since things that happen at one time happen in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Instant {
    pub(crate) at: Timestamp,
    /// The number of the step. In each step, one process acts, or the code under test works until it rests.
    pub(crate) step: u64,
}

/// An event as it was recorded.
#[derive(Clone, Debug)]
struct Record {
    step: u64,
    /// Where the process is in the tree of its run. It has a number for each ancestor, from the run's own
    /// process down: n means that the next process in the line is the n-th that this ancestor started.
    path: Vec<u32>,
    event: Event,
}

/// Takes events as they come, and puts them in an order that does not depend on which process was faster.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    clock: TimelineClock,
    /// Each agent's place in the order of the events of one step.
    places: HashMap<Arc<str>, usize>,
    /// The events, in the order of recording.
    records: Vec<Record>,
}

impl Recorder {
    /// A recorder without events.
    pub(crate) fn new(clock: TimelineClock) -> Recorder {
        Recorder {
            clock,
            places: HashMap::new(),
            records: Vec::new(),
        }
    }

    /// Gives the agent the next place in the order, unless it already has a place.
    pub(crate) fn agent(&mut self, name: &str) {
        if !self.places.contains_key(name) {
            self.places.insert(name.into(), self.places.len());
        }
    }

    /// Adds an event. If its agent has no place yet, the agent gets the next place, after all others.
    pub(crate) fn record(
        &mut self,
        instant: Instant,
        who: EventSource,
        path: &[u32],
        what: EventKind,
    ) {
        if let Some(name) = who.agent() {
            self.agent(name);
        }
        self.records.push(Record {
            step: instant.step,
            path: path.to_vec(),
            event: Event::new(instant.at, who, what),
        });
    }

    /// The timeline of what was recorded so far. On a real clock the events stay in the order of recording.
    ///
    /// On a virtual clock they are sorted, because two processes that act in one step may be recorded in
    /// either order. They are sorted by these, in this order:
    /// 1. the time;
    /// 2. the step;
    /// 3. the place of the agent, with the subject after all agents;
    /// 4. the run;
    /// 5. the process: the run itself, then the processes that it started, in the order of their starts, each
    ///    with its own descendants after it;
    /// 6. the order of recording.
    pub(crate) fn timeline(&self) -> Timeline {
        let mut records = self.records.clone();
        if self.clock == TimelineClock::Virtual {
            records.sort_by_cached_key(|Record { step, path, event }| {
                let place = event.who.agent().and_then(|name| self.places.get(name));
                let run = match &event.who {
                    EventSource::Run { run, .. } => *run,
                    EventSource::Subject => 0,
                };
                (event.at, *step, place.is_none(), place, run, path.clone())
            });
        }
        Timeline::new(self.clock, records.into_iter().map(|record| record.event))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const AGENTS: [&str; 3] = ["web", "db", "cache"];

    fn at(millis: u64) -> Timestamp {
        Timestamp::ORIGIN + Duration::from_millis(millis)
    }

    fn first_step(at: Timestamp) -> Instant {
        Instant { at, step: 0 }
    }

    fn one(millis: u64) -> Instant {
        first_step(at(millis))
    }

    fn recorder(clock: TimelineClock) -> Recorder {
        let mut recorder = Recorder::new(clock);
        AGENTS.iter().for_each(|name| recorder.agent(name));
        recorder
    }

    fn order(recorder: &Recorder) -> Vec<String> {
        let timeline = recorder.timeline();
        let events = timeline.events().iter();
        events.map(|e| format!("{} {}", e.who, e.what)).collect()
    }

    #[test]
    fn virtual_ties_go_by_registration_with_the_subject_last() {
        let mut recorder = recorder(TimelineClock::Virtual);
        let note = EventKind::Note { text: "n".into() };
        recorder.record(one(1), EventSource::Subject, &[], note);
        recorder.record(one(1), EventSource::run("late", 1), &[], EventKind::Start);
        recorder.record(one(1), EventSource::run("db", 1), &[], EventKind::Start);
        recorder.record(one(1), EventSource::run("db", 1), &[], EventKind::Ready);
        recorder.record(one(1), EventSource::run("web", 1), &[], EventKind::Start);
        recorder.record(one(0), EventSource::run("cache", 1), &[], EventKind::Start);
        assert_eq!(
            order(&recorder),
            [
                "cache#1 start",
                "web#1 start",
                "db#1 start",
                "db#1 ready",
                "late#1 start",
                "subject note  \"n\"",
            ]
        );
    }

    #[test]
    fn registering_an_agent_again_does_not_move_it() {
        let mut recorder = recorder(TimelineClock::Virtual);
        recorder.agent("web");
        recorder.record(one(0), EventSource::run("db", 1), &[], EventKind::Start);
        recorder.record(one(0), EventSource::run("web", 1), &[], EventKind::Start);
        assert_eq!(order(&recorder), ["web#1 start", "db#1 start"]);
    }

    #[test]
    fn real_events_stay_as_they_were_recorded() {
        let mut recorder = recorder(TimelineClock::Real);
        recorder.record(
            one(5),
            EventSource::Subject,
            &[],
            EventKind::Note { text: "n".into() },
        );
        recorder.record(one(5), EventSource::run("db", 1), &[], EventKind::Start);
        recorder.record(one(4), EventSource::run("web", 1), &[], EventKind::Start);
        assert_eq!(
            order(&recorder),
            ["subject note  \"n\"", "db#1 start", "web#1 start"]
        );
    }

    #[test]
    fn steps_of_one_instant_stay_in_their_order() {
        let mut recorder = recorder(TimelineClock::Virtual);
        for (step, name) in [(3, "web"), (1, "db"), (2, "cache"), (2, "db")] {
            let instant = Instant { at: at(1), step };
            recorder.record(instant, EventSource::run(name, 1), &[], EventKind::Ready);
        }
        assert_eq!(
            order(&recorder),
            ["db#1 ready", "db#1 ready", "cache#1 ready", "web#1 ready"]
        );
    }

    #[test]
    fn descendants_stand_in_the_order_in_which_they_were_started() {
        let mut recorder = recorder(TimelineClock::Virtual);
        for (path, name) in [(&[2][..], "a"), (&[1, 1], "b"), (&[1], "c")] {
            recorder.record(
                one(1),
                EventSource::descendant("web", 1, name),
                path,
                EventKind::Start,
            );
        }
        recorder.record(one(1), EventSource::run("web", 1), &[], EventKind::Ready);
        assert_eq!(
            order(&recorder),
            [
                "web#1 ready",
                "web#1/c start",
                "web#1/b start",
                "web#1/a start"
            ]
        );
    }

    /// The events of one agent, or of the subject, in its own order. The bytes written tell them apart.
    fn lane(who: EventSource) -> impl Strategy<Value = Vec<Event>> {
        prop::collection::vec(0_u64..3, 0..6).prop_map(move |times| {
            let events = times.into_iter().zip(0..).map(|(millis, bytes)| {
                let stream = agent_stub::script::Stream::Stdout;
                Event::new(at(millis), who.clone(), EventKind::Wrote { stream, bytes })
            });
            events.collect()
        })
    }

    proptest! {
        #[test]
        fn any_interleaving_of_agents_gives_the_same_timeline(
            (lanes, shuffled) in (
                lane(EventSource::run(AGENTS[0], 1)),
                lane(EventSource::run(AGENTS[1], 1)),
                lane(EventSource::run(AGENTS[2], 1)),
                lane(EventSource::Subject),
            )
                .prop_flat_map(|(a, b, c, d)| {
                    let lanes = [a, b, c, d];
                    let turns: Vec<usize> = lanes
                        .iter()
                        .enumerate()
                        .flat_map(|(lane, events)| vec![lane; events.len()])
                        .collect();
                    (Just(lanes), Just(turns).prop_shuffle())
                })
        ) {
            let mut one_by_one = recorder(TimelineClock::Virtual);
            for event in lanes.iter().flatten().cloned() {
                one_by_one.record(first_step(event.at), event.who, &[], event.what);
            }
            let mut interleaved = recorder(TimelineClock::Virtual);
            let mut lanes = lanes.map(Vec::into_iter);
            for turn in shuffled {
                let event = lanes[turn].next().unwrap();
                interleaved.record(first_step(event.at), event.who, &[], event.what);
            }
            prop_assert_eq!(interleaved.timeline(), one_by_one.timeline());
        }
    }
}
