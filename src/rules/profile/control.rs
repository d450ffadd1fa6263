//! What a subject can be told while it runs.

/// What a start on request does while a restart is in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhenRestarting {
    /// The start is carried out after the restart, or together with it.
    Queued,
    /// The start fails with an error.
    Rejected,
}

/// What a subject can be told while it runs.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ControlProfile {
    /// Whether the subject can be told to restart a service.
    pub restart: bool,
    /// Whether the subject can be told to start a service that is down.
    pub start: bool,
    /// Whether the subject can be told to forget what it has counted.
    pub reset: bool,
    /// What a start on request does while a restart is in progress.
    pub when_restarting: Option<WhenRestarting>,
    /// Whether the subject refuses settings that make no sense when it is given them.
    pub rejects_bad_settings: bool,
}
