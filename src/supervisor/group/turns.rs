//! Decides which child of a group is started or ended next.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::{mpsc, watch};

use super::super::control::Supervisor;
use super::super::event::{Outcome, SupervisorState};
use super::super::request::Request;
use super::outcome::GroupOutcome;
use crate::supervisor::policy::{GiveUpScope, SiblingStrategy};

/// A child and its state, which is `None` until the child reports one.
struct Child {
    agent_id: String,
    supervisor: Supervisor,
    state: Option<SupervisorState>,
}

impl Child {
    /// Whether the child has a process, or is about to have one.
    fn runs(&self) -> bool {
        matches!(
            self.state,
            Some(SupervisorState::Starting | SupervisorState::Up | SupervisorState::Stopping)
        )
    }

    fn rests(&self) -> bool {
        matches!(self.state, Some(SupervisorState::Resting(_)))
    }
}

/// Why a child is to be ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// It will be started again.
    Replaced,
    /// It stays down for good.
    Stopped,
}

/// The children of a group, by their places, and what is to be done with them. The group knows a
/// child's state only from the child's reports, which may be out of date. A child ignores a request
/// that comes too late, so this does no harm.
pub(super) struct Turns {
    children: Vec<Child>,
    strategy: SiblingStrategy,
    give_up: GiveUpScope,
    /// The children to start. The first of them starts first.
    starting: BTreeSet<usize>,
    /// The children to end, and whether each was told to. The last of them ends first.
    ending: BTreeMap<usize, (Ending, bool)>,
    /// The child that was given up first, and its outcome.
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

    /// Adds a child that is started after the others.
    pub(super) fn add(&mut self, agent_id: String, supervisor: Supervisor) {
        self.starting.insert(self.children.len());
        self.children.push(Child {
            agent_id,
            supervisor,
            state: None,
        });
    }

    /// Starts and ends children until all of them rest, the handle is dropped, or a child's task is
    /// gone.
    pub(super) async fn take(
        mut self,
        mut news: mpsc::UnboundedReceiver<(usize, Option<SupervisorState>)>,
        mut stops: mpsc::UnboundedReceiver<()>,
        outcome: watch::Sender<Option<GroupOutcome>>,
    ) {
        while !self.children.iter().all(Child::rests) {
            self.end_in_turn();
            self.start_in_turn();
            tokio::select! {
                // A stop that has already arrived comes before every start.
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

    /// Tells the last child that is to be ended to end, unless it was told before. Drops those that
    /// have ended from the list.
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

    /// Starts the first child that is to be started, unless another child has to end or to finish
    /// its delay before.
    fn start_in_turn(&mut self) {
        let backs_off = |place: &usize| {
            let state = &self.children[*place].state;
            matches!(state, Some(SupervisorState::BackingOff))
        };
        if !self.ending.is_empty() || self.starting.iter().any(backs_off) {
            return;
        }
        while let Some(first) = self.starting.first().copied() {
            match self.children[first].state {
                Some(SupervisorState::Up | SupervisorState::Resting(_)) => {
                    self.starting.remove(&first);
                }
                Some(SupervisorState::Waiting) => return self.start(first),
                _ => return,
            }
        }
    }

    fn start(&mut self, place: usize) {
        let child = &mut self.children[place];
        child.supervisor.order(Request::Go);
        // The child will report this state itself. Until then nobody must take it for a child that
        // is down.
        child.state = Some(SupervisorState::Starting);
    }

    fn hear(&mut self, place: usize, state: SupervisorState) {
        self.children[place].state = Some(state.clone());
        match state {
            SupervisorState::BackingOff => self.replace(place),
            // Only this child is restarted, and it was up before.
            SupervisorState::Waiting
                if !self.starting.contains(&place) && !self.ending.contains_key(&place) =>
            {
                self.start(place);
            }
            SupervisorState::Resting(outcome @ (Outcome::GaveUp(_) | Outcome::Failed(_))) => {
                self.given_up.get_or_insert((place, outcome));
                let ended = (0..self.children.len())
                    .filter(|other| self.give_up.ends(place, *other))
                    .collect();
                self.end(ended);
            }
            _ => {}
        }
    }

    /// Prepares the replacement of the children that are restarted together with this one.
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

    /// Marks these children to be ended for good.
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
