//! Restart deciders with exactly one bug each.

use std::time::Duration;

use supervise_harness::properties::{Decider, LimitRule, RestartRules};
use supervise_harness::supervisor::{
    Decision, EndCause, GaveUp, PolicyError, RestartLimit, RestartPolicy, RestartTracker, RunEnd,
};
use supervise_harness::{ExitStatus, Timestamp};

pub(super) type Made = Result<Box<dyn Decider>, PolicyError>;

const DAY: Duration = Duration::from_secs(86_400);
const NANO: Duration = Duration::from_nanos(1);

/// A right decider and what is wrong about it.
struct Broken<D, S, R> {
    tracker: RestartTracker,
    decide: D,
    stop: S,
    reset: R,
}

impl<D, S, R> Decider for Broken<D, S, R>
where
    D: FnMut(&mut RestartTracker, &RunEnd, Timestamp) -> Decision,
    S: FnMut(&mut RestartTracker),
    R: FnMut(&mut RestartTracker),
{
    fn decide(&mut self, end: &RunEnd, now: Timestamp) -> Decision {
        (self.decide)(&mut self.tracker, end, now)
    }

    fn stop(&mut self) {
        (self.stop)(&mut self.tracker);
    }

    fn reset(&mut self) {
        (self.reset)(&mut self.tracker);
    }
}

/// Wrong in what it is made with.
fn misread(rules: &RestartRules, change: impl FnOnce(&mut RestartRules)) -> Made {
    let mut rules = rules.clone();
    change(&mut rules);
    Ok(Box::new(rules.tracker()?))
}

/// Wrong in its decisions.
fn wrong(
    rules: &RestartRules,
    decide: impl FnMut(&mut RestartTracker, &RunEnd, Timestamp) -> Decision + 'static,
) -> Made {
    let (stop, reset) = (RestartTracker::stop, RestartTracker::reset);
    Ok(Box::new(Broken {
        tracker: rules.tracker()?,
        decide,
        stop,
        reset,
    }))
}

/// The same limit with another number, zero left alone.
fn recount(limit: &mut LimitRule, change: impl FnOnce(u32) -> u32) {
    match limit {
        LimitRule::Consecutive(n) | LimitRule::Window { restarts: n, .. } if *n > 0 => {
            *n = change(*n);
        }
        _ => {}
    }
}

pub(super) fn a_core_dump_is_clean(rules: &RestartRules) -> Made {
    let on_failure = rules.policy == RestartPolicy::OnFailure;
    wrong(rules, move |tracker, end, now| match end.cause {
        EndCause::Exited(ExitStatus::Signaled {
            core_dumped: true, ..
        }) if on_failure => Decision::Finished { success: true },
        _ => tracker.decide(end, now),
    })
}

pub(super) fn success_signals_are_ignored(rules: &RestartRules) -> Made {
    misread(rules, |rules| rules.success_signals.clear())
}

/// Without any limit.
pub(super) fn a_failure_is_final_where_successes_are_listed(rules: &RestartRules) -> Made {
    let are_listed =
        rules.success_codes.iter().any(|code| *code != 0) || !rules.success_signals.is_empty();
    wrong(rules, move |tracker, end, now| {
        match tracker.decide(end, now) {
            Decision::Restart { .. } if are_listed => {
                Decision::GiveUp(GaveUp::new(end.cause, 0, RestartLimit::Unlimited))
            }
            decision => decision,
        }
    })
}

pub(super) fn force_beats_prevent(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        rules
            .prevent_codes
            .retain(|code| !rules.force_codes.contains(code));
    })
}

pub(super) fn a_stop_is_a_failure(rules: &RestartRules) -> Made {
    wrong(rules, |tracker, end, now| match tracker.decide(end, now) {
        Decision::Finished { .. } if end.requested => Decision::Finished { success: false },
        decision => decision,
    })
}

/// As in pm2: the stop ends the run, and the next one is restarted again.
pub(super) fn a_stop_lasts_one_end(rules: &RestartRules) -> Made {
    Ok(Box::new(Broken {
        tracker: rules.tracker()?,
        decide: |tracker: &mut RestartTracker, end: &RunEnd, now| {
            let decision = tracker.decide(end, now);
            if let Decision::Finished { .. } = decision {
                tracker.reset();
            }
            decision
        },
        stop: RestartTracker::stop,
        reset: RestartTracker::reset,
    }))
}

pub(super) fn each_end_counts_twice(rules: &RestartRules) -> Made {
    wrong(rules, |tracker, end, now| match tracker.decide(end, now) {
        Decision::Restart { attempt } => Decision::Restart {
            attempt: attempt * 2,
        },
        decision => decision,
    })
}

pub(super) fn failed_for_good(rules: &RestartRules) -> Made {
    Ok(Box::new(Broken {
        tracker: rules.tracker()?,
        decide: RestartTracker::decide,
        stop: RestartTracker::stop,
        reset: |tracker: &mut RestartTracker| {
            // Asks a copy whether it has given up.
            let crash = RunEnd::exited(1);
            let gave_up = tracker.clone().decide(&crash, Timestamp::ORIGIN);
            if !matches!(gave_up, Decision::GiveUp(_)) {
                tracker.reset();
            }
        },
    }))
}

pub(super) fn zero_is_unlimited(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        if rules.limit == LimitRule::Consecutive(0) {
            rules.limit = LimitRule::Unlimited;
        }
    })
}

pub(super) fn a_zero_window_panics(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        if let LimitRule::Window { within, .. } = rules.limit {
            assert!(!within.is_zero(), "division by zero");
        }
    })
}

pub(super) fn one_too_many(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        recount(&mut rules.limit, |n| n.saturating_add(1));
    })
}

pub(super) fn one_too_few(rules: &RestartRules) -> Made {
    misread(rules, |rules| recount(&mut rules.limit, |n| (n - 1).max(1)))
}

/// Clean exits are restarted without being counted.
pub(super) fn only_failures_count(rules: &RestartRules) -> Made {
    let mut uncounted = 0;
    let always = rules.policy == RestartPolicy::Always;
    wrong(rules, move |tracker, end, now| {
        let mut after = tracker.clone();
        match after.decide(end, now) {
            Decision::Restart { attempt } if always && *end == RunEnd::exited(0) => {
                uncounted += 1;
                Decision::Restart {
                    attempt: attempt + uncounted - 1,
                }
            }
            // Had it counted, this would have been too many.
            Decision::GiveUp(gave_up) if always && *end == RunEnd::exited(0) => {
                let again = tracker.clone().decide(&RunEnd::exited(1), now + DAY);
                if again == Decision::GiveUp(gave_up) {
                    return again;
                }
                uncounted += 1;
                Decision::Restart {
                    attempt: gave_up.restarts + uncounted - 1,
                }
            }
            Decision::Restart { attempt } => {
                *tracker = after;
                Decision::Restart {
                    attempt: attempt + uncounted,
                }
            }
            decision => {
                *tracker = after;
                decision
            }
        }
    })
}

pub(super) fn never_forgets(rules: &RestartRules) -> Made {
    misread(rules, |rules| match &mut rules.limit {
        LimitRule::Window { within, .. } if !within.is_zero() => *within = Duration::MAX,
        _ => {}
    })
}

/// The window begins with its first restart, and the next one where it ends.
pub(super) fn tumbles(rules: &RestartRules) -> Made {
    let _ = rules.tracker()?;
    let LimitRule::Window { restarts, within } = rules.limit else {
        return misread(rules, |_| {});
    };
    let limit = RestartLimit::window(restarts, within)?;
    let unlimited = rules.clone().limit(LimitRule::Unlimited);
    let (mut begin, mut count, mut gave_up) = (None, 0, None);
    let reset = std::rc::Rc::new(std::cell::Cell::new(false));
    let is_reset = std::rc::Rc::clone(&reset);
    Ok(Box::new(Broken {
        tracker: unlimited.tracker()?,
        decide: move |tracker: &mut RestartTracker, end: &RunEnd, now: Timestamp| {
            if is_reset.take() {
                (begin, count, gave_up) = (None, 0, None);
            }
            if let Some(gave_up) = gave_up {
                return Decision::GiveUp(gave_up);
            }
            let decision = tracker.decide(end, now);
            if !matches!(decision, Decision::Restart { .. }) {
                return decision;
            }
            if begin.is_none_or(|begin| now - begin > within) {
                (begin, count) = (Some(now), 0);
            }
            if count == restarts {
                let decision = GaveUp::new(end.cause, count, limit);
                gave_up = Some(decision);
                return Decision::GiveUp(decision);
            }
            count += 1;
            decision
        },
        stop: RestartTracker::stop,
        reset: move |tracker: &mut RestartTracker| {
            tracker.reset();
            reset.set(true);
        },
    }))
}

pub(super) fn a_row_expires(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        if let LimitRule::Consecutive(restarts) = rules.limit {
            rules.limit = LimitRule::Window {
                restarts,
                within: DAY / 2,
            };
        }
    })
}

pub(super) fn a_hundred_is_enough(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        if rules.limit == LimitRule::Unlimited {
            rules.limit = LimitRule::Consecutive(100);
        }
    })
}

pub(super) fn forgives_after_a_day(rules: &RestartRules) -> Made {
    let mut gave_up_at = None;
    wrong(rules, move |tracker, end, now| {
        if gave_up_at.is_some_and(|then| now - then > DAY) {
            gave_up_at = None;
            tracker.reset();
        }
        let decision = tracker.decide(end, now);
        if let Decision::GiveUp(_) = decision {
            gave_up_at.get_or_insert(now);
        }
        decision
    })
}

pub(super) fn reports_the_first_cause(rules: &RestartRules) -> Made {
    let mut first = None;
    wrong(rules, move |tracker, end, now| {
        let cause = *first.get_or_insert(end.cause);
        match tracker.decide(end, now) {
            Decision::GiveUp(gave_up) => {
                Decision::GiveUp(GaveUp::new(cause, gave_up.restarts, gave_up.limit))
            }
            decision => decision,
        }
    })
}

pub(super) fn miscounts_its_restarts(rules: &RestartRules) -> Made {
    wrong(rules, |tracker, end, now| match tracker.decide(end, now) {
        Decision::GiveUp(gave_up) => Decision::GiveUp(GaveUp::new(
            gave_up.cause,
            gave_up.restarts + 1,
            gave_up.limit,
        )),
        decision => decision,
    })
}

pub(super) fn never_resets(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        rules.reset_after = rules.reset_after.filter(Duration::is_zero);
    })
}

pub(super) fn resets_at_half_time(rules: &RestartRules) -> Made {
    misread(rules, |rules| {
        if let Some(healthy) = &mut rules.reset_after
            && !healthy.is_zero()
        {
            *healthy = (*healthy / 2).max(NANO);
        }
    })
}

pub(super) fn a_reset_keeps_the_attempt(rules: &RestartRules) -> Made {
    let kept = std::rc::Rc::new(std::cell::Cell::new((0, 0)));
    let at_reset = std::rc::Rc::clone(&kept);
    Ok(Box::new(Broken {
        tracker: rules.tracker()?,
        decide: move |tracker: &mut RestartTracker, end: &RunEnd, now: Timestamp| {
            let (base, _) = kept.get();
            match tracker.decide(end, now) {
                Decision::Restart { attempt } => {
                    kept.set((base, base + attempt + 1));
                    Decision::Restart {
                        attempt: base + attempt,
                    }
                }
                decision => decision,
            }
        },
        stop: RestartTracker::stop,
        reset: move |tracker: &mut RestartTracker| {
            let (_, next) = at_reset.get();
            at_reset.set((next, next));
            tracker.reset();
        },
    }))
}
