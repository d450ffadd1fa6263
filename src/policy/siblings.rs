//! What the end of one child means to the others of its group.

/// Which children of a group a restart of one of them replaces. They are told apart by their places in
/// the order in which they are started.
///
/// Source: the restart strategies of OTP `supervisor`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SiblingStrategy {
    /// That one alone.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// That one, and those that are started after it.
    RestForOne,
}

impl SiblingStrategy {
    /// Whether a restart of the child at one place replaces the child at another.
    ///
    /// ```
    /// use supervise_harness::SiblingStrategy;
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

/// Which children of a group are down for good when one of them is given up.
///
/// Source: OTP `supervisor`, which ends with all its children; `Requires=` of systemd.unit(5);
/// supervisord, where the others go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GiveUpScope {
    /// That one alone.
    Child,
    /// That one, and those that are started after it, since they may depend on it.
    Dependents,
    /// All of them, and so the group.
    #[default]
    Group,
}

impl GiveUpScope {
    /// Whether giving up on the child at one place ends the child at another.
    ///
    /// ```
    /// use supervise_harness::GiveUpScope;
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
