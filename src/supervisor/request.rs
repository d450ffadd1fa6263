//! What a supervisor is asked, and what it says to its group.

use tokio::sync::{mpsc, oneshot};

use super::event::{Outcome, SupervisorState};

/// What the handle or the group asks of a supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Stop,
    Restart,
    Start,
    Reset,
    /// End the run, if there is one, and wait for the turn in the group. No count changes.
    Retire,
    /// Start, if the child waits for its turn.
    Go,
}

/// How a child of a group reports its state to the group. It is dropped together with the child's
/// `Life`.
pub(super) struct Link {
    /// The child's place in the group.
    pub(super) place: usize,
    /// Receives the child's place and its state, or `None` when the child's task ends.
    pub(super) news: mpsc::UnboundedSender<(usize, Option<SupervisorState>)>,
}

impl Link {
    pub(super) fn tell(&self, news: Option<SupervisorState>) {
        // This fails if the group is gone. Nobody needs the state then.
        let _ = self.news.send((self.place, news));
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.tell(None);
    }
}

/// A request, and how to answer whoever made it.
#[derive(Debug)]
pub(super) struct Command {
    pub(super) request: Request,
    /// Receives the outcome that the supervisor rests with, or `None` if it does not rest.
    pub(super) done: oneshot::Sender<Option<Outcome>>,
}

impl Command {
    /// Answers the request. Whoever made it may no longer wait for the answer, which is no error.
    pub(super) fn done(self, outcome: Option<&Outcome>) {
        let _ = self.done.send(outcome.cloned());
    }
}
