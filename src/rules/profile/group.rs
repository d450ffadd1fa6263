//! What a subject can do with several services.

use crate::supervisor::{GiveUpScope, SiblingStrategy};

/// What a subject can do with several services.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct GroupProfile {
    /// Whether the subject starts the services of a [`ServiceGroup`](crate::rules::ServiceGroup) in order,
    /// each when the one before is up. It must also stop them in reverse order, each when the one
    /// after it has ended.
    pub start_order: bool,
    /// Which of these strategies the subject supports. A strategy says which services of a group a
    /// restart of one service replaces.
    pub sibling_strategies: Vec<SiblingStrategy>,
    /// Which of these scopes the subject supports. A scope says which services of a group end when
    /// the subject gives up one of them.
    pub give_up_scopes: Vec<GiveUpScope>,
}
