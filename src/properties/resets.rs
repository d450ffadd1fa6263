//! The checks of what sets a decider's counts back to 0.

use std::fmt::Display;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::{Strategy, any};

use crate::rules::{Rule, Verdict, registered};
use crate::supervisor::{Decision, RestartPolicy, RunEnd};
use crate::timestamp::Timestamp;

use super::declared_rules::{Decider, LimitRule, RestartParams, RestartRules};
use super::generated::{Failed, broken, cases, crash, made, restarts_until_it_stops};
use super::strategies::durations;

pub(super) const HEALTHY: &Rule = registered("reset-after-healthy");
pub(super) const EARLY: &Rule = registered("no-early-reset");
pub(super) const MANUAL: &Rule = registered("manual-reset");
pub(super) const AGAIN: &Rule = registered("manual-start-after-give-up");

const DAY: Duration = Duration::from_secs(86_400);

/// The attempt of the restart after this end. Moves `now` to the end of the run. Fails if there is
/// no restart.
fn attempt(
    decider: &mut impl Decider,
    end: &RunEnd,
    now: &mut Timestamp,
    place: &str,
) -> Result<u32, Failed> {
    *now += end.up_for;
    match decider.decide(end, *now) {
        Decision::Restart { attempt } => Ok(attempt),
        other => Err(broken(place, "a restart", format!("{other:?}"))),
    }
}

/// Rule `reset-after-healthy`: after a few crashes, the end of a run that was up for the reset
/// period or longer leads to attempt 0.
///
/// Source: Docker, 10 s; Kubernetes, 10 min; systemd/systemd#43813, where steps are never reset.
pub fn reset_after_healthy<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let strategy = (durations(DAY), 1..6_u32, vec(durations(DAY), 1..3));
    cases(params, HEALTHY, &strategy, |(healthy, crashes, extra)| {
        let rules = RestartRules::of(RestartPolicy::Always).reset_after(*healthy);
        let mut decider = made(&factory, &rules)?;
        let mut now = Timestamp::ORIGIN;
        for extra in [Duration::ZERO].iter().chain(extra) {
            for _ in 0..*crashes {
                attempt(&mut decider, &crash(), &mut now, "a crash before")?;
            }
            let up_for = *healthy + *extra;
            let place = format!("an end after {up_for:?} up, {healthy:?} is healthy");
            let attempt = attempt(&mut decider, &crash().after(up_for), &mut now, &place)?;
            if attempt != 0 {
                return Err(broken(place, "attempt 0", format!("attempt {attempt}")));
            }
        }
        Ok(())
    })
}

/// Rule `no-early-reset`: runs that were up for less than the reset period never set the attempt
/// back. This holds even if a run is only a nanosecond too short, and however much time passes
/// between the runs.
pub fn no_early_reset<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let short = (any::<bool>(), 0.0..1.0, durations(DAY));
    let strategy = (durations(DAY), vec(short, 1..8));
    cases(params, EARLY, &strategy, |(healthy, runs)| {
        let rules = RestartRules::of(RestartPolicy::Always).reset_after(*healthy);
        let mut decider = made(&factory, &rules)?;
        let mut now = Timestamp::ORIGIN;
        let longest = *healthy - Duration::from_nanos(1);
        let mut before = attempt(&mut decider, &crash(), &mut now, "the first crash")?;
        for (just_short, part, delay) in runs {
            let up_for = if *just_short {
                longest
            } else {
                healthy.mul_f64(*part).min(longest)
            };
            now += *delay;
            let place = format!("an end after {up_for:?} up, {healthy:?} is healthy");
            let attempt = attempt(&mut decider, &crash().after(up_for), &mut now, &place)?;
            if attempt <= before {
                let expected = format!("an attempt after {before}");
                return Err(broken(place, expected, format!("attempt {attempt}")));
            }
            before = attempt;
        }
        Ok(())
    })
}

/// Rule `manual-reset`: after an explicit reset the next attempt is 0, and the full number of
/// restarts is allowed again.
///
/// Source: `systemctl reset-failed`.
pub fn manual_reset<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    cases(
        params,
        MANUAL,
        &(2..12_u32, durations(DAY)),
        |(restarts, within)| {
            let window = LimitRule::Window {
                restarts: *restarts,
                within: *within,
            };
            for limit in [LimitRule::Consecutive(*restarts), window] {
                let rules = RestartRules::of(RestartPolicy::Always).limit(limit);
                let most = restarts + 8;
                let whole =
                    restarts_until_it_stops(&mut made(&factory, &rules)?, Timestamp::ORIGIN, most);
                let mut decider = made(&factory, &rules)?;
                // All restarts except one, so that the decider has not given up.
                restarts_until_it_stops(&mut decider, Timestamp::ORIGIN, whole.saturating_sub(1));
                decider.reset();
                let place = format!("{limit:?}, after a reset");
                let mut now = Timestamp::ORIGIN;
                let attempt = attempt(&mut decider, &crash(), &mut now, &place)?;
                if attempt != 0 {
                    return Err(broken(place, "attempt 0", format!("attempt {attempt}")));
                }
                let left = restarts_until_it_stops(&mut decider, now, most);
                if left + 1 != whole {
                    let expected = format!("{whole} restarts, as at first");
                    return Err(broken(place, expected, (left + 1).to_string()));
                }
            }
            Ok(())
        },
    )
}

/// Rule `manual-start-after-give-up`: after giving up and then an explicit start, there is a
/// restart after a crash.
pub fn manual_start_after_give_up<D: Decider, E: Display>(
    factory: impl Fn(&RestartRules) -> Result<D, E>,
    params: &RestartParams,
) -> Verdict {
    let limits = (2..12_u32).prop_map(LimitRule::Consecutive);
    cases(
        params,
        AGAIN,
        &(limits, any::<bool>()),
        |(limit, stopped)| {
            let rules = RestartRules::of(RestartPolicy::Always).limit(*limit);
            let mut decider = made(&factory, &rules)?;
            restarts_until_it_stops(&mut decider, Timestamp::ORIGIN, 20);
            if *stopped {
                decider.stop();
            }
            decider.reset();
            let place = if *stopped {
                "after giving up, a stop and a start"
            } else {
                "after giving up and a start"
            };
            attempt(
                &mut decider,
                &crash(),
                &mut Timestamp::ORIGIN.clone(),
                place,
            )
            .map(drop)
        },
    )
}
