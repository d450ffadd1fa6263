//! The end of a sim: every process of it is ended and reaped, and what should not have been there is
//! named.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::unistd::{Pid, gettid};

use super::children::{self, Children};
use super::foreign;
use super::mark::Mark;
use super::pool::Pool;
use crate::agent::{Member, Server, Shared};
use crate::leaks::{self, Found, Owner, Unreadable};
use crate::process;

/// real-time: how long what was killed may take to end.
const DYING: Duration = Duration::from_secs(1);

/// How many descriptors a sim's end needs to look at the processes, one after the other, and to end them.
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

/// The sim's children on this thread that nothing has ended yet, or nothing but the unwinding of a panicked body.
pub(crate) fn children_alive(
    server: &Server,
    before: &HashSet<u32>,
    has_panicked: bool,
) -> Vec<u32> {
    // Where they cannot be listed, the end says so.
    let mut alive = Children::of_this_thread().list().unwrap_or_default();
    let has_ended = |pid: &u32| match has_panicked {
        // As it was when all was last at rest.
        true => server.had_ended(*pid),
        false => foreign::has_ended(*pid),
    };
    alive.retain(|pid| !before.contains(pid) && !has_ended(pid));
    alive
}

/// Reaps those of them that were killed since, by the drop of a task that had one with `kill_on_drop`, or of what a
/// panicked body had. It leaves the reaping to the next event of a runtime, and there is none.
pub(crate) fn reap_killed(alive: &[u32]) {
    for &pid in alive.iter().filter(|pid| foreign::comes_to_end(**pid)) {
        let Ok(pidfd) = process::open_pidfd(pid) else {
            continue;
        };
        // It was killed, so it ends; if it does not, it shows among what is left.
        let _ = process::ends_within(pidfd.as_fd(), DYING);
        process::reap_zombie(pidfd.as_fd());
    }
}

/// Descriptors that are kept for the end: the code under test may use all others.
#[derive(Debug)]
pub(crate) struct Spare(Vec<OwnedFd>);

impl Spare {
    /// As many as there are to have.
    pub(crate) fn of(descriptor: BorrowedFd<'_>) -> Spare {
        let copies = (0..SPARE).map_while(|_| descriptor.try_clone_to_owned().ok());
        Spare(copies.collect())
    }
}

/// Ends every process of the sim and reaps those that are children of this one. Returns what was
/// left behind, a line each. Then nobody can connect any more.
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
        // While there is nothing to spare: connections that wait would take it.
        server.pump(Duration::ZERO);
        (server.address().to_owned(), server.has_left())
    };
    drop(spare);
    let found = roots(gettid(), before, pool).and_then(|mut roots| {
        // Always: what began and lost its parents between two looks was never seen.
        if let Some(mark) = mark {
            let is_ours = |one: &leaks::Identity| {
                !matches!(children::is_for_another_sim(one.pid, &address), Ok(true))
            };
            roots.extend(mark.processes()?.into_iter().filter(is_ours));
        }
        // What nobody can have left behind need not be looked for among all processes of the machine.
        if roots.is_empty() && !saw_foreign && !has_left {
            return Ok(Vec::new());
        }
        leaks::end_processes_of(&[address], &roots)
    });
    let mut server = shared.lock();
    let lines = match found {
        Ok(mut found) => {
            // Process ids tell who was faster. Agents in their order, and then what is none.
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
    // What became of them, for whoever still asks.
    server.pump(Duration::ZERO);
    server.close_down();
    lines
}

/// The processes of the sim that are children of this one, and no agents by their arguments alone.
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

/// Ends those that are known without a look at /proc, and reaps those that are children of this process.
fn end_known(server: &Server) {
    for (_, member) in server.alive() {
        member.kill();
    }
    let known = server.alive().map(|(_, member)| member);
    for member in known.chain(server.zombies()) {
        if process::is_unreaped_child(member.pid) {
            // It was sent SIGKILL, or has ended.
            process::await_child(member.pid);
        }
    }
}

/// Ends every process of a sim whose thread is that one, from any thread.
pub(crate) fn end_by_address(
    address: &str,
    thread: Pid,
    before: &HashSet<u32>,
    pool: &Pool,
) -> Result<Vec<Found>, Unreadable> {
    let roots = roots(thread, before, pool).unwrap_or_default();
    leaks::end_processes_of(&[address.to_owned()], &roots)
}

/// Ends and reaps every process of a sim whose thread does not come back. It had no children before.
#[cfg(feature = "properties")]
pub(crate) fn end_without(shared: &Shared, thread: Pid) {
    let address = shared.lock().address().to_owned();
    // Where /proc cannot be read nothing can be done, and the thread is lost in any case.
    let _ = end_by_address(&address, thread, &HashSet::new(), &Pool::default());
    super::children::leave(thread);
}

/// A line that says which run it is, where it is one, and of whose group it is, where that was one.
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
