//! What the end of one child means for the other children of its group.

/// Which children of a group are replaced when one of them is restarted. A child is identified by
/// its place in the order in which the children are started.
///
/// Source: the restart strategies of OTP `supervisor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SiblingStrategy {
    /// Only the restarted child.
    #[default]
    OneForOne,
    /// All children.
    OneForAll,
    /// The restarted child, and the children that are started after it.
    RestForOne,
}

impl SiblingStrategy {
    /// Whether a restart of the child at the place `restarted` replaces the child at `place`.
    ///
    /// ```
    /// use supervise_harness::supervisor::SiblingStrategy;
    ///
    /// let replaced = |strategy: SiblingStrategy| [0, 1, 2].map(|place| strategy.replaces(1, place));
    /// assert_eq!(replaced(SiblingStrategy::OneForOne), [false, true, false]);
    /// assert_eq!(replaced(SiblingStrategy::OneForAll), [true, true, true]);
    /// assert_eq!(replaced(SiblingStrategy::RestForOne), [false, true, true]);
    /// ```
    #[must_use]
    pub fn replaces(self, restarted: usize, place: usize) -> bool {
        match self {
            SiblingStrategy::OneForOne => place == restarted,
            SiblingStrategy::OneForAll => true,
            SiblingStrategy::RestForOne => place >= restarted,
        }
    }
}

/// Which children of a group stay down for good when one of them is given up.
///
/// Source: OTP `supervisor`, which ends with all its children; `Requires=` of systemd.unit(5);
/// supervisord, where the other children keep running.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GiveUpScope {
    /// Only the child that is given up.
    Child,
    /// The child that is given up, and the children that are started after it, since they may
    /// depend on it.
    Dependents,
    /// All children, and with them the group.
    #[default]
    Group,
}

impl GiveUpScope {
    /// Whether giving up the child at the place `given_up` ends the child at `place`.
    ///
    /// ```
    /// use supervise_harness::supervisor::GiveUpScope;
    ///
    /// let ended = |scope: GiveUpScope| [0, 1, 2].map(|place| scope.ends(1, place));
    /// assert_eq!(ended(GiveUpScope::Child), [false, true, false]);
    /// assert_eq!(ended(GiveUpScope::Dependents), [false, true, true]);
    /// assert_eq!(ended(GiveUpScope::Group), [true, true, true]);
    /// ```
    #[must_use]
    pub fn ends(self, given_up: usize, place: usize) -> bool {
        match self {
            GiveUpScope::Child => place == given_up,
            GiveUpScope::Dependents => place >= given_up,
            GiveUpScope::Group => true,
        }
    }
}
