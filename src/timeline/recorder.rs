//! What the harness writes a timeline with.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Event, Timeline, TimelineClock, What, Who};
use crate::timestamp::Timestamp;

/// What a supervisor speaks of, and cannot have said before it happened to the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// The run's start.
    Start,
    /// That it is ready.
    Ready,
    /// Its end, which the supervisor reaped.
    End,
    /// What the supervisor does or was asked itself.
    Itself,
}

impl About {
    fn is(self, what: &What) -> bool {
        match self {
            About::Start => matches!(what, What::Start),
            About::Ready => matches!(what, What::Ready),
            About::End => matches!(what, What::Exit { .. } | What::Reap),
            About::Itself => false,
        }
    }
}

/// An event as it was recorded.
#[derive(Clone, Debug)]
struct Record {
    event: Event,
    /// None where it was seen, and not said by a supervisor.
    said: Option<About>,
}

/// Takes events as they come and puts them in an order that does not depend on who was faster.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    clock: TimelineClock,
    /// Each agent's place among those of the same instant.
    places: HashMap<Arc<str>, usize>,
    /// In the order of recording.
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

    /// Gives the agent the next place in the order, unless it has one.
    pub(crate) fn agent(&mut self, name: &str) {
        if !self.places.contains_key(name) {
            self.places.insert(name.into(), self.places.len());
        }
    }

    /// Adds an event. An agent that was never named before is placed now, after all others.
    pub(crate) fn record(&mut self, at: Timestamp, who: Who, what: What) {
        self.add(Event::new(at, who, what), None);
    }

    /// Adds what a supervisor said about the run, or was asked, as a note.
    pub(crate) fn said(&mut self, at: Timestamp, run: Who, about: About, text: String) {
        self.add(Event::new(at, run, What::Note { text }), Some(about));
    }

    fn add(&mut self, event: Event, said: Option<About>) {
        if let Some(name) = event.who.agent() {
            self.agent(name);
        }
        self.records.push(Record { event, said });
    }

    /// What was recorded so far. Virtual: by time, then by the agents' places with the subject after
    /// all of them, then by run, its own events before its descendants' in the order of their names,
    /// then as recorded: what two processes do at one instant is in nobody's order. That goes for a run
    /// and its supervisor, too: what the supervisor said stands after what it spoke of, and otherwise
    /// before what the run did at that instant. Real: as recorded.
    pub(crate) fn timeline(&self) -> Timeline {
        let mut records = self.records.clone();
        if self.clock == TimelineClock::Virtual {
            records.sort_by_cached_key(|Record { event, .. }| {
                let place = event.who.agent().and_then(|name| self.places.get(name));
                let (run, descendant) = match &event.who {
                    Who::Run {
                        run, descendant, ..
                    } => (*run, descendant.clone()),
                    Who::Subject => (0, None),
                };
                (event.at, place.is_none(), place, run, descendant)
            });
            let is_same =
                |a: &Record, b: &Record| (a.event.at, &a.event.who) == (b.event.at, &b.event.who);
            records = records.chunk_by(is_same).flat_map(weave).collect();
        }
        Timeline::new(self.clock, records.into_iter().map(|record| record.event))
    }
}

/// What a supervisor said at one instant, woven into what it spoke of: each of the two in its own order,
/// and a word as early as it can have been said.
fn weave(records: &[Record]) -> Vec<Record> {
    let (said, mut seen): (Vec<_>, Vec<_>) = records
        .iter()
        .cloned()
        .partition(|record| record.said.is_some());
    if seen.is_empty() || said.is_empty() {
        return records.to_vec();
    }
    let mut woven = Vec::with_capacity(records.len());
    for word in said {
        let is_due = |record: &Record| word.said.is_some_and(|about| about.is(&record.event.what));
        // An end is over with the reap; all else can be said at once.
        let last = match word.said {
            Some(About::End) => seen.iter().rposition(is_due),
            _ => seen.iter().position(is_due),
        };
        let before = last.map_or(0, |place| place + 1);
        woven.extend(seen.drain(..before));
        woven.push(word);
    }
    woven.extend(seen);
    woven
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

    /// A run's own events at one instant, its supervisor's words about them, and the order of both.
    fn woven(seen: &[What], said: &[(About, &str)], turns: &[bool]) -> Vec<String> {
        let mut recorder = Recorder::new(TimelineClock::Virtual);
        let (mut seen, mut said) = (seen.iter(), said.iter());
        for is_said in turns {
            if *is_said {
                let (about, text) = said.next().unwrap();
                recorder.said(at(0), Who::run("web", 1), *about, (*text).to_owned());
            } else {
                recorder.record(at(0), Who::run("web", 1), seen.next().unwrap().clone());
            }
        }
        let events = recorder.timeline();
        let words = events.events().iter().map(|event| match &event.what {
            What::Note { text } => format!("- {text}"),
            what => what.kind().to_owned(),
        });
        words.collect()
    }

    /// A life within one instant.
    fn short_life() -> ([What; 5], [(About, &'static str); 6]) {
        let term = What::Signal {
            signal: agent_stub::Signal::TERM,
            count: 1,
        };
        (
            [
                What::Start,
                What::Ready,
                term,
                What::Exit { status: None },
                What::Reap,
            ],
            [
                (About::Start, "started"),
                (About::Ready, "ready"),
                (About::Itself, "asked to stop"),
                (About::Itself, "stopping"),
                (About::End, "ended"),
                (About::Itself, "stopped"),
            ],
        )
    }

    #[test]
    fn a_supervisors_words_stand_after_what_they_are_about_and_before_all_else() {
        let (seen, said) = short_life();
        let turns = [true, false].map(|is_said| vec![is_said; if is_said { 6 } else { 5 }]);
        assert_eq!(
            woven(&seen, &said, &turns.concat()),
            [
                "start",
                "- started",
                "ready",
                "- ready",
                "- asked to stop",
                "- stopping",
                "signal",
                "exit",
                "reap",
                "- ended",
                "- stopped",
            ]
        );
    }

    #[test]
    fn a_supervisors_words_about_what_nobody_saw_stand_first() {
        let (_, said) = short_life();
        assert_eq!(
            woven(&[What::Beat], &said[4..], &[false, true, true]),
            ["- ended", "- stopped", "beat"]
        );
    }

    proptest! {
        #[test]
        fn whether_a_supervisor_or_its_run_was_heard_first_changes_nothing(
            turns in Just([vec![true; 6], vec![false; 5]].concat()).prop_shuffle()
        ) {
            let (seen, said) = short_life();
            let one_by_one = [vec![false; 5], vec![true; 6]].concat();
            prop_assert_eq!(woven(&seen, &said, &turns), woven(&seen, &said, &one_by_one));
        }
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
