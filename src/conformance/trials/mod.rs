//! What is done for each rule, in files as the rules are.

mod backoff;
mod start;

use super::trial::Trial;

/// All trials, in the order of the rules.
pub(super) fn all() -> impl Iterator<Item = &'static Trial> {
    [start::TRIALS, backoff::TRIALS].into_iter().flatten()
}
