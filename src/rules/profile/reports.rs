//! What a subject says by itself.

/// What a subject says by itself.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct ReportProfile {
    /// Whether the subject reports how its service ended: [`Notice::Ended`](crate::rules::Notice::Ended).
    pub ends: bool,
    /// Whether the subject reports when its service is up: [`Notice::Up`](crate::rules::Notice::Up).
    pub up: bool,
    /// Whether the subject reports that a start failed:
    /// [`Notice::StartFailed`](crate::rules::Notice::StartFailed).
    pub start_failures: bool,
    /// Whether [`Session::outcome`](crate::conformance::Session::outcome) says how the subject came
    /// to rest.
    pub rest: bool,
    /// Whether a subject that gives up says how the last run ended and how many restarts there
    /// were.
    pub give_up_cause: bool,
}
