//! Judges the rules about the backoff strategy alone. The subject lends its strategy, and the
//! ready-made checks of `properties` judge it.

use super::subject::AnySubject;
use crate::backoff::BackoffStrategy;
use crate::backoff::Jitter;
use crate::properties::{self, BackoffParams, Curve, JitterLaw};
use crate::rules::{Profile, Rule, Service, Verdict};

/// Judges the strategy that the subject lends for this service by the ready-made check for the
/// rule.
pub(super) fn judge(
    subject: &dyn AnySubject,
    profile: &Profile,
    rule: &'static Rule,
    service: &Service,
) -> Verdict {
    let lend = |seed| subject.strategy(service, seed);
    let lends = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| lend(Some(0)).is_some()));
    if !lends.unwrap_or(true) {
        return Verdict::unknown("the subject lends no strategy for these delays");
    }
    let params = match declared(profile, service) {
        Ok(params) => params,
        Err(error) => return Verdict::Unknown(format!("the declared delays: {error}")),
    };
    // A subject that has lent a strategy for these delays can lend another one.
    let factory = |seed| -> Box<dyn BackoffStrategy + Send> {
        lend(seed).unwrap_or_else(|| panic!("the subject lends no strategy any more"))
    };
    let verdict = match rule.id {
        "delay-capped" => properties::delay_capped(factory, &params),
        "delay-no-overflow" => properties::delay_no_overflow(factory, &params),
        "delay-monotone" => properties::delay_monotone(factory, &params),
        "jitter-law" => properties::jitter_law(factory, &params),
        "jitter-at-cap" => properties::jitter_at_cap(factory, &params),
        "jitter-seeded" => properties::jitter_seeded(factory, &params),
        _ => return Verdict::unknown("nothing is done to see it"),
    };
    rule.say(verdict, &service.name)
}

/// Returns what the subject declares about its strategy.
fn declared(
    profile: &Profile,
    service: &Service,
) -> Result<BackoffParams, crate::backoff::BackoffError> {
    let delays = &service.delays;
    let mut params = BackoffParams::builder(delays.initial, delays.max)
        .curve(Curve::Exponential {
            multiplier: delays.multiplier,
        })
        .jitter(match delays.jitter {
            Jitter::None => JitterLaw::None,
            Jitter::Full => JitterLaw::Full,
            Jitter::Equal => JitterLaw::Equal,
            Jitter::Relative(part) => JitterLaw::Relative(part),
            Jitter::Decorrelated => JitterLaw::Decorrelated,
        });
    if profile.strategy.is_seedable() {
        params = params.seedable();
    }
    params.build()
}
