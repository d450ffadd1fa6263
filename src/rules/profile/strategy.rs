//! Whether a subject lends its backoff strategy.

/// What [`Subject::strategy`](crate::conformance::Subject::strategy) returns.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StrategyProfile {
    /// No strategy.
    Kept {
        /// Why not, for the reader of a report.
        why: String,
    },
    /// The subject's backoff strategy.
    Lent {
        /// Whether it draws from the seed that it is given.
        is_seedable: bool,
    },
}

impl StrategyProfile {
    /// Whether there is a strategy.
    #[must_use]
    pub fn is_lent(&self) -> bool {
        matches!(self, StrategyProfile::Lent { .. })
    }

    /// Whether there is a strategy that draws from the seed that it is given.
    #[must_use]
    pub fn is_seedable(&self) -> bool {
        matches!(self, StrategyProfile::Lent { is_seedable: true })
    }
}

impl Default for StrategyProfile {
    fn default() -> StrategyProfile {
        StrategyProfile::Kept {
            why: "its profile declares no strategy".to_owned(),
        }
    }
}
