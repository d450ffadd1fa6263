//! What the server records: each event with its time and its step.

use super::state::Server;
use crate::timeline::{EventKind, EventSource, Instant, Timeline};

impl Server {
    /// The timeline so far.
    pub(crate) fn timeline(&self) -> Timeline {
        let names = self.agents.iter().map(|agent| agent.name.clone());
        self.recorder.timeline().with_names(names)
    }

    /// Records an event that no process of the sim has caused in its turn.
    pub(crate) fn record(&mut self, who: &EventSource, what: EventKind) {
        self.progress += 1;
        let instant = self.instant_of(false);
        self.recorder.record(instant, who.clone(), &[], what);
    }

    /// Records what happened to a member.
    pub(super) fn record_of(&mut self, member: usize, what: EventKind) {
        // The code under test reaps, not the member.
        let is_reap = matches!(what, EventKind::Reap);
        if !is_reap {
            self.actors.insert(member);
        }
        self.progress += 1;
        let this = &self.members[member];
        let is_killed = matches!(what, EventKind::Exit { .. }) && !this.ends_by_itself();
        let is_its_act = self.acting == Some(member) && !is_reap && !is_killed;
        let instant = self.instant_of(is_its_act);
        self.recorder
            .record(instant, this.who.clone(), &this.path, what);
    }

    /// The instant of an event. While a process has its turn, what that process does belongs to this step,
    /// and everything else to the next. A thread or a shell that hears of the act goes on before that process
    /// has come to rest.
    pub(super) fn instant_of(&self, is_the_turns: bool) -> Instant {
        let is_since = self.acting.is_some() && !is_the_turns;
        Instant {
            at: self.now,
            step: self.step + u64::from(is_since),
        }
    }

    /// Begins a new step: what happens from here on comes after everything that was recorded before.
    pub(crate) fn begin_step(&mut self) {
        self.step += 1 + u64::from(self.acting.take().is_some());
    }

    pub(super) fn finding(&mut self, who: &EventSource, text: impl Into<String>) {
        self.record(who, EventKind::Finding { text: text.into() });
    }
}
