//! Which process a subject is, and what happens when it is killed.

/// What happens to a service whose supervisor is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CrashFate {
    /// The service dies, too.
    Dies,
    /// The service goes on.
    Survives,
}

/// Which process a subject is, and what happens when it is killed.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ProcessProfile {
    /// Whether the subject runs in the process of the test. Then the harness can count the
    /// descriptors that the subject holds, and can make the subject's system calls fail.
    pub in_test: bool,
    /// Whether the subject can run as a process of its own, which the harness can kill:
    /// [`Subject::start_apart`](crate::conformance::Subject::start_apart).
    pub of_its_own: bool,
    /// What happens to the service when the subject is killed.
    pub crash_fate: Option<CrashFate>,
    /// Whether a second supervisor of the same service is refused. Two supervisors have the same
    /// service if they have the same [`Service::state`](crate::rules::Service::state).
    pub refuses_second: bool,
    /// Whether a new supervisor never starts a second copy of a run that a killed supervisor has
    /// left. Instead the new supervisor does one of these:
    ///
    /// - It adopts the run.
    /// - It waits for the end of the run.
    /// - It kills the run.
    /// - It refuses to begin because of the run.
    pub no_duplicates: bool,
    /// Whether the subject, as a process of its own, is a subreaper and reaps the orphans that come
    /// to it.
    pub adopts_orphans: bool,
}
