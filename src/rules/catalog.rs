//! The catalog of all rules.

use super::rule::Rule;
use super::{
    backoff, concurrency, crash, decision, descriptors, exhaustion, exit, limit, output, readiness,
    reaping, reset, start, stop, tree,
};

/// The groups, in the order of the catalog.
const CATALOG: [&[Rule]; 15] = [
    start::RULES,
    exit::RULES,
    decision::RULES,
    backoff::RULES,
    limit::RULES,
    reset::RULES,
    stop::RULES,
    tree::RULES,
    reaping::RULES,
    descriptors::RULES,
    readiness::RULES,
    output::RULES,
    concurrency::RULES,
    crash::RULES,
    exhaustion::RULES,
];

/// All rules, in the order of the catalog.
pub fn all() -> impl Iterator<Item = &'static Rule> {
    CATALOG.into_iter().flatten()
}

/// The rule with this id; `None` if no rule has it.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    all().find(|rule| rule.id == id)
}

/// The rule with this id, for use in a constant. If no rule has the id, the constant does not
/// compile.
#[cfg(feature = "conformance")]
pub(crate) const fn registered(id: &str) -> &'static Rule {
    let mut group = 0;
    while group < CATALOG.len() {
        let rules = CATALOG[group];
        let mut place = 0;
        while place < rules.len() {
            if is_same(rules[place].id.as_bytes(), id.as_bytes()) {
                return &rules[place];
            }
            place += 1;
        }
        group += 1;
    }
    panic!("no rule has this id")
}

/// Compares two byte strings: `==` does not work in constants yet.
#[cfg(feature = "conformance")]
const fn is_same(one: &[u8], two: &[u8]) -> bool {
    let mut place = 0;
    while place < one.len() && place < two.len() && one[place] == two[place] {
        place += 1;
    }
    place == one.len() && place == two.len()
}
