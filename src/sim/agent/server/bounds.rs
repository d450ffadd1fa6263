//! The limits of the server: who may connect, how much a process may say, and when the server closes.

use std::collections::BTreeSet;
use std::os::unix::net::UnixStream;

use agent_stub::protocol::{MessageError, Report};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::spoken::Spent;
use super::state::Server;
use crate::sim::agent::member::Member;

/// How many lines one connection may say at one instant. On a real clock: within one second.
const LINES: usize = 100_000;

/// How many lines at one instant are much. The watchdog ends the sim if somebody says so many, and nothing
/// else happens for as long as the watchdog waits.
const TALK: usize = 1_000;

/// How many lines one statement may take: it asks for its turn, it is begun, it is done, and it, or what
/// comes after it, rests.
const FOR_A_STATEMENT: u64 = 5;

/// How many bytes one connection may say at one instant. On a real clock: within one second.
const BYTES: u64 = 16 << 20;

/// How long an instant counts on a real clock, where each look has an instant of its own.
const REAL_INSTANT: std::time::Duration = std::time::Duration::from_secs(1);

/// How many descriptors everything else in this process may need.
const ROOM: u64 = 256;

/// How many processes may end at one instant of virtual time. Code that starts one process after the other
/// without a delay would never let time pass.
const ENDS: u64 = 5_000;

/// How many of the refused processes are named.
const NAMED: usize = 16;

impl Server {
    /// Counts the end of a process, of an agent or of another.
    pub(super) fn count_end(&mut self) {
        self.ends += 1;
        let (at, count) = &mut self.spoken.ends;
        if *at != self.now {
            (*at, *count) = (self.now, 0);
        }
        *count += 1;
        if self.is_virtual && *count > ENDS {
            let text = format!(
                "{ENDS} processes have ended at {}, and time has not passed: the code under test starts one after the \
                 other without a delay",
                self.now
            );
            self.spoken.excess.get_or_insert(text);
        }
    }

    /// Who has said more than there is room for, or what there was too much of, and what was done about it.
    /// `None` if no limit was exceeded.
    pub(crate) fn excess(&self) -> Option<&str> {
        self.spoken.excess.as_deref()
    }

    /// The text about the member that has said most at this instant, if that is very much and the member
    /// still lives.
    pub(crate) fn talker(&self) -> Option<String> {
        let spoken = self.spoken.members.iter();
        let (&member, spent) = spoken.max_by_key(|(_, spent)| spent.lines)?;
        let this = &self.members[member];
        (spent.lines > TALK && spent.since == self.now && this.is_alive()).then(|| {
            format!(
                "{} does not stop talking: it has said {} lines at {}, and time waits for it; {}",
                this.who,
                spent.lines,
                self.now,
                this.said()
            )
        })
    }

    /// Counts what a member has said. A member that does not stop is cut off and killed: it would take all
    /// memory, and time would never pass.
    pub(super) fn spend(
        &mut self,
        member: usize,
        messages: &mut Vec<Result<Report, MessageError>>,
    ) {
        let now = self.now;
        let Member {
            connection: Some(connection),
            statements,
            ..
        } = &mut self.members[member]
        else {
            return;
        };
        let statements = *statements;
        let heard = connection.heard;
        let first = Spent {
            since: now,
            lines: 0,
            before: heard,
        };
        // A script of known length comes to an end, so what it says is more than talk.
        let lines = self.spoken.lines.entry(member).or_default();
        *lines += messages.len() as u64;
        if statements <= LINES as u64 && *lines <= statements * FOR_A_STATEMENT {
            self.lives += 1;
        }
        let spent = self.spoken.members.entry(member).or_insert(first);
        let is_over = match self.is_virtual {
            true => spent.since != now,
            false => now.since_origin() > spent.since.since_origin() + REAL_INSTANT,
        };
        if is_over {
            *spent = first;
        }
        spent.lines += messages.len();
        let bytes = heard - spent.before;
        if spent.lines <= LINES && bytes <= BYTES {
            return;
        }
        messages.clear();
        connection.close();
        let (who, said) = (&self.members[member].who, self.members[member].said());
        self.spoken.excess = Some(format!(
            "{who} does not stop talking: it has said {} lines, {bytes} bytes, at {now}, and time waits for it; \
             {said}\n  its connection was closed, and it was killed",
            spent.lines
        ));
        self.members[member].kill();
    }

    /// Why a connection is refused, and the process id of its peer. `None` if it may stay. It may stay if its
    /// process is of this user, or is a descendant of this process, which may have become another user's.
    pub(super) fn refusal(&self, socket: &UnixStream) -> Option<(u32, String)> {
        let Ok(peer) = getsockopt(socket, PeerCredentials) else {
            return Some((
                0,
                "a process whose user the kernel does not tell".to_owned(),
            ));
        };
        // SAFETY: neither call has arguments, or can fail.
        let own = unsafe { [libc::geteuid(), libc::getuid()] };
        let pid = u32::try_from(peer.pid()).unwrap_or(0);
        if own.contains(&peer.uid()) || descends_from_this(pid) {
            return None;
        }
        let program = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let text = format!(
            "process {pid} {} of user {}",
            program.trim_end(),
            peer.uid()
        );
        Some((pid, text))
    }

    /// Whether a connection of the process with this number was refused.
    pub(crate) fn has_refused(&self, pid: u32) -> bool {
        self.spoken.refused.contains(&pid)
    }

    /// Says on standard error whose connection was refused: once for each process, and only for the first
    /// `NAMED`. The timeline does not have it: it is no doing of the code under test.
    pub(super) fn name_refused(&mut self, pid: u32, what: &str) {
        let refused = &mut self.spoken.refused;
        if refused.insert(pid) && refused.len() <= NAMED {
            crate::said::say(&format!(
                "supervise-harness: the connection of a stranger to the sim was refused: {what}, which is \
                 neither this process's user nor its descendant"
            ));
        }
    }

    /// Remembers that there are no descriptors left.
    pub(super) fn note_lack(&mut self) {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let alive = self.alive.len() as u64;
        self.spoken.lack = Some((limit, alive));
    }

    /// If there were too few descriptors: the text that says how many would do.
    pub(crate) fn lack(&self) -> Option<String> {
        let (limit, alive) = self.spoken.lack?;
        let agents = (self.agents.len() as u64).max(alive + 1);
        // What the agents that have begun hold is known. Each of the others takes two descriptors here, and
        // up to three for pipes of the code under test.
        let enough = limit + 5 * (agents - alive);
        let enough = (enough + ROOM).next_multiple_of(ROOM);
        Some(format!(
            "this process had no descriptor left for its agents: its limit on open files is {limit}, and {agents} \
             agents need about {enough}: run it under `ulimit -n {enough}`"
        ))
    }

    /// Whether an agent waits that cannot be let in, because no descriptor is left.
    pub(crate) fn is_short(&self) -> bool {
        self.spoken.lack.is_some() && self.is_accept_refused()
    }

    /// Lets nobody in any more. A process that connects from now on is refused at once, and an agent then
    /// ends.
    pub(crate) fn refuse_all(&mut self) {
        if let Some(listener) = self.listener.take() {
            // The socket is closed with its last descriptor. A child that another thread has forked may hold
            // one until it calls exec.
            let _ = self.epoll.delete(&listener);
        }
        self.strangers.clear();
    }

    /// Closes everything, since the sim is over. An `Agent` that somebody keeps then holds no descriptor of
    /// the server open. A process that is started with it later does not wait for an answer.
    pub(crate) fn close_down(&mut self) {
        self.refuse_all();
        for member in &mut self.members {
            member.close();
        }
        self.places.clear();
    }
}

/// Whether a process is this one or descends from it, by the parents that /proc tells.
fn descends_from_this(pid: u32) -> bool {
    let own = std::process::id();
    let (mut pid, mut seen) = (pid, BTreeSet::new());
    while pid > 1 && seen.insert(pid) {
        if pid == own {
            return true;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in parentheses come the state and the parent.
        let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
        let parent = rest.split(' ').nth(1);
        pid = parent.and_then(|parent| parent.parse().ok()).unwrap_or(0);
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timeline::TimelineClock;

    #[test]
    fn so_many_ends_at_one_instant_are_too_many() {
        let mut server = Server::new(TimelineClock::Virtual).unwrap();
        for _ in 0..2 {
            (0..ENDS).for_each(|_| server.count_end());
            assert_eq!(server.excess(), None);
            server.now += std::time::Duration::from_secs(1);
        }
        (0..=ENDS).for_each(|_| server.count_end());
        let expected = "5000 processes have ended at 2.000s, and time has not passed: the code under test starts one \
                        after the other without a delay";
        assert_eq!(server.excess(), Some(expected));
    }

    #[test]
    fn a_child_descends_from_this_process_and_init_does_not() {
        let mut command = std::process::Command::new("/bin/sleep");
        let mut child = command.arg("1000").spawn().unwrap();
        assert!(descends_from_this(child.id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!descends_from_this(child.id()));
        for pid in [0, 1, std::os::unix::process::parent_id()] {
            assert!(!descends_from_this(pid), "{pid}");
        }
    }
}
