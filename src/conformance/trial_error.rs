//! Why a case was not played to its end.

/// Why a case was not played to its end. The rule judges what was seen until then all the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TrialError(pub(super) String);

impl TrialError {
    /// Makes a halt because the harness itself could not do its part: `what` failed with `error`.
    pub(super) fn of(what: &str, error: &std::io::Error) -> TrialError {
        TrialError(format!("{what}: {error}"))
    }
}
