//! The end of a sim: every process of it is ended and reaped, and what should not have been there is
//! named.

use std::collections::HashSet;
use std::io;
use std::time::Duration;

use super::children::Children;
use super::pool::Pool;
use crate::agent::{Server, Shared};
use crate::leaks;

/// The children that this thread had before the sim.
pub(crate) fn children_before() -> io::Result<HashSet<u32>> {
    let children = Children::of_this_thread().list().map_err(|error| {
        let path = format!("/proc/self/task/{}/children", nix::unistd::gettid());
        let text = format!("the children of this thread cannot be listed: {path}: {error}");
        io::Error::new(error.kind(), text)
    })?;
    Ok(children.into_iter().collect())
}

/// Ends every process of the sim and reaps those that are children of this one. Returns what was
/// left behind, a line each.
pub(crate) fn end_all(
    shared: &Shared,
    before: &HashSet<u32>,
    pool: &Pool,
    saw_foreign: bool,
) -> Vec<String> {
    let mut server = shared.lock();
    server.pump(Duration::ZERO);
    let found = leaks::children_of(nix::unistd::gettid()).and_then(|mut roots| {
        roots.retain(|child| !before.contains(&child.pid));
        roots.extend(pool.children());
        let roots = Vec::from_iter(roots);
        // What nobody can have left behind need not be looked for among all processes of the machine.
        if roots.is_empty() && !saw_foreign && !server.has_left() {
            return Ok(Vec::new());
        }
        leaks::end_processes_of(&[server.address().to_owned()], &roots)
    });
    match found {
        Ok(found) => found
            .into_iter()
            .map(|found| named(&server, &found))
            .collect(),
        Err(unreadable) => {
            // Those are known without a look.
            server.alive().for_each(|(_, member)| member.kill());
            vec![format!("what is left behind cannot be told: {unreadable}")]
        }
    }
}

/// Ends and reaps every process of a sim whose thread does not come back. It had no children before.
#[cfg(feature = "properties")]
pub(crate) fn end_without(shared: &Shared, thread: nix::unistd::Pid) {
    let address = shared.lock().address().to_owned();
    let roots = leaks::children_of(thread).map(Vec::from_iter);
    // Where /proc cannot be read nothing can be done, and the thread is lost in any case.
    let _ = leaks::end_processes_of(&[address], &roots.unwrap_or_default());
    super::children::leave(thread);
}

/// A line that says which run it is, where it is one.
fn named(server: &Server, found: &leaks::Found) -> String {
    match server.member_of(found.pid) {
        Some(member) => format!("{}: {found}", member.who),
        None => found.to_string(),
    }
}
