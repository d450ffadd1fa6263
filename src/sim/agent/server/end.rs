//! How members end, and who says so.

use super::state::Server;
use crate::pidfd::kernel_keeps_statuses;
use crate::pidfd::status_of_wait;
use crate::sim::agent::member::Member;
use crate::sim::agent::parent::Parent;
use crate::status::ExitStatus;
use crate::timeline::EventKind;

impl Server {
    /// Looks whether a member has ended or was reaped. `said` is how it ended, if its supervisor has said so.
    pub(super) fn look(&mut self, member: usize, said: Option<ExitStatus>) {
        if !self.is_gated && !self.members[member].said_hello {
            self.accept_of(member);
        }
        let Some(death) = self.members[member].death() else {
            return;
        };
        if self.members[member].is_alive() {
            self.hear_last_words(member);
            match self.status_of(member).or(said.map(Some)) {
                Some(status) => self.end(member, status),
                None => {
                    self.dying.insert(member);
                    return;
                }
            }
        }
        if !death.is_reaped {
            return;
        }
        let this = &self.members[member];
        if !this.parent.is_this() {
            // What becomes of its parent until all are at rest tells whether the parent reaped it.
            self.reaped_by_others.insert(member);
        } else if !self.is_gated || self.turns_of_code > this.ended_in {
            // The code under test ended the member in this turn, and may have reaped it in this turn, too, or
            // not yet: when a child is dropped, tokio tries to reap it once. So the timeline has the reap in
            // the next turn in either case.
            self.reap(member);
        }
    }

    /// Whether a member has ended in this turn of the code under test, and is not reaped yet.
    pub(crate) fn has_just_ended(&self) -> bool {
        let ended_in = |member: &usize| self.members[*member].ended_in;
        self.zombies
            .iter()
            .any(|member| ended_in(member) == self.turns_of_code)
    }

    /// How a dead member ended. `None` if somebody will still say it; `None` inside if nobody ever will.
    ///
    /// In virtual time the answer never depends on who is asked first. The kernel says it of a child of this
    /// process, and since Linux 6.15 of every process. Otherwise the member's parent says it, if that is an
    /// agent that lives. On a real clock the kernel is always asked.
    fn status_of(&self, member: usize) -> Option<Option<ExitStatus>> {
        let this = &self.members[member];
        let by_kernel = if this.is_child || kernel_keeps_statuses() || !self.is_virtual {
            this.status_by_kernel()
        } else {
            None
        };
        let told = this
            .told_status
            .map(|status| status.and_then(status_of_wait));
        match by_kernel {
            Some(status) => Some(Some(status)),
            None if told.is_some() => told,
            None if self.has_teller(this) => None,
            None => Some(None),
        }
    }

    /// Whether the member's parent is an agent that lives, and so will say how the member ended.
    fn has_teller(&self, member: &Member) -> bool {
        let starter = member.starter.map(|starter| &self.members[starter]);
        starter.is_some_and(|starter| starter.is_alive() && starter.own_pid == member.own_parent)
    }

    /// Whether the member is dead, but nobody has said yet how it ended.
    pub(crate) fn is_dying(&self, member: usize) -> bool {
        self.dying.contains(&member)
    }

    /// Takes in what is still in the socket of a dead member.
    fn hear_last_words(&mut self, member: usize) {
        let Some((&place, _)) = self.places.iter().find(|(_, m)| **m == member) else {
            return;
        };
        self.receive(place);
        // A descendant may hold the connection open, but nobody talks on it.
        if self.places.remove(&place).is_some()
            && let Some(connection) = &mut self.members[member].connection
        {
            // This fails only if epoll has it no more.
            let _ = self.epoll.delete(connection.as_fd());
            connection.close();
        }
    }

    fn end(&mut self, member: usize, status: Option<ExitStatus>) {
        self.members[member].ended = Some(status);
        self.members[member].ended_in = self.turns_of_code;
        self.turns.forget(member);
        self.alive.remove(&member);
        self.dying.remove(&member);
        self.zombies.insert(member);
        self.lives += 1;
        self.count_end();
        if let Some((stream, bytes)) = self.members[member].last_write(status) {
            self.record_of(member, EventKind::Wrote { stream, bytes });
        }
        self.record_of(member, EventKind::Exit { status });
    }

    pub(super) fn reap(&mut self, member: usize) {
        self.zombies.remove(&member);
        self.progress += 1;
        self.lives += 1;
        let this = &mut self.members[member];
        this.reaped = true;
        if let Some(pidfd) = &this.pidfd {
            // This fails only if epoll has it no more.
            let _ = self.epoll.delete(pidfd);
        }
        this.close();
        // The timeline has no reap of a descendant, since its parent reaps it when it pleases, and none of an
        // orphan, since init does.
        let parent = std::mem::replace(&mut this.parent, Parent::This);
        if !this.is_descendant && parent.has_reaped(&self.readers) {
            self.record_of(member, EventKind::Reap);
        }
    }
}
