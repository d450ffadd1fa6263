//! What supervisors say, as notes beside the runs that they are about.

use std::sync::Arc;

use tokio::time::Instant;

use super::followed::Followed;
use super::state::Server;
use crate::causes::WithCauses;
use crate::supervisor::{SupervisorEvent, SupervisorEvents};
use crate::timeline::{EventKind, EventSource};
use crate::timestamp::Timestamp;

impl Server {
    /// Listens to a supervisor of the agent from now on. Returns the supervisor's place in
    /// `followed`.
    pub(crate) fn follow(
        &mut self,
        agent: usize,
        events: SupervisorEvents,
        origin: Instant,
    ) -> usize {
        self.followed.push(Followed {
            events,
            agent,
            run: None,
            member: None,
            origin,
        });
        self.followed.len() - 1
    }

    /// Takes in what the supervisors have said.
    pub(crate) fn hear_supervisors(&mut self) {
        for place in 0..self.followed.len() {
            while let Some(told) = self.followed[place].events.try_told() {
                let origin = self.followed[place].origin;
                let at = Timestamp::ORIGIN + told.instant.saturating_duration_since(origin);
                // Mostly this is the current time: a supervisor is heard before time passes.
                let now = std::mem::replace(&mut self.now, at);
                self.hear_supervisor(place, &told.event);
                self.now = now;
            }
        }
    }

    /// Writes a note after what the supervisor has said so far, beside the run that it is at.
    pub(crate) fn note_beside(&mut self, place: usize, text: String) {
        self.hear_supervisors();
        self.say(place, text);
    }

    fn hear_supervisor(&mut self, place: usize, event: &SupervisorEvent) {
        let agent = self.followed[place].agent;
        match event {
            SupervisorEvent::Started { pid, .. } => {
                let (run, member) = self.announce(agent, *pid);
                (self.followed[place].run, self.followed[place].member) = (Some(run), member);
            }
            SupervisorEvent::StartFailed { .. } => {
                let (_, run) = self.next_run(agent);
                (self.followed[place].run, self.followed[place].member) = (Some(run), None);
            }
            SupervisorEvent::Ended { status, .. } => match self.followed[place].member {
                Some(member) => self.look(member, Some(*status)),
                None => {
                    let who = self.run_of(place);
                    let status = Some(*status);
                    self.record(&who, EventKind::Exit { status });
                    self.record(&who, EventKind::Reap);
                }
            },
            _ => {}
        }
        self.say(place, text(event));
    }

    /// Records a note. It does not count as progress: a supervisor that talks to itself for ever is
    /// stuck.
    fn say(&mut self, place: usize, text: String) {
        let instant = self.instant_of(false);
        let who = self.run_of(place);
        self.recorder
            .record(instant, who, &[], EventKind::Note { text });
    }

    /// The run that the supervisor is at, or that will be its first.
    fn run_of(&self, place: usize) -> EventSource {
        let followed = &self.followed[place];
        let agent = &self.agents[followed.agent];
        let run = followed.run.unwrap_or(agent.numbers.saturating_add(1));
        EventSource::run(Arc::clone(&agent.name), run)
    }
}

/// The event in a few words. They do not name the run, since the note stands beside it.
fn text(event: &SupervisorEvent) -> String {
    match event {
        SupervisorEvent::Started { .. } => "started".to_owned(),
        SupervisorEvent::StartFailed { error, .. } => {
            format!("failed to start: {}", WithCauses(error))
        }
        SupervisorEvent::Ready { .. } => "ready".to_owned(),
        SupervisorEvent::StartTimedOut { .. } => "not ready in time".to_owned(),
        SupervisorEvent::MissedHeartbeat { .. } => "missed a heartbeat".to_owned(),
        SupervisorEvent::ProbeFailed {
            failed, failure, ..
        } => format!("probe failed, {failed} in a row: {failure}"),
        SupervisorEvent::Stopping { signal, .. } => format!("stopping {signal}"),
        SupervisorEvent::Ended { status, .. } => {
            let status = Some(*status);
            format!("ended {}", EventKind::Exit { status }.details())
        }
        SupervisorEvent::BackingOff { attempt, delay } => {
            format!("backing off {delay:?} (attempt {attempt})")
        }
        SupervisorEvent::Resting(outcome) => outcome.to_string(),
    }
}
