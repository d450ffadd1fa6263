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

// The harness's side of an agent and the sim record; without them only the tests do.
#[allow(dead_code)]
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
    /// all of them, then as recorded. Real: as recorded.
    pub(crate) fn timeline(&self) -> Timeline {
        let mut events = self.events.clone();
        if self.clock == TimelineClock::Virtual {
            events.sort_by_key(|event| {
                let place = event.who.agent().and_then(|name| self.places.get(name));
                (event.at, place.is_none(), place)
            });
        }
        Timeline::new(self.clock, events)
    }
}
