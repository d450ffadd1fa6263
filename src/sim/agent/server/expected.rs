//! A descendant that the server waits for.

/// A descendant that was started and has not said hello.
#[derive(Debug)]
pub(super) struct Expected {
    /// The member that started it. `nth` says for which time that member started a descendant, from 1.
    pub(super) starter: usize,
    pub(super) nth: u32,
    /// `None` after a double fork, whose middle process is gone.
    pub(super) pid: Option<u32>,
}

impl Expected {
    /// Whether this descendant can still say hello. No other process can get its process id before its parent
    /// reaps it, and the parent reports when it has.
    pub(super) fn is_alive(&self) -> bool {
        let Some(pid) = self.pid else { return true };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| !rest.is_empty() && !rest.starts_with(" Z"))
    }
}
