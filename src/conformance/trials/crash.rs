use crate::conformance::trial::Trial;

pub(super) const TRIALS: &[Trial] = &[];
