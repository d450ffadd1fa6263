//! Whether the agents are at rest: whether each of them waits, and whether what said that it rests still does.

use std::time::Instant;

use super::limits::{PATIENCE, SOON};
use super::suspects::Suspects;
use crate::sim::agent::{KernelState, Member, Server};
use crate::sim::children;

/// Whether an agent is at work, or about to say hello.
pub(super) fn agents_are_at_work(server: &mut Server) -> bool {
    if server.expects_hello() {
        return true;
    }
    let is_at_rest = |(place, member): (usize, &Member)| {
        member.says_it_rests()
            || !member.said_hello
            || server.is_dying(place)
            || member.kernel_state() == KernelState::Stopped
    };
    !server.alive().all(is_at_rest)
}

/// Whether something that said that it rests is asleep, now or very soon.
pub(super) fn comes_to_rest(is_awake: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while is_awake() {
        if begun.elapsed() > SOON {
            return false;
        }
        std::thread::yield_now();
    }
    true
}

pub(super) fn is_awake(pid: u32) -> bool {
    let state = children::state(&format!("/proc/{pid}"));
    !matches!(state, None | Some('S' | 'T' | 't' | 'Z' | 'X' | '?'))
}

/// Makes those agents look that wait for a file. Returns true if one has found its file.
pub(super) fn ask_watchers(server: &mut Server) -> bool {
    let watches = |(member, process): (usize, &Member)| {
        (process.is_watching && process.says_it_rests()).then_some(member)
    };
    let watchers: Vec<usize> = server.alive().filter_map(watches).collect();
    for &watcher in &watchers {
        server.ping(watcher);
    }
    await_pongs(server, &watchers);
    let is_watching = |&watcher: &usize| server.members[watcher].is_watching;
    !watchers.iter().all(is_watching)
}

/// Whether every process that said that it rests still rests: a signal may have come since.
pub(super) fn barrier(server: &mut Server, suspects: Suspects) -> bool {
    let mut unknown = Vec::new();
    for (member, process) in server.alive() {
        match suspects {
            Suspects::All => {}
            Suspects::One(one) if one == member => {}
            Suspects::One(_) => continue,
            Suspects::Nobody => break,
        }
        match process.kernel_state() {
            // kill(2) wakes its target before it returns. But a process that is woken on its way to sleep shows that
            // it sleeps, until it notices: for long, if it loses its processor there.
            KernelState::Sleeping if !process.is_off_its_processor() => return false,
            KernelState::Sleeping | KernelState::Stopped => {}
            KernelState::Running if server.is_dying(member) => {}
            KernelState::Running => {
                let is_running = || process.kernel_state() == KernelState::Running;
                if process.death().is_some() || !comes_to_rest(is_running) {
                    return false;
                }
            }
            KernelState::Unknown => unknown.push(member),
        }
    }
    // Without /proc, each of these must answer, and say nothing else.
    for &member in &unknown {
        server.ping(member);
    }
    await_pongs(server, &unknown)
        && server.alive().all(|(place, member)| {
            member.says_it_rests()
                || !member.said_hello
                || server.is_dying(place)
                || member.kernel_state() == KernelState::Stopped
        })
}

/// Waits until all have answered. Returns false if one says something else, or one says nothing for long.
fn await_pongs(server: &mut Server, members: &[usize]) -> bool {
    let deadline = Instant::now() + PATIENCE * 500;
    let before = server.progress;
    while members
        .iter()
        .any(|&member| server.members[member].awaits_pong())
    {
        server.pump(PATIENCE);
        if server.progress != before || Instant::now() > deadline {
            return false;
        }
    }
    true
}
