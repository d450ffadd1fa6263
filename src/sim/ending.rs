//! The end of a sim: it ends and reaps every process of the sim, and names the processes that should not have been
//! there.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::unistd::{Pid, gettid};

use super::children::{self, Children};
use super::foreign;
use super::mark::Mark;
use super::pool::Pool;
use crate::leaks::{self, Found, Owner, Unreadable};
use crate::pidfd;
use crate::sim::agent::{Member, Server, Shared};

/// real-time: how long a killed process may take to end.
const DYING: Duration = Duration::from_secs(1);

/// How many descriptors the end of a sim needs to look at the processes, one after the other, and to end them.
const SPARE: usize = 4;

/// The children that this thread had before the sim.
pub(crate) fn children_before() -> io::Result<HashSet<u32>> {
    let children = Children::of_this_thread().list().map_err(|error| {
        let path = format!("/proc/self/task/{}/children", gettid());
        let text = format!("the children of this thread cannot be listed: {path}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    Ok(children.into_iter().collect())
}

/// The sim's children on this thread that nothing has ended yet. If the body has panicked, also those that only the
/// unwinding of the body has ended.
pub(crate) fn children_alive(
    server: &Server,
    before: &HashSet<u32>,
    has_panicked: bool,
) -> Vec<u32> {
    // If they cannot be listed, the end of the sim says so.
    let mut alive = Children::of_this_thread().list().unwrap_or_default();
    let has_ended = |pid: &u32| match has_panicked {
        // As it was when everything was last at rest.
        true => server.had_ended(*pid),
        false => foreign::has_ended(*pid),
    };
    alive.retain(|pid| !before.contains(pid) && !has_ended(pid));
    alive
}

/// Reaps those of `alive` that were killed since. The drop of a task kills a child with `kill_on_drop`, and so does the
/// unwinding of a panicked body. Such a drop leaves the reaping to the next event of a runtime, which never comes.
pub(crate) fn reap_killed(alive: &[u32]) {
    for &pid in alive.iter().filter(|pid| foreign::comes_to_end(**pid)) {
        let Ok(pidfd) = pidfd::open_pidfd(pid) else {
            continue;
        };
        // The process was killed, so it ends. If it does not, it shows among what is left behind.
        let _ = pidfd::ends_within(pidfd.as_fd(), DYING);
        pidfd::reap_zombie(pidfd.as_fd());
    }
}

/// Descriptors that are kept for the end of the sim. The code under test may use up all others.
#[derive(Debug)]
pub(crate) struct Spare(Vec<OwnedFd>);

impl Spare {
    /// Keeps as many as this process can have, up to `SPARE`.
    pub(crate) fn of(descriptor: BorrowedFd<'_>) -> Spare {
        let copies = (0..SPARE).map_while(|_| descriptor.try_clone_to_owned().ok());
        Spare(copies.collect())
    }
}

/// Ends every process of the sim, and reaps those that are children of this process. Returns what was left behind, one
/// line each. After that, nobody can connect to the sim any more.
pub(crate) fn end_all(
    shared: &Shared,
    before: &HashSet<u32>,
    pool: &Pool,
    mark: Option<&Mark>,
    saw_foreign: bool,
    Spare(spare): Spare,
) -> Vec<String> {
    let (address, has_left) = {
        let mut server = shared.lock();
        // Done while the spare descriptors are still held: connections that wait would take them.
        server.pump(Duration::ZERO);
        (server.address().to_owned(), server.has_left())
    };
    drop(spare);
    let found = roots(gettid(), before, pool).and_then(|mut roots| {
        // Always done: the gate never saw a process that began and lost its parents between two looks.
        if let Some(mark) = mark {
            let is_ours = |one: &leaks::Identity| {
                !matches!(children::is_for_another_sim(one.pid, &address), Ok(true))
            };
            roots.extend(mark.processes()?.into_iter().filter(is_ours));
        }
        // If nobody can have left anything behind, there is no need to look at all processes of the machine.
        if roots.is_empty() && !saw_foreign && !has_left {
            return Ok(Vec::new());
        }
        leaks::end_processes_of(&[address], &roots)
    });
    let mut server = shared.lock();
    let lines = match found {
        Ok(mut found) => {
            // The order of the process ids depends on who was faster. So the agents come first, in their order, and
            // then the others.
            found.sort_by_key(|found| {
                let rank = server.member_of(found.pid).map(Member::rank);
                (rank.is_none(), rank)
            });
            found
                .into_iter()
                .map(|found| named(&server, found))
                .collect()
        }
        Err(unreadable) => {
            end_known(&server);
            vec![format!("what is left behind cannot be told: {unreadable}")]
        }
    };
    // Takes in what became of the processes, for whoever still asks.
    server.pump(Duration::ZERO);
    server.close_down();
    lines
}

/// The children of this process that belong to the sim. Their arguments alone need not say so, as those of agents do.
fn roots(
    thread: Pid,
    before: &HashSet<u32>,
    pool: &Pool,
) -> Result<Vec<leaks::Identity>, Unreadable> {
    let mut roots = leaks::children_of(thread)?;
    roots.retain(|child| !before.contains(&child.pid));
    roots.extend(pool.children());
    Ok(Vec::from_iter(roots))
}

/// Ends the processes that are known without a look at /proc, and reaps those that are children of this process.
fn end_known(server: &Server) {
    for (_, member) in server.alive() {
        member.kill();
    }
    let known = server.alive().map(|(_, member)| member);
    for member in known.chain(server.zombies()) {
        if pidfd::is_unreaped_child(member.pid) {
            // The process was sent SIGKILL, or has ended, so the wait is short.
            pidfd::await_child(member.pid);
        }
    }
}

/// Ends every process of the sim that has this address and this thread. Any thread may call it.
pub(crate) fn end_by_address(
    address: &str,
    thread: Pid,
    before: &HashSet<u32>,
    pool: &Pool,
) -> Result<Vec<Found>, Unreadable> {
    let roots = roots(thread, before, pool).unwrap_or_default();
    leaks::end_processes_of(&[address.to_owned()], &roots)
}

/// Ends and reaps every process of the sim whose thread is `thread` and does not come back. That thread had no children
/// before the sim.
#[cfg(feature = "conformance")]
pub(crate) fn end_without(shared: &Shared, thread: Pid) {
    let address = shared.lock().address().to_owned();
    // If /proc cannot be read, nothing can be done, and the thread is lost in any case.
    let _ = end_by_address(&address, thread, &HashSet::new(), &Pool::default());
    super::children::leave(thread);
}

/// The line about a process that was left behind. It names the run that the process is, if it is one, and the run that
/// led the process's group, if one did.
fn named(server: &Server, mut found: Found) -> String {
    if let Owner::Ended { of: Some(leader) } = found.owner {
        let is_it = |member: &&Member| !member.reaped || found.leader.is_none();
        if let Some(member) = server.last_of(leader).filter(is_it) {
            found.leader = Some(member.who.to_string());
        }
    }
    match server.member_of(found.pid) {
        Some(member) => format!("{}: {found}", member.who),
        None => found.to_string(),
    }
}
