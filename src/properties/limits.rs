//! The checks of restart limits and of giving up.

use std::fmt::Display;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::rules::{Rule, Verdict, registered};
use crate::supervisor::{Decision, RestartPolicy, RunEnd};
use crate::timestamp::Timestamp;

use super::declared_rules::{Decider, LimitRule, RestartParams, RestartRules, WindowEdge};
use super::generated::{
    Failed, at, broken, cases, crash, made, restarted, restarts_until_it_stops,
};
use super::strategies::{durations, run_ends};

pub(super) const BOUNDARY: &Rule = registered("limit-boundary");
pub(super) const COUNTS: &Rule = registered("limit-counts");
pub(super) const KIND: &Rule = registered("window-kind");
pub(super) const DEGENERATE: &Rule = registered("limit-degenerate");
pub(super) const TERMINAL: &Rule = registered("give-up-is-terminal");
pub(super) const CAUSE: &Rule = registered("give-up-reports-cause");
pub(super) const REFUSED: &Rule = registered("bad-limits-rejected");

/// How many crashes beyond its limit a decider gets, so that a check can measure what it allows.
const BEYOND: u32 = 8;
const DAY: Duration = Duration::from_secs(86_400);

fn always(limit: LimitRule) -> RestartRules {
    RestartRules::of(RestartPolicy::Always).limit(limit)
}

/// Limits of 2 to 11 restarts, in a row or within a window of up to a day.
fn some_limits() -> impl Strategy<Value = LimitRule> {
    prop_oneof![
        (2..12_u32).prop_map(LimitRule::Consecutive),
        (2..12_u32, durations(DAY))
            .prop_map(|(restarts, within)| LimitRule::Window { restarts, within }),
    ]
}

fn size(limit: LimitRule) -> u32 {
    match limit {
        LimitRule::Unlimited => u32::MAX,
        LimitRule::Consecutive(restarts) | LimitRule::Window { restarts, .. } => restarts,
    }
}

/// Counts how many crashes at one moment a decider with these rules restarts.
fn capacity<D: Decider, E: Display>(
    factory: &impl Fn(&RestartRules) -> Result<D, E>,
    rules: &RestartRules,
) -> Result<u32, Failed> {
    let most = size(rules.limit).saturating_add(BEYOND);
    let mut decider = made(factory, rules)?;
    Ok(restarts_until_it_stops(
        &mut decider,
        Timestamp::ORIGIN,
        most,
    ))
}

/// Rule `limit-boundary`: if many crashes happen at one moment, there are exactly as many restarts
/// as the limit allows.
///
/// Source: OTP `supervisor` intensity; `StartLimitBurst=` of systemd.unit(5); `MaxRestarts`
/// of the Go package `supervise`.
pub fn limit_boundary<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    cases(params, BOUNDARY, &some_limits(), |limit| {
        let (expected, actual) = (
            params.allowed(size(*limit)),
            capacity(&factory, &always(*limit))?,
        );
        if actual == expected {
            return Ok(());
        }
        let place = format!("crash {}", actual.min(expected) + 1);
        Err(broken(
            place,
            format!("{expected} restarts"),
            actual.to_string(),
        ))
    })
}

/// Rule `limit-counts`: with the policy `Always`, a restart after a clean exit counts like a
/// restart after a crash.
pub fn limit_counts<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let strategy = (some_limits(), vec(any::<bool>(), 24));
    cases(params, COUNTS, &strategy, |(limit, clean)| {
        let expected = capacity(&factory, &always(*limit))?;
        let mut decider = made(&factory, &always(*limit))?;
        let mut actual = 0;
        for clean in clean {
            let end = if *clean { RunEnd::exited(0) } else { crash() };
            if !restarted(&decider.decide(&end, Timestamp::ORIGIN)) {
                break;
            }
            actual += 1;
        }
        if actual == expected {
            return Ok(());
        }
        let expected = format!("{expected} restarts, as after crashes alone");
        Err(broken(
            format!("restart {actual}"),
            expected,
            actual.to_string(),
        ))
    })
}

/// Rule `window-kind`: checks when old restarts stop counting. It first uses up the limit, and then
/// checks that:
/// - a window allows a restart again at its declared edge, and not a nanosecond before;
/// - the window slides: if the restarts are spread over it, they leave it one at a time;
/// - a limit in a row still allows no restart after a day.
///
/// It uses up as many restarts as the decider itself allows at one moment. A wrong count therefore
/// breaks only `limit-boundary`.
///
/// Source: OTP `supervisor`, whose period is closed; tumbling windows, which allow 2N restarts
/// around the border of two windows.
pub fn window_kind<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let nano = Duration::from_nanos(1);
    let edge = |within| match params.window_edge {
        WindowEdge::Closed => within + nano,
        WindowEdge::Open => within,
    };
    cases(params, KIND, &some_limits(), |limit| {
        let rules = always(*limit);
        let allowed = capacity(&factory, &rules)?;
        // Uses up the limit: the first crash at 0, the others at `spread`. Then decides about a
        // crash at each of `times`.
        let after = |spread: Duration, times: &[Duration]| {
            let mut decider = made(&factory, &rules)?;
            for n in 0..allowed {
                let now = if n == 0 { Duration::ZERO } else { spread };
                let _ = decider.decide(&crash(), at(now));
            }
            let decide = |now: &Duration| restarted(&decider.decide(&crash(), at(*now)));
            Ok(times.iter().map(decide).collect::<Vec<bool>>())
        };
        let expect = |spread, times: &[Duration], expected: &[bool]| {
            let actual = after(spread, times)?;
            if actual == expected {
                return Ok(());
            }
            Err(broken(
                format!("crashes at {times:?}, after {allowed} restarts at 0s and {spread:?}"),
                format!("restarted or not: {expected:?}"),
                format!("{actual:?}"),
            ))
        };
        match *limit {
            LimitRule::Unlimited => {}
            LimitRule::Consecutive(_) => expect(Duration::ZERO, &[DAY], &[false])?,
            LimitRule::Window { within, .. } => {
                expect(Duration::ZERO, &[edge(within) - nano], &[false])?;
                expect(Duration::ZERO, &[edge(within)], &[true])?;
                // The others come half a window after the first, so that only the first has left.
                let half = within / 2;
                if allowed > 1 && half > nano {
                    expect(half, &[edge(within), edge(within)], &[true, false])?;
                }
            }
        }
        Ok(())
    })
}

/// Rule `limit-degenerate`: there is a restart after each of a thousand crashes at one moment. This
/// holds without a limit, with the largest limit in a row, and with the largest limit in the
/// longest window.
pub fn limit_degenerate<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let once = params.cases(1);
    cases(&once, DEGENERATE, &Just(()), |()| {
        let longest = LimitRule::Window {
            restarts: u32::MAX,
            within: Duration::MAX,
        };
        for limit in [
            LimitRule::Unlimited,
            LimitRule::Consecutive(u32::MAX),
            longest,
        ] {
            let mut decider = made(&factory, &always(limit))?;
            let restarts = restarts_until_it_stops(&mut decider, Timestamp::ORIGIN, 1_000);
            if restarts < 1_000 {
                return Err(broken(
                    format!("{limit:?}, crash {}", restarts + 1),
                    "a restart after each of 1000 crashes",
                    format!("{restarts} restarts"),
                ));
            }
        }
        Ok(())
    })
}

/// Rule `give-up-is-terminal`: after giving up, there is no restart after any later end, not even
/// if the window has passed or the run was up for a long time.
///
/// Source: systemd's failed state; OTP, where the supervisor itself ends.
pub fn give_up_is_terminal<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let unrequested = run_ends(DAY).prop_map(|end| RunEnd {
        requested: false,
        ..end
    });
    let strategy = (some_limits(), vec(unrequested, 1..6));
    cases(params, TERMINAL, &strategy, |(limit, ends)| {
        let mut decider = made(&factory, &always(*limit).reset_after(DAY / 24))?;
        let most = size(*limit).saturating_add(BEYOND);
        restarts_until_it_stops(&mut decider, Timestamp::ORIGIN, most);
        for (n, end) in (1..).zip(ends) {
            let decision = decider.decide(end, at(n * 2 * DAY));
            if restarted(&decision) {
                let place = format!(
                    "end {n} after giving up: {}, up for {:?}",
                    end.cause, end.up_for
                );
                return Err(broken(place, "no restart", format!("{decision:?}")));
            }
        }
        Ok(())
    })
}

/// Rule `give-up-reports-cause`: the decision to give up carries the number of restarts so far, and
/// the cause of the end whose restart was refused.
pub fn give_up_reports_cause<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let strategy = (some_limits(), vec(1..=255_i32, 24));
    cases(params, CAUSE, &strategy, |(limit, codes)| {
        let mut decider = made(&factory, &always(*limit))?;
        for (restarts, code) in (0..).zip(codes) {
            let end = RunEnd::exited(*code);
            match decider.decide(&end, Timestamp::ORIGIN) {
                Decision::Restart { .. } => {}
                Decision::GiveUp(gave_up)
                    if (gave_up.cause, gave_up.restarts) == (end.cause, restarts) =>
                {
                    break;
                }
                other => {
                    let place = format!("end {}", restarts + 1);
                    let expected =
                        format!("giving up after {restarts} restarts, with {}", end.cause);
                    return Err(broken(place, expected, format!("{other:?}")));
                }
            }
        }
        Ok(())
    })
}

/// Rule `bad-limits-rejected`: the factory refuses a limit of 0, a window or a reset period of
/// zero, and exit codes outside 0 to 255. It must return an error; it must not panic or leave the
/// error for later.
pub fn bad_limits_rejected<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let once = params.cases(1);
    cases(&once, REFUSED, &Just(()), |()| {
        // A factory that refuses everything would prove nothing.
        made(&factory, &RestartRules::default())?;
        let zero = Duration::ZERO;
        let with = |change: fn(&mut RestartRules)| {
            let mut rules = RestartRules::default();
            change(&mut rules);
            rules
        };
        for bad in [
            always(LimitRule::Consecutive(0)),
            always(LimitRule::Window {
                restarts: 0,
                within: DAY,
            }),
            always(LimitRule::Window {
                restarts: 1,
                within: zero,
            }),
            RestartRules::default().reset_after(zero),
            with(|rules| rules.success_codes = vec![256]),
            with(|rules| rules.prevent_codes = vec![-1]),
            with(|rules| rules.force_codes = vec![256]),
        ] {
            if factory(&bad).is_ok() {
                return Err(broken(format!("{bad:?}"), "an error", "a decider"));
            }
        }
        Ok(())
    })
}
