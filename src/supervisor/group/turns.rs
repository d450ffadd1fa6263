//! Whose turn it is in a group, to be started or to be ended.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{mpsc, watch};

use super::super::Supervisor;
use super::super::event::{Outcome, State};
use super::super::life::Request;
use super::GroupOutcome;
use crate::policy::{GiveUpScope, SiblingStrategy};

/// A child, and what it does; `None` until it has said so.
struct Child {
    agent_id: String,
    supervisor: Supervisor,
    state: Option<State>,
}

impl Child {
    /// Whether it has a process.
    fn runs(&self) -> bool {
        matches!(
            self.state,
            Some(State::Starting | State::Up | State::Stopping)
        )
    }

    fn rests(&self) -> bool {
        matches!(self.state, Some(State::Resting(_)))
    }
}

/// How a child is to be ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// To be started again.
    Replaced,
    /// For good.
    Stopped,
}

/// The children of a group, by their places, and what is to be done about them. What a child does is
/// only known from what it has said: requests that come too late for it mean nothing to it.
pub(super) struct Turns {
    children: Vec<Child>,
    strategy: SiblingStrategy,
    give_up: GiveUpScope,
    /// Who is to be started, the first first.
    starting: BTreeSet<usize>,
    /// Who is to be ended, the last first, and whether it was told.
    ending: BTreeMap<usize, (Ending, bool)>,
    /// Who was given up first.
    given_up: Option<(usize, Outcome)>,
    is_stopped: bool,
}

impl Turns {
    pub(super) fn new(strategy: SiblingStrategy, give_up: GiveUpScope) -> Turns {
        Turns {
            children: Vec::new(),
            strategy,
            give_up,
            starting: BTreeSet::new(),
            ending: BTreeMap::new(),
            given_up: None,
            is_stopped: false,
        }
    }

    /// A child that is started after the others.
    pub(super) fn add(&mut self, agent_id: String, supervisor: Supervisor) {
        self.starting.insert(self.children.len());
        self.children.push(Child {
            agent_id,
            supervisor,
            state: None,
        });
    }

    /// Goes on until all rest, the handle was dropped, or a child is gone.
    pub(super) async fn take(
        mut self,
        mut news: mpsc::UnboundedReceiver<(usize, Option<State>)>,
        mut stops: mpsc::UnboundedReceiver<()>,
        outcome: watch::Sender<Option<GroupOutcome>>,
    ) {
        while !self.children.iter().all(Child::rests) {
            self.end_in_turn();
            self.start_in_turn();
            tokio::select! {
                // A stop that is already there beats every start.
                biased;
                stop = stops.recv() => match stop {
                    Some(()) => self.stop(),
                    None => return,
                },
                said = news.recv() => match said {
                    Some((place, Some(state))) => self.hear(place, state),
                    _ => return,
                },
            }
        }
        outcome.send_replace(Some(match self.given_up {
            _ if self.is_stopped => GroupOutcome::Stopped,
            Some((place, outcome)) => GroupOutcome::GaveUp {
                agent_id: self.children[place].agent_id.clone(),
                outcome,
            },
            None => GroupOutcome::Finished,
        }));
    }

    /// Tells the last of those that are to be ended, if it has not been told.
    fn end_in_turn(&mut self) {
        while let Some(mut last) = self.ending.last_entry() {
            let child = &self.children[*last.key()];
            let (ending, is_told) = *last.get();
            let is_over = match ending {
                Ending::Replaced => !child.runs(),
                Ending::Stopped => child.rests(),
            };
            if !is_over {
                if !is_told {
                    last.get_mut().1 = true;
                    child.supervisor.order(match ending {
                        Ending::Replaced => Request::Retire,
                        Ending::Stopped => Request::Stop,
                    });
                }
                return;
            }
            last.remove();
        }
    }

    /// Starts the first of those that are to be started, where nothing has to end before.
    fn start_in_turn(&mut self) {
        let backs_off = |place: &usize| {
            let state = &self.children[*place].state;
            matches!(state, Some(State::BackingOff))
        };
        if !self.ending.is_empty() || self.starting.iter().any(backs_off) {
            return;
        }
        while let Some(first) = self.starting.first().copied() {
            match self.children[first].state {
                Some(State::Up | State::Resting(_)) => {
                    self.starting.remove(&first);
                }
                Some(State::Waiting) => return self.start(first),
                _ => return,
            }
        }
    }

    fn start(&mut self, place: usize) {
        let child = &mut self.children[place];
        child.supervisor.order(Request::Go);
        // It will say so, but what comes before that must not take it for one that is down.
        child.state = Some(State::Starting);
    }

    fn hear(&mut self, place: usize, state: State) {
        self.children[place].state = Some(state.clone());
        match state {
            State::BackingOff => self.replace(place),
            // A restart of one that was up, and of nobody else.
            State::Waiting
                if !self.starting.contains(&place) && !self.ending.contains_key(&place) =>
            {
                self.start(place);
            }
            State::Resting(outcome @ (Outcome::GaveUp(_) | Outcome::Failed(_))) => {
                self.given_up.get_or_insert((place, outcome));
                let ended = (0..self.children.len())
                    .filter(|other| self.give_up.ends(place, *other))
                    .collect();
                self.end(ended);
            }
            _ => {}
        }
    }

    /// One is to be restarted, and others with it.
    fn replace(&mut self, place: usize) {
        let is_ended = |place: &usize| {
            let ending = self.ending.get(place);
            ending.is_some_and(|(ending, _)| *ending == Ending::Stopped)
        };
        if self.strategy == SiblingStrategy::OneForOne || is_ended(&place) {
            return;
        }
        let replaced: Vec<usize> = (0..self.children.len())
            .filter(|other| self.strategy.replaces(place, *other))
            .filter(|other| !self.children[*other].rests() && !is_ended(other))
            .collect();
        for other in replaced {
            self.starting.insert(other);
            if self.children[other].runs() {
                self.ending
                    .entry(other)
                    .or_insert((Ending::Replaced, false));
            }
        }
    }

    /// These are to be ended for good.
    fn end(&mut self, places: Vec<usize>) {
        for place in places {
            self.starting.remove(&place);
            let is_ended = matches!(self.ending.get(&place), Some((Ending::Stopped, _)));
            if !self.children[place].rests() && !is_ended {
                self.ending.insert(place, (Ending::Stopped, false));
            }
        }
    }

    fn stop(&mut self) {
        self.is_stopped = true;
        self.end((0..self.children.len()).collect());
    }
}
