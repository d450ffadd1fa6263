//! What bounds the server: who gets in, how much one may say, and when it is over.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::net::UnixStream;

use agent_stub::protocol::{MessageError, Report};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;

use super::Server;
use crate::Timestamp;
use crate::agent::member::Member;
use crate::timeline::{Timeline, Who};

/// How many lines one connection may say at one instant. On a real clock: within a second.
const LINES: usize = 100_000;

/// How many of them are much, where nothing else happens for as long as the watchdog waits.
const TALK: usize = 1_000;

/// How many a statement may take: it asks for its turn, is begun, is done, and it or what comes after it rests.
const FOR_A_STATEMENT: u64 = 5;

/// How many bytes.
const BYTES: u64 = 16 << 20;

/// On a real clock, where each look has an instant of its own.
const REAL_INSTANT: std::time::Duration = std::time::Duration::from_secs(1);

/// How many descriptors whatever else is open may need.
const ROOM: u64 = 256;

/// How many processes may end at one instant of virtual time. Code that starts one after the other without a delay
/// would never let time pass.
const ENDS: u64 = 5_000;

/// How many of those that were refused are named.
const NAMED: usize = 16;

/// What each connection has said, and who was refused.
#[derive(Debug, Default)]
pub(super) struct Spoken {
    /// By member.
    members: HashMap<usize, Spent>,
    /// How many lines each member has said.
    lines: HashMap<usize, u64>,
    /// Who has said more than there is room for.
    excess: Option<String>,
    /// How many processes have ended at which instant.
    ends: (Timestamp, u64),
    /// Processes that were refused. Only the first are named.
    refused: BTreeSet<u32>,
    /// How many descriptors this process may have, and how many agents lived, when there were no more.
    lack: Option<(u64, u64)>,
}

/// What a connection has said at one instant.
#[derive(Clone, Copy, Debug)]
struct Spent {
    since: Timestamp,
    lines: usize,
    /// How many bytes it had said before.
    before: u64,
}

impl Server {
    /// What was recorded so far.
    pub(crate) fn timeline(&self) -> Timeline {
        let names = self.agents.iter().map(|agent| agent.name.clone());
        self.recorder.timeline().with_names(names)
    }

    /// Whose wait the clock ends next.
    pub(crate) fn next_waiter(&self) -> Option<&Who> {
        Some(&self.members.get(self.turns.first()?)?.who)
    }

    /// A process has ended, an agent or another.
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

    /// Who has said more than there is room for, or what there was too much of, and what was done about that.
    pub(crate) fn excess(&self) -> Option<&str> {
        self.spoken.excess.as_deref()
    }

    /// Who has said very much at this instant, and is at it still.
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

    /// Counts what a member has said. One that does not stop is not heard any more: it would take all
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
        // What gets to an end that is known is more than talk.
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

    /// Why a connection is refused; None where it may stay: that of a process of this user, or of a
    /// descendant of this process, which may have become another's.
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

    /// Whether it was refused.
    pub(crate) fn has_refused(&self, pid: u32) -> bool {
        self.spoken.refused.contains(&pid)
    }

    /// Says, once for each process, whose connection was refused. Not in the timeline: it is no doing of
    /// the code under test.
    pub(super) fn name_refused(&mut self, pid: u32, what: &str) {
        let refused = &mut self.spoken.refused;
        if refused.insert(pid) && refused.len() <= NAMED {
            crate::said::say(&format!(
                "supervise-harness: the connection of a stranger to the sim was refused: {what}, which is \
                 neither this process's user nor its descendant"
            ));
        }
    }

    /// There are no descriptors left.
    pub(super) fn note_lack(&mut self) {
        let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(soft, _)| soft);
        let alive = self.alive.len() as u64;
        self.spoken.lack = Some((limit, alive));
    }

    /// Where there were too few descriptors: what would do.
    pub(crate) fn lack(&self) -> Option<String> {
        let (limit, alive) = self.spoken.lack?;
        let agents = (self.agents.len() as u64).max(alive + 1);
        // What those hold that have begun is known; each of the others takes two here, and up to three pipes of
        // the code under test.
        let enough = limit + 5 * (agents - alive);
        let enough = (enough + ROOM).next_multiple_of(ROOM);
        Some(format!(
            "this process had no descriptor left for its agents: its limit on open files is {limit}, and {agents} \
             agents need about {enough}: run it under `ulimit -n {enough}`"
        ))
    }

    /// Whether an agent waits that cannot be let in, for want of a descriptor.
    pub(crate) fn is_short(&self) -> bool {
        self.spoken.lack.is_some() && self.is_accept_refused()
    }

    /// Nobody is let in any more: whoever connects is told so at once, and an agent ends.
    pub(crate) fn refuse_all(&mut self) {
        if let Some(listener) = self.listener.take() {
            // It is closed with its last descriptor, of which a fork may hold one until its exec.
            let _ = self.epoll.delete(&listener);
        }
        self.strangers.clear();
    }

    /// The sim is over: an `Agent` that somebody keeps holds none of its descriptors open, and nothing
    /// that it starts waits for an answer.
    pub(crate) fn close_down(&mut self) {
        self.refuse_all();
        for member in &mut self.members {
            member.close();
        }
        self.places.clear();
    }
}

/// Whether a process is below this one, by the parents that /proc tells.
fn descends_from_this(pid: u32) -> bool {
    let own = std::process::id();
    let (mut pid, mut seen) = (pid, BTreeSet::new());
    while pid > 1 && seen.insert(pid) {
        if pid == own {
            return true;
        }
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // After the name in parentheses: the state, and the parent.
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
