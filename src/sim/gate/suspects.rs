//! Whom the gate looks at: those that may have been woken, or started, since its last look.

/// Which agents may have been signalled since they said that they rest.
#[derive(Clone, Copy)]
pub(super) enum Suspects {
    All,
    /// The one that acts, by its place: nobody else is at work.
    One(usize),
    Nobody,
}

/// What is looked at besides the agents.
#[derive(Clone, Copy)]
pub(super) enum Beside {
    /// All threads and processes.
    All,
    /// Threads and processes that were not there at the last look. This will do after a turn of the body: the others
    /// are looked at when tokio comes to rest.
    New,
    /// Nothing: everything was looked at, and since then nobody but agents was there to start anything.
    Nothing,
}
