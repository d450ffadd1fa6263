//! Runs a check on generated cases.

use std::cell::RefCell;
use std::fmt::{Debug, Display};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

use crate::rules::{Rule, Verdict, Violation};
use crate::supervisor::{Decision, RunEnd};
use crate::timestamp::Timestamp;

use super::declared_rules::{Decider, RestartParams, RestartRules};
use super::delays::message;
use super::report::replay;

/// Why a case did not pass.
pub(super) enum Failed {
    /// The factory refused to make a decider with these rules.
    Refused(String),
    Broken {
        expected: String,
        actual: String,
        place: String,
    },
}

/// Makes the failure of a case: where it was, what the check expected, and what it saw.
pub(super) fn broken(
    place: impl Into<String>,
    expected: impl Into<String>,
    actual: impl Into<String>,
) -> Failed {
    Failed::Broken {
        expected: expected.into(),
        actual: actual.into(),
        place: place.into(),
    }
}

/// Runs the check on generated cases. If a case fails, runs it on smaller and smaller cases. Cases
/// for which the factory refuses to make a decider do not count. If there are no other cases, the
/// verdict is `Unsupported`: the decider does not support what the rule is about.
pub(super) fn cases<T: Debug>(
    params: &RestartParams,
    rule: &'static Rule,
    strategy: &impl Strategy<Value = T>,
    check: impl Fn(&T) -> Result<(), Failed>,
) -> Verdict {
    let (seen, refused) = (RefCell::new(0_u32), RefCell::new(None));
    let check = |case: &T| {
        // If the decider panics, it breaks the rule that this check is about.
        catch_unwind(AssertUnwindSafe(|| check(case))).unwrap_or_else(|payload| {
            Err(broken(
                "the decider",
                "a decision",
                message(payload.as_ref()),
            ))
        })
    };
    let result = runner(params, rule).run(strategy, |case| {
        match check(&case) {
            Ok(()) => *seen.borrow_mut() += 1,
            Err(Failed::Refused(reason)) => *refused.borrow_mut() = Some(reason),
            Err(Failed::Broken { actual, .. }) => return Err(TestCaseError::fail(actual)),
        }
        Ok(())
    });
    let violation = |expected: String, actual: String, place, case| -> Verdict {
        let mut violation = Violation::new(expected, actual).of(rule);
        violation.place = Some(place);
        violation.case = Some(case);
        violation.replay = Some(replay(params.seed));
        violation.into()
    };
    match result {
        Ok(()) if *seen.borrow() == 0 => {
            let reason = refused.take().unwrap_or_else(|| "no case".to_owned());
            Verdict::Unsupported(format!("cannot be made with the rules: {reason}"))
        }
        Ok(()) => Verdict::Pass,
        Err(TestError::Fail(reason, smallest)) => {
            let text = format!("{smallest:?}");
            match check(&smallest) {
                Err(Failed::Broken {
                    expected,
                    actual,
                    place,
                }) => violation(expected, actual, place, text),
                _ => violation(
                    "the same answer to the same case".to_owned(),
                    format!("another one; before it was: {reason}"),
                    "the second run of the case".to_owned(),
                    text,
                ),
            }
        }
        Err(TestError::Abort(reason)) => Verdict::Unknown(reason.to_string()),
    }
}

/// Makes a runner whose cases depend on the seed and on the rule. It writes no files.
fn runner(params: &RestartParams, rule: &Rule) -> TestRunner {
    let config = Config {
        cases: params.cases,
        failure_persistence: None,
        max_shrink_iters: 4_096,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&params.seed.to_le_bytes());
    for (byte, letter) in seed[8..].iter_mut().zip(rule.id.bytes()) {
        *byte = letter;
    }
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &seed))
}

/// Makes a decider with these rules.
pub(super) fn made<D, E: Display>(
    factory: &impl Fn(&RestartRules) -> Result<D, E>,
    rules: &RestartRules,
) -> Result<D, Failed> {
    factory(rules).map_err(|error| Failed::Refused(error.to_string()))
}

pub(super) fn crash() -> RunEnd {
    RunEnd::exited(1)
}

pub(super) fn at(since_origin: Duration) -> Timestamp {
    Timestamp::ORIGIN + since_origin
}

pub(super) fn restarted(decision: &Decision) -> bool {
    matches!(decision, Decision::Restart { .. })
}

/// Counts how many crashes at one moment the decider restarts. It stops counting at `most`.
pub(super) fn restarts_until_it_stops(
    decider: &mut impl Decider,
    now: Timestamp,
    most: u32,
) -> u32 {
    let mut count = 0;
    while count < most && restarted(&decider.decide(&crash(), now)) {
        count += 1;
    }
    count
}
