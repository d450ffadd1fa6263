//! A supervisor whose events are in the timeline.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant as TokioInstant;

use super::shared::Shared;
use crate::timestamp::Timestamp;

/// A supervisor whose events are written into the timeline, as returned by `Agent::follow`. It lets the user
/// of the supervisor write lines among them.
#[derive(Clone)]
pub struct Following {
    pub(super) shared: Arc<Shared>,
    pub(super) place: usize,
    /// The origin of the sim's clock.
    pub(super) origin: TokioInstant,
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").finish_non_exhaustive()
    }
}

impl Following {
    /// Writes a line of the supervisor's user into the timeline, such as what the supervisor was asked and
    /// what it answered. The line stands after what the supervisor has said so far, before what it says next,
    /// and beside the run that the supervisor is at.
    pub fn note(&self, text: impl fmt::Display) {
        // Before the lock is taken: formatting is the user's code, and may ask the sim.
        let text = text.to_string();
        let mut server = self.shared.lock();
        server.now = Timestamp::ORIGIN + (TokioInstant::now() - self.origin);
        server.note_beside(self.place, text);
    }
}
