//! What a profile allows a case: whether and how freely the subject restarts, and how long runs and
//! delays are.

use std::time::Duration;

use crate::rules::{Profile, Setting};
use crate::script::Script;
use crate::supervisor::RestartPolicy;

/// Whether the subject restarts anything.
pub(super) fn restarts(profile: &Profile) -> bool {
    profile.restarts.policy.is_supported()
        && profile.restarts.policy != Setting::Fixed(RestartPolicy::Never)
}

/// Whether the subject can be asked for any number of restarts, in as little time as the case
/// likes: no limit and no delay is fixed.
pub(super) fn restarts_freely(profile: &Profile) -> bool {
    let limits = [profile.limit.consecutive, profile.limit.window];
    let is_limited = limits
        .iter()
        .any(|limit| matches!(limit, Setting::Fixed(_)));
    restarts(profile) && !is_limited && !matches!(profile.delay.curve, Setting::Fixed(_))
}

/// Returns the script of a run that fails after a fifth of a unit.
pub(super) fn crash(profile: &Profile) -> Script {
    Script::new().run_for(profile.unit() / 5).exit(1)
}

/// Returns the longest first delay if the delays cannot be chosen, else zero.
pub(super) fn fixed_delay(profile: &Profile) -> Duration {
    match profile.delay.curve {
        Setting::Fixed(delays) => delays.bounds(0).1,
        _ => Duration::ZERO,
    }
}
