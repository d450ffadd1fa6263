//! Takes in what members say.

use std::time::Duration;

use agent_stub::protocol::{MessageError, Report};

use super::expected::Expected;
use super::state::Server;
use crate::sim::agent::member::Member;
use crate::timeline::EventKind;

impl Server {
    /// Takes in one message of a member.
    pub(super) fn hear(&mut self, member: usize, message: Result<Report, MessageError>) {
        // That a member waits, or would like to act, does not count as progress.
        let is_quiet = matches!(
            message,
            Ok(Report::Rest(_)
                | Report::Pong(_)
                | Report::Writing(..)
                | Report::Wait { .. }
                | Report::Turn { .. }
                | Report::Watching(_))
        );
        if !is_quiet {
            self.progress += 1;
        }
        let who = self.members[member].who.clone();
        let report = match message {
            Ok(report) => report,
            Err(error) => {
                return self.finding(&who, format!("it said what is no message: {error}"));
            }
        };
        self.members[member].note(&report);
        let rank = self.members[member].rank();
        match report {
            Report::Wait { id, nanos } if self.is_virtual => {
                let until = self.now + Duration::from_nanos(nanos);
                self.turns.wait(until, rank, member, id);
                self.has_new_deadline = true;
            }
            Report::Turn { id, signal } if self.is_virtual => {
                self.turns.ask(self.now, rank, member, id, signal);
            }
            Report::Started { nth, pid, .. } => {
                let is_it = |m: &Member| m.starter == Some(member) && m.path.last() == Some(&nth);
                // The descendant may have said hello before its starter said that it started it.
                if !self.members.iter().any(is_it) {
                    self.expected.push(Expected {
                        starter: member,
                        nth,
                        pid,
                    });
                }
            }
            Report::Reaped { pid, status } => {
                let is_it = |m: &Member| m.starter == Some(member) && m.own_pid == pid;
                // Another process may have had the number before.
                if let Some(child) = self.members.iter().rposition(is_it) {
                    self.members[child].told_status = Some(status);
                    self.look(child, None);
                }
            }
            Report::Ready => self.record_of(member, EventKind::Ready),
            Report::Beat => self.record_of(member, EventKind::Beat),
            Report::Got(signal, count) => {
                self.members[member].signals.push((signal, count, self.now));
                self.record_of(member, EventKind::Signal { signal, count });
            }
            Report::Freezing => self.record_of(member, EventKind::Frozen),
            Report::Thawed if self.is_gated => {}
            Report::Thawed => self.record_of(member, EventKind::Thawed),
            Report::Gate(name) => {
                self.record_of(
                    member,
                    EventKind::Gate {
                        name: String::from_utf8_lossy(&name.0).into_owned(),
                    },
                );
            }
            Report::Locked(path) => {
                self.record_of(
                    member,
                    EventKind::Locked {
                        path: String::from_utf8_lossy(&path.0).into_owned(),
                    },
                );
            }
            Report::Wrote(stream, bytes) => {
                self.record_of(member, EventKind::Wrote { stream, bytes });
            }
            // With the gate, `see_blocked` records it, if the member is still blocked by then.
            Report::Blocked(stream) if !self.is_gated => {
                self.record_of(member, EventKind::Blocked { stream });
            }
            Report::Error(text) => {
                self.record_of(
                    member,
                    EventKind::Error {
                        text: String::from_utf8_lossy(&text.0).into_owned(),
                    },
                );
            }
            Report::Hello { .. } => self.finding(&who, "it said hello twice"),
            _ => {}
        }
    }
}
