//! The processes that are no members: those that have connected, that are expected, or that have died as strangers.

use std::io;

use super::expected::Expected;
use super::state::Server;
use super::stranger::Stranger;

impl Server {
    /// Whether any child has ended before it said hello, reaped or not.
    pub(crate) fn has_dead_strangers(&self) -> bool {
        !self.dead_strangers.is_empty()
    }

    /// Whether a descendant was started that has still to say hello.
    pub(crate) fn expects_hello(&mut self) -> bool {
        self.expected.retain(Expected::is_alive);
        let has_said_it = |expected: &Expected| {
            let lineages = self.strangers.values().filter_map(Stranger::lineage);
            let starter = self.members[expected.starter].own_pid;
            let mut lineages = lineages.map(|lineage| (lineage.starter, lineage.nth));
            lineages.any(|lineage| lineage == (starter, expected.nth))
        };
        !self.expected.iter().all(has_said_it)
    }

    /// The process ids of those that have said hello and wait to be taken in; 0 for one that cannot be seen
    /// from here.
    pub(crate) fn hellos(&self) -> impl Iterator<Item = u32> {
        let strangers = self.strangers.values();
        let said = strangers.filter(|stranger| stranger.hello.is_some());
        said.map(|stranger| stranger.pid.unwrap_or(0))
    }

    /// Whether the process with this number has said hello and waits to be taken in.
    pub(crate) fn has_said_hello(&self, pid: u32) -> bool {
        let strangers = self.strangers.values();
        let mut said = strangers.filter(|stranger| stranger.hello.is_some());
        said.any(|stranger| stranger.pid == Some(pid))
    }

    /// The processes that have connected and have not said hello; 0 for one that cannot be seen from here.
    /// Stopped processes are left out: they cannot say anything.
    pub(crate) fn silent_strangers(&self) -> Vec<u32> {
        let strangers = self.strangers.values();
        let silent = strangers.filter(|stranger| stranger.hello.is_none());
        let silent = silent.filter(|stranger| !stranger.pid.is_some_and(is_stopped));
        silent.map(|stranger| stranger.pid.unwrap_or(0)).collect()
    }

    /// The names of the programs at the connections that have not said hello.
    pub(crate) fn strangers(&self) -> impl Iterator<Item = String> {
        let strangers = self.strangers.values();
        strangers
            .filter(|stranger| stranger.hello.is_none())
            .map(|stranger| {
                let Some(pid) = stranger.pid else {
                    return "a process that cannot be seen from here".to_owned();
                };
                match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
                    Ok(name) => name.trim_end().to_owned(),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        "a process that is gone".to_owned()
                    }
                    Err(error) => format!("process {pid}, whose name cannot be read: {error}"),
                }
            })
    }
}

/// Whether a process is stopped, by the third field of its /proc/PID/stat (proc(5)).
fn is_stopped(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(") ").next();
    state.is_some_and(|state| state.starts_with('T'))
}
