//! What a subject's services inherit.

/// Whose process group a service is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnGroup {
    /// It leads a process group of its own.
    Group,
    /// It leads a session of its own.
    Session,
    /// It stays in the subject's process group.
    None,
}

/// How a subject treats a process that starts another process and exits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Daemonizer {
    /// As a service that has exited.
    Exit,
    /// As a service that goes on in the other process.
    Tracked,
}

/// What the environment of a service is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Environment {
    /// The subject's own environment, and the entries that the service declares.
    Inherited,
    /// The entries that the service declares, and at most a few entries that the subject adds.
    Cleared,
}

/// What a subject's services inherit.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ChildProfile {
    /// Whose process group a service is in.
    pub own_group: Option<OwnGroup>,
    /// How the subject treats a process that starts another process and exits.
    pub daemonizer: Option<Daemonizer>,
    /// Whether a child starts with no signal blocked.
    pub clears_mask: bool,
    /// Whether a child starts with no signal ignored.
    pub resets_dispositions: bool,
    /// The descriptors that a child has besides its standard streams, if it has no others. `None`
    /// promises nothing.
    pub descriptors: Option<Vec<u32>>,
    /// What the environment of a child is.
    pub environment: Option<Environment>,
    /// Whether the service can choose its working directory.
    pub current_dir: bool,
    /// Whether the service can choose a file for its output.
    pub output: bool,
}
