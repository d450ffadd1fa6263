//! What the harness writes a timeline with.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Event, Timeline, TimelineClock, What, Who};
use crate::timestamp::Timestamp;

/// Takes events as they come and puts them in an order that does not depend on who was faster.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    clock: TimelineClock,
    /// Each agent's place among those of the same instant.
    places: HashMap<Arc<str>, usize>,
    /// In the order of recording.
    events: Vec<Event>,
}

impl Recorder {
    /// A recorder without events.
    pub(crate) fn new(clock: TimelineClock) -> Recorder {
        Recorder {
            clock,
            places: HashMap::new(),
            events: Vec::new(),
        }
    }

    /// Gives the agent the next place in the order, unless it has one.
    pub(crate) fn agent(&mut self, name: &str) {
        if !self.places.contains_key(name) {
            self.places.insert(name.into(), self.places.len());
        }
    }

    /// Adds an event. An agent that was never named before is placed now, after all others.
    pub(crate) fn record(&mut self, at: Timestamp, who: Who, what: What) {
        if let Some(name) = who.agent() {
            self.agent(name);
        }
        self.events.push(Event::new(at, who, what));
    }

    /// What was recorded so far. Virtual: by time, then by the agents' places with the subject after
    /// all of them, then by run, its own events before its descendants' in the order of their names,
    /// then as recorded: what two processes do at one instant is in nobody's order. Real: as recorded.
    pub(crate) fn timeline(&self) -> Timeline {
        let mut events = self.events.clone();
        if self.clock == TimelineClock::Virtual {
            events.sort_by_cached_key(|event| {
                let place = event.who.agent().and_then(|name| self.places.get(name));
                let (run, descendant) = match &event.who {
                    Who::Run {
                        run, descendant, ..
                    } => (*run, descendant.clone()),
                    Who::Subject => (0, None),
                };
                (event.at, place.is_none(), place, run, descendant)
            });
        }
        Timeline::new(self.clock, events)
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
        let note = What::Note { text: "n".into() };
        recorder.record(at(1), Who::Subject, note);
        recorder.record(at(1), Who::run("late", 1), What::Start);
        recorder.record(at(1), Who::run("db", 1), What::Start);
        recorder.record(at(1), Who::run("db", 1), What::Ready);
        recorder.record(at(1), Who::run("web", 1), What::Start);
        recorder.record(at(0), Who::run("cache", 1), What::Start);
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
        recorder.record(at(0), Who::run("db", 1), What::Start);
        recorder.record(at(0), Who::run("web", 1), What::Start);
        assert_eq!(order(&recorder), ["web#1 start", "db#1 start"]);
    }

    #[test]
    fn real_events_stay_as_they_were_recorded() {
        let mut recorder = recorder(TimelineClock::Real);
        recorder.record(at(5), Who::Subject, What::Note { text: "n".into() });
        recorder.record(at(5), Who::run("db", 1), What::Start);
        recorder.record(at(4), Who::run("web", 1), What::Start);
        assert_eq!(
            order(&recorder),
            ["subject note  \"n\"", "db#1 start", "web#1 start"]
        );
    }

    /// One agent's events, or the subject's, in its own order: bytes written tell them apart.
    fn lane(who: Who) -> impl Strategy<Value = Vec<Event>> {
        prop::collection::vec(0_u64..3, 0..6).prop_map(move |times| {
            let events = times.into_iter().zip(0..).map(|(millis, bytes)| {
                let stream = agent_stub::script::Stream::Stdout;
                Event::new(at(millis), who.clone(), What::Wrote { stream, bytes })
            });
            events.collect()
        })
    }

    proptest! {
        #[test]
        fn any_interleaving_of_agents_gives_the_same_timeline(
            (lanes, shuffled) in (
                lane(Who::run(AGENTS[0], 1)),
                lane(Who::run(AGENTS[1], 1)),
                lane(Who::run(AGENTS[2], 1)),
                lane(Who::Subject),
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
                one_by_one.record(event.at, event.who, event.what);
            }
            let mut interleaved = recorder(TimelineClock::Virtual);
            let mut lanes = lanes.map(Vec::into_iter);
            for turn in shuffled {
                let event = lanes[turn].next().unwrap();
                interleaved.record(event.at, event.who, event.what);
            }
            prop_assert_eq!(interleaved.timeline(), one_by_one.timeline());
        }
    }
}
